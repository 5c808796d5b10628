"""What lines look like on their way out: JSON records, and names on a terminal."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ocelot.linux.descriptors import Writer
from supervisor.output.formats import LONGEST, JsonLines, Labelled, Labels, has_long_line
from supervisor.output.relay import Relay
from supervisor.output.ring import Ring
from supervisor.output.sinks import Counters
from supervisor.output.stream import Stream

AT = 1_795_427_100.25


class Slow:
    """A sink with so much space."""

    whole_lines = False
    framed = False
    backlog = 0
    portion = 65536

    def __init__(self, space: int = 10**9) -> None:
        self.space = space
        self.got = b""

    @property
    def inner(self) -> Slow:
        return self

    def offer(self, data: bytes) -> int:
        taken = min(self.space, len(data))
        self.space -= taken
        self.got += data[:taken]
        return taken

    def open(self) -> None: ...

    async def ready(self, stall: float | None) -> bool:
        await trio.lowlevel.checkpoint()
        return stall is None

    def close(self) -> None: ...


def records(sink: Slow) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.got.decode("utf-8").splitlines()]


def lines(space: int = 10**9) -> tuple[Slow, JsonLines]:
    slow = Slow(space)
    return slow, JsonLines(slow, "web", "stderr", now=lambda: AT)


def test_a_line_becomes_a_record_with_time_name_and_stream() -> None:
    slow, sink = lines()
    data = 'ready "now"\n\nwörld\n'.encode()
    assert sink.offer(data) == len(data)
    head = {"time": "2026-11-23T09:45:00.250000Z", "name": "web", "stream": "stderr"}
    assert records(slow) == [{**head, "message": text} for text in ('ready "now"', "", "wörld")]


def test_bytes_that_are_not_utf8_and_control_characters_are_still_json() -> None:
    slow, sink = lines()
    sink.offer(b"a\xff\xfe\x00\x1b[0m\xe2\x82\n")
    assert records(slow)[0]["message"] == "a\ufffd\ufffd\x00\x1b[0m\ufffd"


def test_long_lines_come_in_parts_that_say_so_and_cut_no_character() -> None:
    slow, sink = lines()
    text = "x" + "ö" * 20_000
    data = f"{text}\nnext\n".encode()
    assert sink.offer(data) == len(data)
    found = records(slow)
    assert [record.get("partial", False) for record in found] == [True, True, False, False]
    assert "".join(record["message"] for record in found[:-1]) == text
    assert found[-1]["message"] == "next"


def test_a_line_without_its_end_is_partial() -> None:
    slow, sink = lines()
    sink.offer(b"Password: ")
    assert records(slow)[0]["partial"] is True


@given(
    st.lists(st.integers(0, 200), max_size=30), st.lists(st.text(alphabet="ab\u00e4\u20ac", max_size=20), max_size=12)
)
def test_a_record_that_was_taken_in_part_is_finished_first(spaces: list[int], texts: list[str]) -> None:
    slow, sink = lines(0)
    data = "".join(f"{text}\n" for text in texts).encode()
    rest = data
    for space in [*spaces, 10**9]:
        slow.space = space
        rest = rest[sink.offer(rest) :]
    sink.close()
    assert not rest
    assert [record["message"] for record in records(slow)] == texts


def test_a_gap_is_a_record_of_its_own() -> None:
    async def main() -> None:
        slow, sink = lines(0)
        relay = Relay()
        stream = Stream("web", "stderr", sink, ring=Ring(0), counters=Counters(), block=False, relay=relay)
        writer = stream.open()
        os.write(writer, b"one\ntwo\n")
        os.close(writer)
        await stream.finish()
        assert stream.counters.dropped == 8
        slow.space = 10**9
        writer = stream.open()
        os.write(writer, b"three\n")
        os.close(writer)
        await stream.finish()
        relay.close()
        texts = [record["message"] for record in records(slow)]
        assert texts == ["ocelot: 8 bytes of web's stderr were dropped here", "three"]

    trio.run(main)


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 25))
def test_long_lines_are_found_wherever_they_are(lengths: list[int], limit: int) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    assert has_long_line(data, limit) == any(length > limit for length in lengths)


# -- names


class Screen(Writer):
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.got = b""

    def _put(self, data: bytes) -> int:
        self.got += data
        return len(data)


def test_names_are_aligned_and_stand_before_each_line() -> None:
    screen, labels = Screen(), Labels(colour=False)
    web = Labelled(screen, "web", "stdout", labels)
    api = Labelled(screen, "backend", "stdout", labels)
    assert web.offer(b"one\ntwo\n") == 8
    assert api.offer(b"three\n") == 6
    assert screen.got == b"web     | one\nweb     | two\nbackend | three\n"


def test_a_line_that_goes_on_has_its_name_once_and_one_that_is_interrupted_has_it_again() -> None:
    screen, labels = Screen(), Labels(colour=False)
    web = Labelled(screen, "web", "stdout", labels)
    job = Labelled(screen, "job", "stdout", labels)
    web.offer(b"Password: ")
    web.offer(b"ok\n")
    web.offer(b"begun")
    job.offer(b"other\n")
    web.offer(b" ended\n")
    assert screen.got == b"web | Password: ok\nweb | begun\njob | other\nweb |  ended\n"


def test_each_name_has_a_colour_and_standard_error_is_marked() -> None:
    screen, labels = Screen(), Labels(colour=True)
    out = Labelled(screen, "web", "stdout", labels)
    error = Labelled(screen, "web", "stderr", labels)
    other = Labelled(screen, "job", "stdout", labels)
    for sink in (out, error, other):
        sink.offer(b"x\n")
    first, second, third = screen.got.decode().splitlines()
    assert first == "\x1b[36mweb |\x1b[0m x"
    assert second == "\x1b[36mweb \x1b[31m|\x1b[0m x"
    assert third.startswith("\x1b[33mjob")


@pytest.mark.parametrize("name", ["short", "x" * 60])
def test_a_very_long_name_does_not_push_all_others_aside(name: str) -> None:
    labels = Labels(colour=False)
    labels.add(name)
    labels.add("web")
    assert len(labels.label("web", "stdout")) <= 24 + 3


def test_json_of_a_stream_keeps_up_with_lines_of_every_length() -> None:
    slow, sink = lines()
    data = b"".join(b"y" * n + b"\n" for n in (LONGEST // 4, LONGEST - 1, LONGEST, LONGEST + 1))
    assert sink.offer(data) == len(data)
    assert [len(record["message"]) for record in records(slow)] == [LONGEST // 4, LONGEST - 1, LONGEST, LONGEST, 1]
