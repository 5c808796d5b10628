"""A process whose health is looked after, by a fake that says what it is told to say."""

import signal

import pytest
import trio

from ocelot.config.structs import RestartPolicy, RestartType
from ocelot.errors import OcelotError
from ocelot.states import Cause, ExitStatus, State
from supervisor.lifecycle import Event
from supervisor.process.surroundings import Verdict
from tests.supervisor.fakes import living, run
from tests.supervisor.test_process import ALWAYS, Bench


class FakeHealth:
    """``first``: what until_ready says (after ``delay``); ``verdicts``: what watch says when ``condemn`` is set."""

    def __init__(self, first=None, delay=1.0):
        self.first, self.delay = first, delay
        self.ready = False
        self.extended_to = 0.0
        self.condemned = trio.Event()
        self.verdict = None
        self.environment = {"NOTIFY_SOCKET": "/n"}
        self.descriptors = {}
        self.closed = self.cancelled = 0
        self.watching = 0

    def waits_for(self):
        return "waits for a sign"

    def handles(self):
        return self

    def close(self):
        self.closed += 1

    def status(self):
        return None

    async def until_ready(self, child):
        try:
            await trio.sleep(self.delay)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        self.ready = self.first is None
        return self.first

    async def watch(self, child):
        self.watching += 1
        try:
            await self.condemned.wait()
            self.condemned = trio.Event()
            return self.verdict
        finally:
            self.watching -= 1

    def condemn(self, cause):
        self.verdict = Verdict(cause, "its liveness probe failed 3 times")
        self.condemned.set()


def bench_with(health, **config):
    bench = Bench(**config)
    bench.process.health = health
    return bench


def test_it_is_starting_until_it_is_ready():
    async def test():
        bench = bench_with(FakeHealth(delay=5))
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(4)
            assert (bench.process.state, bench.process.pid, bench.process.ready) == (State.STARTING, 100, False)
            await trio.sleep(2)
            assert (bench.process.state, bench.process.ready) == (State.RUNNING, True)
            assert bench.spawner.last.spec.environment["NOTIFY_SOCKET"] == "/n"
            assert bench.process.health.closed == 1
            assert bench.process.health.watching == 1

    run(test)


def test_a_start_that_never_gets_ready_is_stopped_gracefully_and_tried_again():
    async def test():
        bench = bench_with(FakeHealth(first=Verdict(Cause.STARTUP, "not ready within 30s")), restart_policy=ALWAYS)
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(2)
            assert bench.path == [State.STARTING, State.STARTING, State.STOPPING, State.BACKOFF]
            assert bench.spawner.last.signals == [signal.SIGTERM]
            assert (bench.changes[-1].event, bench.changes[-1].cause) == (Event.RETRY, Cause.STARTUP)
            assert bench.process.reason.startswith("not ready within 30s, and it was killed by SIGTERM")
            await trio.sleep(2)
            assert len(bench.spawner.children) == 2
            assert bench.process.history.restarts == {"startup": 1}

    run(test)


def test_a_verdict_while_it_runs_goes_through_the_restart_policy():
    async def test():
        policy = RestartPolicy(type=RestartType.ON_FAILURE, max_retries=1)
        bench = bench_with(FakeHealth(delay=0), restart_policy=policy)
        async with living(bench.process):
            for _ in range(2):
                await bench.start()
                await trio.sleep(1)
                bench.process.health.condemn(Cause.LIVENESS)
                await trio.sleep(0.1)
            assert bench.process.state is State.FATAL
            assert bench.process.history.last_end.cause is Cause.LIVENESS
            assert not bench.process.succeeded
            assert bench.process.health.watching == 0

    run(test)


def test_the_operator_wins_over_a_verdict():
    async def test():
        bench = bench_with(FakeHealth(delay=0), restart_policy=ALWAYS)
        bench.spawner.fatal = set()
        async with living(bench.process):
            await bench.start()
            bench.process.health.condemn(Cause.LIVENESS)
            await trio.sleep(1)
            assert bench.process.state is State.STOPPING
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            await trio.sleep(100)
            assert bench.process.state is State.STOPPED
            assert len(bench.spawner.children) == 1

    run(test)


def test_a_death_before_it_is_ready_is_an_ordinary_death():
    async def test():
        bench = bench_with(FakeHealth(delay=50), restart_policy=ALWAYS)
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(1)
            bench.spawner.last.die(ExitStatus(code=2))
            await trio.sleep(1)
            assert bench.process.state is State.BACKOFF
            assert bench.changes[-1].cause is Cause.EXIT
            assert bench.process.health.cancelled == 1

    run(test)


def test_a_stop_does_not_wait_for_readiness():
    async def test():
        bench = bench_with(FakeHealth(delay=50))
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(1)
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert trio.current_time() < 2
            assert bench.process.state is State.STOPPED

    run(test)


def test_readiness_that_goes_and_comes_is_told_without_leaving_the_state():
    async def test():
        health = FakeHealth(delay=0)
        bench = bench_with(health)
        async with living(bench.process):
            await bench.start()
            for ready, event in ((False, Event.UNREADY), (True, Event.READY)):
                health.ready = ready
                bench.process.readiness_changed()
                assert (bench.process.ready, bench.process.state) == (ready, State.RUNNING)
                assert bench.changes[-1].event is event
            await trio.sleep(1)
            assert health.watching == 1

    run(test)


def test_a_bug_in_looking_leaves_the_process_alone():
    async def test():
        health = FakeHealth(delay=0)
        bench = bench_with(health)

        async def broken(child):
            raise KeyError("a bug")

        health.watch = broken
        async with living(bench.process):
            await bench.start()
            await trio.sleep(10)
            assert bench.process.state is State.RUNNING
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert bench.process.state is State.STOPPED

    run(test)


def test_what_cannot_be_opened_for_its_health_is_a_failed_start():
    async def test():
        health = FakeHealth()
        bench = bench_with(health)

        def broken():
            raise OcelotError("no room in /run")

        health.handles = broken
        async with living(bench.process):
            await bench.start()
            assert bench.process.state is State.FATAL
            assert "cannot open its health: no room in /run" in bench.process.reason
            assert not bench.spawner.children

    run(test)


@pytest.mark.parametrize(
    ("asked", "limit", "took"), [(0.0, None, 60), (90.0, None, 90), (90.0, 70.0, 70), (10.0, None, 60)]
)
def test_a_process_that_is_stopped_may_ask_for_more_time(asked, limit, took):
    async def test():
        bench = bench_with(FakeHealth(delay=0))
        bench.spawner.fatal = set()
        async with living(bench.process):
            await bench.start()
            began = trio.current_time()
            bench.process.stop(Cause.SHUTDOWN, **({} if limit is None else {"limit": limit}))
            bench.process.health.extended_to = began + asked if asked else 0.0
            await bench.process.down()
            assert trio.current_time() - began == took

    run(test)


def test_while_it_starts_its_status_says_what_it_waits_for():
    async def test():
        bench = bench_with(FakeHealth(delay=5))
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(1)
            assert bench.process.status().reason == "started with pid 100; waits for a sign"
            await trio.sleep(5)
            assert bench.process.status().reason == "ready with pid 100"

    run(test)
