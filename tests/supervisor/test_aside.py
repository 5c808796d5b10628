"""A log file whose file system may hang: how much is under way at most, and what becomes of it."""

import errno

import pytest
import trio

from supervisor.output.aside import AsideFile
from supervisor.snapshots import NotNow
from tests.supervisor.fakes import run


class Stream:
    def __init__(self):
        self.dropped = 0

    def rotated(self):
        raise AssertionError

    def lost(self, count):
        self.dropped += count


class FakeFile:
    """``outcomes``: what each write leads to; afterwards all is taken."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.written = []

    def write(self, data, user):
        outcome = self.outcomes.pop(0) if self.outcomes else len(data)
        if isinstance(outcome, Exception):
            raise outcome
        self.written.append(data[:outcome])
        return outcome

    def close(self, user):
        self.written.append("closed")

    def snapshot(self, user):
        return "snapshot"


async def opened(nursery, *outcomes):
    aside = AsideFile("/far/x.log", None, start=nursery.start_soon)
    aside._file = FakeFile(*outcomes)
    return aside, aside._file


def test_one_block_of_each_stream_is_under_way_at_most():
    async def test():
        started = []
        aside = AsideFile("/far/x.log", None, start=started.append)
        one, other = Stream(), Stream()
        assert [aside.write(b"12345", one), aside.write(b"6", one), aside.write(b"78", other)] == [5, 0, 2]
        assert (aside.under_way(one), aside.under_way(other)) == (5, 2)
        for _ in range(1000):
            aside.close(one)
        assert len(started) == len(aside._deeds) == 1

    run(test)


def test_what_is_written_is_not_under_way_any_more_and_the_file_is_closed_after_it():
    async def test():
        async with trio.open_nursery() as nursery:
            aside, file = await opened(nursery)
            stream = Stream()
            aside.write(b"all of it", stream)
            with pytest.raises(NotNow):
                aside.snapshot(stream)
            aside.close(stream)
            assert await aside.ready(stream, None)
            assert file.written == [b"all of it", "closed"]
        assert aside.snapshot(stream) == "snapshot"

    trio.run(test)


def test_a_block_that_cannot_be_written_is_counted_and_the_next_one_told_why():
    async def test():
        async with trio.open_nursery() as nursery:
            aside, file = await opened(nursery, OSError(errno.ESTALE, "stale"))
            stream = Stream()
            aside.write(b"lost", stream)
            assert await aside.ready(stream, 1.0)
            assert stream.dropped == 4
            with pytest.raises(OSError, match="stale"):
                aside.write(b"next", stream)
            assert aside.write(b"good", stream) == 4
            assert await aside.ready(stream, 1.0)
            assert (file.written, stream.dropped) == ([b"good"], 4)

    trio.run(test)


def test_a_block_for_which_there_is_no_thread_is_written_later_and_the_file_closed_after_it():
    async def test():
        async with trio.open_nursery() as nursery:
            aside, file = await opened(nursery, RuntimeError("can't start new thread"))
            stream = Stream()
            aside.write(b"12345", stream)
            aside.close(stream)
            with trio.fail_after(5):
                assert await aside.ready(stream, None)
            assert (file.written, stream.dropped) == ([b"12345", "closed"], 0)

    trio.run(test)


def test_a_block_for_which_there_is_no_memory_is_lost_like_one_that_cannot_be_written():
    async def test():
        async with trio.open_nursery() as nursery:
            aside, file = await opened(nursery, MemoryError())
            stream = Stream()
            aside.write(b"lost", stream)
            with trio.fail_after(5):
                assert await aside.ready(stream, None)
            with pytest.raises(OSError, match="memory"):
                aside.write(b"next", stream)
            assert aside.write(b"good", stream) == 4
            assert await aside.ready(stream, 1.0)
            assert (file.written, stream.dropped) == ([b"good"], 4)

    trio.run(test)


def test_what_a_full_file_has_not_taken_stays_under_way():
    async def test():
        async with trio.open_nursery() as nursery:
            aside, file = await opened(nursery, 2)
            stream = Stream()
            aside.write(b"12345", stream)
            assert await aside.ready(stream, None)
            assert file.written == [b"12", b"345"]

    trio.run(test)
