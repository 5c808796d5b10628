"""Leaving a terminal: the keys that detach, what a program has turned on, and lines without carriage returns."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocelot.errors import UsageError
from ocelot.verbs.detaching import DEFAULT, Detaching, parse
from ocelot.verbs.screen import Screen
from ocelot.wire.newlines import Newlines, for_terminal


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces, which end at ``cuts``."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[low:high] for low, high in pairwise(places)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (DEFAULT, b"\x10\x11"),
        ("ctrl-],q", b"\x1dq"),
        ("CTRL-A,d", b"\x01d"),
        ("ctrl-@,ctrl-^,ctrl-_", b"\0\x1e\x1f"),
        ("~", b"~"),
        ("", b""),
    ],
)
def test_keys_are_written_as_docker_has_them(text: str, keys: bytes) -> None:
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "escape", "a,,b", "é", "ctrl-1", "ctrl-é"])
def test_what_is_no_key_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is no key"):
        parse(text)


@given(
    keys=st.text("ab", min_size=1, max_size=4).map(str.encode),
    typed=st.text("abc", max_size=20).map(str.encode),
    cuts=st.lists(st.integers(0, 20), max_size=4),
)
@example(keys=b"aab", typed=b"aaab", cuts=[1, 2, 3])
def test_the_keys_are_found_wherever_they_come_and_nothing_else_is_lost(
    keys: bytes, typed: bytes, cuts: list[int]
) -> None:
    detaching = Detaching(keys)
    out, detached = b"", False
    for piece in pieces(typed, cuts):
        if not detached:
            more, detached = detaching.feed(piece)
            out += more
    assert detached == (keys in typed)
    before, found, _ = typed.partition(keys)
    if found:
        assert out == before
    else:  # what may still become the keys is kept back
        held = next(n for n in range(min(len(keys), len(typed)), -1, -1) if typed.endswith(keys[:n]))
        assert out == typed[: len(typed) - held]


def test_without_keys_everything_goes_on() -> None:
    assert Detaching(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


@given(
    data=st.text("\r\nab", max_size=30).map(str.encode),
    cuts=st.lists(st.integers(0, 30), max_size=5),
)
def test_lines_end_with_newlines_however_they_come(data: bytes, cuts: list[int]) -> None:
    newlines = Newlines()
    found = b"".join(newlines.clean(piece) for piece in pieces(data, cuts))
    assert found == re.sub(rb"\r+\n", b"\n", data).rstrip(b"\r"), "those at the end may belong to a newline to come"
    assert newlines.clean(b"x") == data[len(data.rstrip(b"\r")) :] + b"x"


def test_carriage_returns_without_end_are_not_kept() -> None:
    newlines = Newlines()
    assert newlines.clean(b"\r" * 5000) == b"\r" * 5000
    assert newlines.clean(b"\n") == b"\n"


def test_a_terminal_gets_both() -> None:
    assert for_terminal(b"a\nb") == b"a\r\nb"


@pytest.mark.parametrize(
    ("written", "undone"),
    [
        (b"plain \x1b[31mred\x1b[0m", b""),
        (b"\x1b[?1049h\x1b[?25l", b"\x1b[?1049l\x1b[?25h\x1b[0m"),
        (b"\x1b[?1049h\x1b[?25l text \x1b[?25h\x1b[?1049l", b""),
        (b"\x1b[?1000;1006h\x1b[?2004h\x1b[?1000l", b"\x1b[?1006l\x1b[?2004l\x1b[0m"),
        (b"\x1b[?1h\x1b=", b"\x1b[?1l\x1b>\x1b[0m"),
        (b"\x1b=\x1b>", b""),
        (b"\x1b[?7l", b"\x1b[?7h\x1b[0m"),
        (b"\x1b[?12h\x1b[?h\x1b[4h", b""),  # a cursor that blinks is a matter of taste
    ],
)
def test_what_was_turned_on_is_turned_off(written: bytes, undone: bytes) -> None:
    whole, byte_by_byte = Screen(), Screen()
    whole.note(written)
    for number in range(len(written)):
        byte_by_byte.note(written[number : number + 1])
    assert whole.undo() == byte_by_byte.undo() == undone
