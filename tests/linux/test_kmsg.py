"""The records we write into the kernel log, and those of the kernel that we read."""

import os

import pytest

from ocelot.linux.kmsg import LINE_LIMIT, WARNING, Kmsg, Tail, parse_record, records
from ocelot.states import LogLevel


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (LogLevel.ERROR, b"<27>"),
        (LogLevel.WARN, b"<28>"),
        (LogLevel.INFO, b"<30>"),
        (LogLevel.DEBUG, b"<31>"),
        (LogLevel.TRACE, b"<31>"),
    ],
)
def test_a_line_is_one_record_of_its_priority(level: LogLevel, prefix: bytes) -> None:
    assert list(records(level, "hello")) == [prefix + b"ocelot: hello"]


def test_a_line_break_cannot_forge_a_record() -> None:
    assert list(records(LogLevel.INFO, "a\n<0>b")) == [b"<30>ocelot: a <0>b"]


def test_a_long_line_is_cut_between_characters_and_nothing_is_lost() -> None:
    text = "é" * LINE_LIMIT
    pieces = [record.removeprefix(b"<30>ocelot: ") for record in records(LogLevel.INFO, text)]
    assert all(len(piece) <= LINE_LIMIT for piece in pieces)
    assert "".join(piece.decode() for piece in pieces) == text


def test_an_empty_line_is_a_record_too() -> None:
    assert list(records(LogLevel.INFO, "")) == [b"<30>ocelot: "]


def test_what_cannot_be_written_is_counted_and_never_raised() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = Kmsg(writer)
    sink(LogLevel.INFO, "nobody listens")
    sink(LogLevel.INFO, "still nobody")
    assert sink.dropped == 2
    sink.close()


def test_a_machine_without_a_kernel_log_has_no_sink() -> None:
    assert Kmsg.open("/nowhere/kmsg") is None


def test_without_a_kernel_log_the_tail_is_empty() -> None:
    with Tail("/nowhere/kmsg") as tail:
        assert tail.lines() == ()


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b"6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n", "NET: Registered"),
        (b"4,1,2,-,caller=T1;a;b\n", "a;b"),
        (b"3,1,2,-;caf\\xc3\\xa9\n", "café"),
        (b"30,1,2,-;ocelot: ours\n", None),
        (b"12,1,2,-;somebody else's\n", None),
        (b"garbage", None),
    ],
)
def test_only_what_the_kernel_itself_says_is_kept(record: bytes, text: str | None) -> None:
    assert parse_record(record) == text


def test_what_is_less_urgent_can_be_left_out() -> None:
    assert parse_record(b"5,1,2,-;Key type dns_resolver registered\n", WARNING) is None
    assert parse_record(b"4,1,2,-;a warning\n", WARNING) == "a warning"
    assert parse_record(b"11,1,2,-;an error of user space\n", WARNING) is None
