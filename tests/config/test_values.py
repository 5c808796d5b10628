"""Durations, sizes, signals and modes: what is read, what is refused, and that what is printed is read back."""

import signal
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot.config.values import (
    format_duration,
    is_numeric_address,
    parse_duration,
    parse_mode,
    parse_pattern,
    parse_signal,
    parse_size,
)


def _explained(parse: Callable[[str], float], text: str) -> float:
    """The value, or 0 after an error in words that can be printed. Any other exception is a bug."""
    try:
        return parse(text)
    except ValueError as error:
        message = str(error)
    assert message
    assert message.isprintable()
    return 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m 30s", 90),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2h", 7200),
        ("1h 1m 1s 1ms 1us 1ns", 3661.001001001),
        ("0s", 0),
        ("2days", 172800),
        ("1 week", 604800),
        ("3 min 2 sec", 182),
        ("5µs", 0.000005),
        ("1M", 2630016),
        ("1month 1year", 2630016 + 31557600),
        (" 1s ", 1),
    ],
)
def test_reads_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", '"0" has no unit: write "0s" for seconds, or "0ms", "0m"'),
        ("", 'a duration is empty: write for example "30s"'),
        ("s", '"s" is not a duration: write for example "1m 30s", "250ms" or "1.5s"'),
        ("1m 30", '"1m 30" is not a duration: write for example "1m 30s", "250ms" or "1.5s"'),
        ("5MS", '"5MS" has the unknown unit "MS": did you mean "ms"?'),
        ("5secnds", '"5secnds" has the unknown unit "secnds": did you mean "seconds"?'),
        ("9999y", '"9999y" is too long: the limit is 1000 years'),
        ("٣s", '"٣s" is not a duration: write for example "1m 30s", "250ms" or "1.5s"'),
    ],
)
def test_refuses_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == message


@given(st.integers(min_value=0, max_value=10**17))
def test_a_printed_duration_is_read_back(nanoseconds: int) -> None:
    seconds = nanoseconds / 10**9
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-14, abs=1e-9)


@given(st.text())
def test_any_text_is_a_duration_or_an_explained_error(text: str) -> None:
    assert _explained(parse_duration, text) >= 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1.5s"), (90, "1m 30s"), (3600, "1h"), (86400.5, "1d 0.5s"), (0.0015, "1.5ms")],
)
def test_prints_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("10MB", 10**7),
        ("10mb", 10**7),
        ("10M", 10**7),
        ("512KiB", 524288),
        ("512kib", 524288),
        ("1Ki", 1024),
        ("1.5GiB", 3 * 2**29),
        ("7b", 7),
        ("1 TB", 10**12),
    ],
)
def test_reads_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.integers(min_value=0, max_value=2**63 - 1), st.sampled_from(["", "B", "b"]))
def test_plain_numbers_are_bytes(size: int, unit: str) -> None:
    assert parse_size(f"{size}{unit}") == size


@given(st.integers(min_value=0, max_value=7000), st.sampled_from("kmgtp"), st.booleans(), st.booleans())
def test_units_in_any_case(count: int, letter: str, binary: bool, upper: bool) -> None:
    unit = letter + ("ib" if binary else "b")
    text = f"{count}{unit.upper() if upper else unit}"
    assert parse_size(text) == count * (1024 if binary else 1000) ** ("kmgtp".index(letter) + 1)


@given(st.text())
def test_any_text_is_a_size_or_an_explained_error(text: str) -> None:
    assert 0 <= _explained(parse_size, text) < 2**63


@pytest.mark.parametrize("each", sorted(signal.Signals))
def test_reads_every_signal_by_name_and_number(each: signal.Signals) -> None:
    for text in (each.name, each.name.lower(), each.name.removeprefix("SIG"), str(int(each)), f" {each.name} "):
        assert parse_signal(text) == each


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("rtmax-1", signal.SIGRTMAX - 1),
        ("SIGRTMAX-30", signal.SIGRTMIN),
    ],
)
def test_reads_realtime_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["", "SIG", "0", "65", "-1", "SIGNALS", "SIG_DFL", "SIGRTMIN-1", "RTMAX+1", "15.0", "9" * 9999]
)
def test_refuses_what_is_no_signal(text: str) -> None:
    with pytest.raises(ValueError, match="there is no signal"):
        parse_signal(text)


@given(st.integers(min_value=0, max_value=0o7777), st.sampled_from(["", "0", "0o", "00"]))
def test_modes_are_octal(mode: int, prefix: str) -> None:
    assert parse_mode(f"{prefix}{mode:o}") == mode


@pytest.mark.parametrize("text", ["", "0o", "8", "10000", "-1", "rwx", "0x1ff", "0b1", "٣"])
def test_refuses_what_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError):
        parse_mode(text)


@pytest.mark.parametrize(
    ("host", "numeric"),
    [
        ("127.0.0.1", True),
        ("[::1]", True),
        ("::1", False),
        ("[127.0.0.1]", False),
        ("localhost", False),
        ("", False),
        ("1", False),
        ("\0", False),
    ],
)
def test_knows_numeric_addresses(host: str, numeric: bool) -> None:
    assert is_numeric_address(host) is numeric


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 5000 + "s", "1." + "9" * 5000 + "s", "9" * 5000 + "MB"])
def test_absurd_numbers_are_explained_too(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with pytest.raises(ValueError, match=r"is not a|has no unit"):
            parse(text)


def test_a_pattern_that_python_warns_about_is_taken_in_silence() -> None:
    assert parse_pattern("[[ready]").search("[ready]")
    with pytest.raises(ValueError, match=r'"\(" is not a regular expression: missing \)'):
        parse_pattern("(")
