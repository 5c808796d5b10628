"""One relay moves everybody's output: what goes wrong with one must not end it for the others."""

import errno
import os
from contextlib import asynccontextmanager

import pytest
import trio

from ocelot import log
from supervisor.output.relay import RETRY, Relay
from tests.supervisor.fakes import run


class Pipe:
    """Counts how often it was ready, and reads what there is, unless ``failures`` are left to be raised."""

    def __init__(self, relay, *failures):
        self.failures = list(failures)
        self.seen = b""
        self.calls = 0
        self.reader, self.writer = os.pipe()
        self.relay = relay

    def ready(self):
        self.calls += 1
        if self.failures:
            raise self.failures.pop()
        self.seen += os.read(self.reader, 100)

    def say(self, text):
        os.write(self.writer, text)

    def close(self):
        self.relay.remove(self.reader)
        os.close(self.reader)
        os.close(self.writer)


@asynccontextmanager
async def relaying():
    relay = Relay()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.run)
        yield relay
        nursery.cancel_scope.cancel()
    relay.close()


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "x"), MemoryError(), KeyError("a bug")])
def test_one_that_fails_is_set_aside_and_looked_at_again_later(failure):
    async def test():
        async with relaying() as relay:
            bad, good = Pipe(relay, failure, failure), Pipe(relay)
            for each in (bad, good):
                relay.add(each.reader, each.ready)
                each.say(b"1")
            await trio.sleep(RETRY / 2)
            assert (bad.calls, bad.seen, good.seen) == (1, b"", b"1")  # once: it does not spin
            good.say(b"2")
            await trio.sleep(RETRY)
            assert (bad.calls, good.seen) == (2, b"12")
            await trio.sleep(RETRY)
            assert (bad.calls, bad.seen) == (3, b"1")
            bad.close()
            good.close()

    run(test)


def test_one_that_was_removed_meanwhile_is_not_looked_at_again():
    """Its number may be another's by then."""

    async def test():
        async with relaying() as relay:
            bad = Pipe(relay, OSError(errno.EIO, "x"))
            relay.add(bad.reader, bad.ready)
            bad.say(b"1")
            await trio.sleep(RETRY / 2)
            relay.remove(bad.reader)
            await trio.sleep(3 * RETRY)
            assert bad.calls == 1
            bad.close()

    run(test)


def test_what_cannot_be_watched_now_is_watched_later():
    async def test():
        async with relaying() as relay:
            late = Pipe(relay)
            kept = os.dup(late.reader)
            os.close(late.reader)  # epoll_ctl(2) refuses a closed descriptor, as it does for want of memory
            relay.add_again(late.reader, late.ready)
            os.dup2(kept, late.reader)
            os.close(kept)
            late.say(b"1")
            await trio.sleep(RETRY / 2)
            assert late.seen == b""
            await trio.sleep(RETRY)
            assert late.seen == b"1"
            late.close()

    run(test)


def test_work_beside_it_that_fails_is_told_and_ends_alone():
    async def test():
        log.recent.clear()
        async with relaying() as relay:

            async def no_thread():
                raise RuntimeError("can't start new thread")

            good = Pipe(relay)
            relay.start_soon(no_thread)
            relay.add(good.reader, good.ready)
            good.say(b"1")
            await trio.sleep(1)
            assert good.seen == b"1"
            good.close()
        assert any("can't start new thread" in line for _, line in log.recent)

    run(test)
