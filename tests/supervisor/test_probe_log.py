"""Waiting for a line of the log: looked at only while it is waited for."""

import signal
from contextlib import contextmanager

import trio

from ocelot import log
from supervisor.health.probe_log import LINE_MAX, PATIENCE, LogWatch
from supervisor.output.ring import Line
from tests.supervisor.fakes import run


class FakeOutput:
    def __init__(self):
        self.watchers = []

    @contextmanager
    def watch(self, seen):
        self.watchers.append(seen)
        yield
        self.watchers.remove(seen)

    def say(self, *lines):
        for text in lines:
            for seen in tuple(self.watchers):
                seen("stdout", Line(0.0, text))


def test_the_first_line_that_matches_is_found_and_nothing_is_looked_at_after_it():
    async def test():
        output = FakeOutput()
        watch = LogWatch(output, "^up on (?:80|81)$")
        assert output.watchers == []
        watch.begin()
        output.say("coming up on 80", "up on 80", "up on 81")
        assert output.watchers == []
        assert await watch.check() == "up on 80"
        assert await watch.check() == "up on 80"  # it stays so, in this life

    run(test)


def test_each_life_has_to_say_it_again():
    async def test():
        output = FakeOutput()
        watch = LogWatch(output, "up")
        watch.begin()
        output.say("up")
        watch.begin()
        with trio.move_on_after(5) as waiting:
            await watch.check()
        assert waiting.cancelled_caught
        watch.begin()  # a life that ended before it had said it
        assert len(output.watchers) == 1
        watch.end()
        watch.end()
        assert output.watchers == []

    run(test)


def test_very_long_lines_are_searched_only_at_their_beginning():
    async def test():
        output = FakeOutput()
        watch = LogWatch(output, "up")
        watch.begin()
        output.say("x" * LINE_MAX + "up")
        assert len(output.watchers) == 1
        output.say("x" * (LINE_MAX - 2) + "up" + "x" * 9)
        assert output.watchers == []

    run(test)


def test_a_line_that_takes_the_pattern_too_long_is_passed_over_and_many_end_the_search():
    """It would take PID 1 longer than there are stars, at the word of a service."""

    async def test():
        said = []
        log.configure(sinks=[lambda level, line: said.append(line)])
        output = FakeOutput()
        watch = LogWatch(output, r"^(\w+\s?)*ready$", name="web")
        watch.begin()
        output.say("a" * 100, "is ready")
        assert await watch.check() == "is ready"
        watch.begin()
        output.say(*["a" * 100] * PATIENCE)
        assert output.watchers == []
        assert [line.rpartition(": ")[2] for line in said] == ["that is passed over"] * 2 + ["no more are looked at"]
        assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL
        assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)

    try:
        run(test)
    finally:
        log.configure(sinks=[])
