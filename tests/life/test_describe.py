"""When a life cannot be handed over: whatever is half done is named, and what is not does not matter."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from ocelot.config import structs
from ocelot.life.reexec import describe_life
from ocelot.linux.descriptors import Writer
from ocelot.linux.inherited import Inherited
from ocelot.wire.protocol import BootTimeline
from supervisor.snapshots import NotNow, ReaperSnapshot, SupervisorSnapshot


class FakeReaper:
    spawning = 0
    pids: frozenset[int] = frozenset()
    passing: tuple[int, ...] = ()

    def snapshot(self) -> ReaperSnapshot:
        return ReaperSnapshot(passing=list(self.passing), children_reaped=7)


class FakeSupervisor:
    def snapshot(self) -> SupervisorSnapshot:
        return SupervisorSnapshot(configs={}, processes=[])


def life(**different: Any) -> Any:
    """A life in which nothing is half done, but for what is ``different``."""
    reaper = FakeReaper()
    for name in ("spawning", "pids", "passing"):
        if name in different:
            setattr(reaper, name, different.pop(name))
    writer = Writer.nowhere()
    facts = {
        "supervisor": FakeSupervisor(),
        "phase": "running",
        "requested": trio.Event(),
        "verb": None,
        "why": "",
        "breaks": [],
        "reloading": False,
        "arrived": set(),
        "reaper": reaper,
        "kind": "supervise",
        "file": "/etc/x.yaml",
        "born": 1.0,
        "inherited": Inherited({7: (1, 2)}, {"A": "b"}, frozenset({1})),
        "machine": SimpleNamespace(environment={"PHASE": "1"}),
        "timeline": lambda: BootTimeline(spans=[]),
        "config": structs.SuperviseFile(),
        "socket": None,
        "doors": {
            "control": SimpleNamespace(descriptor=5, listens=True),
            "metrics": SimpleNamespace(descriptor=-1, listens=False),
        },
        "stdout": writer,
        "stderr": writer,
        "turn": 2,
        "measures": None,
    }
    return SimpleNamespace(**(facts | different))


def describe(**different: Any) -> Any:
    async def run() -> Any:
        return describe_life(life(**different))

    return trio.run(run)


def test_all_is_well() -> None:
    kept = describe(pids=frozenset({40}), passing=(40,))
    assert (kept.turn, kept.sockets, kept.reaper.passing) == (2, {"control": 5}, [40])
    assert kept.supervise == structs.SuperviseFile()
    assert kept.bootstrap is None


@pytest.mark.parametrize(
    ("different", "reason"),
    [
        ({"phase": "shutdown"}, "it is going down"),
        ({"supervisor": None}, "it is going down"),
        ({"reloading": True}, "a reload is under way"),
        ({"arrived": {signal.SIGTERM}}, "SIGTERM has just come"),
        ({"spawning": 1}, "something is being done in a thread"),
        ({"pids": frozenset({2**22 + 1})}, "a program runs that is no supervised process: it has just ended"),
    ],
)
def test_what_holds_it_up(different: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotNow, match=reason):
        describe(**different)


def test_a_shutdown_that_was_asked_for_comes_first() -> None:
    requested = trio.Event()
    requested.set()
    with pytest.raises(NotNow, match="it is going down"):
        describe(requested=requested)


def test_a_thread_holds_it_up_until_it_is_done() -> None:
    async def run() -> None:
        enough = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, enough.wait)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(NotNow, match="in a thread"):
                describe_life(life())
            enough.set()
        describe_life(life())

    trio.run(run)
