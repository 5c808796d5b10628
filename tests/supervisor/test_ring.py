"""The ring: bounded, timed by line, and cheap for large blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.output.ring import Line, Ring


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_line_has_the_time_at_which_it_began() -> None:
    clock = Clock()
    ring = Ring(1000, now=clock)
    ring.append(b"one\ntw")
    clock.now = 1001
    ring.append(b"o\nthree\n")
    clock.now = 1002
    ring.append(b"four")
    assert ring.lines() == [Line(1000, "one"), Line(1000, "two"), Line(1001, "three"), Line(1002, "four")]


def test_the_last_lines_and_those_since_a_time() -> None:
    clock = Clock()
    ring = Ring(1000, now=clock)
    for number in range(10):
        clock.now = 1000 + number
        ring.append(f"{number}\n".encode())
    assert [line.text for line in ring.lines(3)] == ["7", "8", "9"]
    assert [line.text for line in ring.lines(since=1008)] == ["8", "9"]
    assert [line.text for line in ring.lines(1, since=1005)] == ["9"]
    assert ring.lines(0) == []


def test_a_line_whose_beginning_is_lost_is_left_out() -> None:
    ring = Ring(10)
    ring.append(b"abcdefgh\nxyz\n12\n")
    assert [line.text for line in ring.lines()] == ["xyz", "12"]
    exact = Ring(7)
    exact.append(b"abcdefgh\nxyz\n12\n")
    assert [line.text for line in exact.lines()] == ["xyz", "12"]


def test_one_long_line_is_better_than_nothing() -> None:
    ring = Ring(4)
    ring.append(b"abcdefgh")
    assert [line.text for line in ring.lines()] == ["efgh"]


def test_bytes_that_are_not_text_are_shown_nevertheless() -> None:
    ring = Ring(100)
    ring.append(b"caf\xe9\n")
    assert ring.lines()[0].text == "caf\ufffd"


def test_a_ring_of_no_size_keeps_nothing_and_an_unused_one_is_empty() -> None:
    ring = Ring(0)
    ring.append(b"x\n")
    assert ring.lines() == []
    assert len(Ring(100)) == 0


def test_times_stay_bounded_and_ordered_when_every_line_is_short() -> None:
    clock = Clock()
    ring = Ring(1 << 20, now=clock)
    for _ in range(20_000):
        clock.now += 1
        ring.append(b"\n")
    assert len(ring._times) <= 4096
    found = ring.lines()
    assert len(found) == 20_000
    assert [line.at for line in found] == sorted(line.at for line in found)
    assert found[-1].at - found[-3].at <= 8


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\x00", b"\n")), max_size=60), st.integers(1, 64))
def test_what_is_kept_is_the_end_of_what_came(blocks: list[bytes], limit: int) -> None:
    clock = Clock()
    ring = Ring(limit, now=clock)
    for block in blocks:
        clock.now += 1
        ring.append(block)
        assert len(ring) <= limit
    whole = b"".join(blocks)
    kept = whole[-limit:]
    expected = kept.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    cut = len(whole) > limit and whole[-limit - 1 : -limit] != b"\n"
    if cut and len(expected) > 1:
        expected.pop(0)
    assert [line.text for line in ring.lines()] == [line.decode("utf-8", "replace") for line in expected]


@given(st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=8), st.integers(1, 40), st.integers(0, 5))
def test_the_tail_and_what_comes_after_a_place_are_what_was_written(blocks: list[bytes], limit: int, last: int) -> None:
    ring = Ring(limit)
    for block in blocks:
        ring.append(block)
    whole = b"".join(blocks)
    kept = whole[max(0, len(whole) - limit) :]
    assert ring.end == len(whole)
    assert [ring.after(place) for place in range(ring.end + 2)] == [
        whole[max(place, len(whole) - limit, 0) :] for place in range(ring.end + 2)
    ]
    tail = ring.tail(last)
    assert kept.endswith(tail)
    assert [line.text for line in ring.lines(last)] == tail.decode().split("\n")[: len(ring.lines(last))]
    assert tail.count(b"\n") + (bool(tail) and not tail.endswith(b"\n")) == len(ring.lines(last))
