"""A process that goes on in another image: nothing is sent twice, started twice or counted twice."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
import pytest
import trio

from ocelot.config import structs
from ocelot.states import Cause, ExitStatus, Goal, State
from supervisor.process.supervised import Process
from supervisor.snapshots import ChildSnapshot, NotNow, ProcessSnapshot
from tests.supervisor.fakes import FakeOutput, FakeSpawner, living, run, surroundings

ALWAYS = structs.RestartPolicy(type=structs.RestartType.ALWAYS, backoff=10.0, multiplier=1)
WEB = structs.Process(program="/bin/web", restart_policy=ALWAYS, termination_grace_period=30.0)


class Output(FakeOutput):
    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, kept: Any) -> None:
        assert kept == {}


class Spawner(FakeSpawner):
    """Its children live on in the next image."""

    def adopt(self, kept: ChildSnapshot, on_exit: Any) -> Any:
        child = next(each for each in self.children if each.pid == kept.pid)
        child.on_exit = on_exit
        assert (child.status, child.kill_group) == (kept.status, kept.kill_group)
        return child


def process(spawner: Spawner, config: structs.Process = WEB) -> Process:
    return Process("web", config, surroundings(spawner), Output(), lambda change: None)


def handed_over(before: Process, spawner: Spawner) -> Process:
    """What another image makes of it: all that it knows has gone through bytes."""
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(before.snapshot()), type=ProcessSnapshot)
    after = process(spawner, before.config)
    after.restore(kept, spawner.adopt)
    assert (after.state, after.goal, after.reason, after.pid) == (before.state, before.goal, before.reason, before.pid)
    return after


def both(first: Any, second: Any, config: structs.Process = WEB, *, last: Any = lambda before, spawner: None) -> None:
    """``first`` with a process in one image, ``second`` with what becomes of it in the next one.

    ``last`` is what its task does not come to see any more.
    """

    async def test() -> None:
        spawner = Spawner()
        before = process(spawner, config)
        async with living(before):
            await first(before, spawner)
        last(before, spawner)
        after = handed_over(before, spawner)
        async with living(after):
            await second(after, spawner)

    run(test)


async def started(process: Process, spawner: Spawner) -> None:
    process.start()
    await process.settled()
    assert process.state is State.RUNNING


def test_one_that_runs_is_not_started_again() -> None:
    async def then(after: Process, spawner: Spawner) -> None:
        await trio.sleep(100)
        assert len(spawner.children) == 1
        assert after.status().uptime == pytest.approx(100, abs=1)
        spawner.last.die(ExitStatus(code=3))
        await trio.sleep(5)
        assert after.state is State.BACKOFF
        await trio.sleep(10)
        assert (after.state, after.status().restarts) == (State.RUNNING, 1)

    both(started, then)


def test_a_death_that_nobody_had_noted_is_noted() -> None:
    async def then(after: Process, spawner: Spawner) -> None:
        await trio.sleep(1)
        assert after.state is State.BACKOFF
        assert after.status().last_exit.signal == "SIGKILL"

    both(started, then, last=lambda before, spawner: spawner.last.die(ExitStatus(signal=9)))


def test_one_that_is_being_stopped_is_told_once_and_keeps_its_grace() -> None:
    async def first(before: Process, spawner: Spawner) -> None:
        spawner.fatal = set()
        await started(before, spawner)
        before.stop(Cause.OPERATOR)
        await trio.sleep(20)
        assert before.state is State.STOPPING

    async def then(after: Process, spawner: Spawner) -> None:
        await trio.sleep(9)
        assert spawner.last.signals == [signal.SIGTERM, signal.SIGCONT]
        await trio.sleep(2)
        assert spawner.last.signals[-1] == signal.SIGKILL
        await after.down()
        assert (after.state, after.goal) == (State.STOPPED, Goal.DOWN)
        assert "stopped (operator)" in after.reason

    both(first, then)


def test_a_backoff_ends_when_it_was_to_end() -> None:
    async def first(before: Process, spawner: Spawner) -> None:
        await started(before, spawner)
        spawner.last.die(ExitStatus(code=1))
        await trio.sleep(7)

    async def then(after: Process, spawner: Spawner) -> None:
        assert after.state is State.BACKOFF
        await trio.sleep(2)
        assert len(spawner.children) == 1
        await trio.sleep(2)
        assert len(spawner.children) == 2
        assert after.status().restarts_by_cause == {"exit": 1}

    both(first, then)


def test_a_wish_that_was_not_heeded_yet_is_heeded() -> None:
    async def then(after: Process, spawner: Spawner) -> None:
        await after.accepted()
        await trio.sleep(1)
        assert len(spawner.children) == 2
        assert after.status().restarts_by_cause == {"operator": 1}

    both(started, then, last=lambda before, spawner: before.restart())


@pytest.mark.parametrize(("status", "state"), [(0, State.EXITED), (4, State.EXITED)])
def test_how_it_ended_is_kept(status: int, state: State) -> None:
    async def first(before: Process, spawner: Spawner) -> None:
        await started(before, spawner)
        spawner.last.die(ExitStatus(code=status))
        await trio.sleep(1)

    async def then(after: Process, spawner: Spawner) -> None:
        await trio.sleep(100)
        assert (after.state, len(spawner.children)) == (state, 1)
        assert after.succeeded == (status == 0)
        assert after.status().last_exit.code == status

    both(first, then, structs.Process(program="/bin/once"))


def test_one_that_is_being_spawned_cannot_be_described() -> None:
    slow = structs.Process(program="/bin/slow")

    async def test() -> None:
        spawner = Spawner()
        before = Process("web", slow, surroundings(spawner, slow=lambda spec: True), Output(), lambda change: None)
        async with living(before):
            before.start()
            await trio.sleep(1)
            assert before.state is State.STARTING
            with pytest.raises(NotNow, match="web is being started"):
                before.snapshot()
            await trio.sleep(30)
            before.snapshot()

    run(test)
