"""A process across images: the part of it that only a replacement of ocelot needs, and so is imported only then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ocelot.states import State
from supervisor.children.child import Child
from supervisor.process import launch
from supervisor.process.surroundings import Verdict
from supervisor.snapshots import ChildSnapshot, NotNow, ProcessSnapshot, monotonic, trio_time

if TYPE_CHECKING:
    from supervisor.process.life import Life


def snapshot(process: Life) -> ProcessSnapshot:
    """For an image that replaces this one. Raises NotNow while it is being spawned."""
    if process.state is State.STARTING and process._child is None:
        raise NotNow(f"{process.name} is being started")
    if process.state is State.STOPPING and process._child is None:
        raise NotNow(f"what {process.name} runs after its end is running")
    if process._dismissed:
        raise NotNow(f"{process.name} is being taken away")
    return describe_process(process)


def describe_process(process: Life) -> ProcessSnapshot:
    """As it is, in the middle of whatever."""
    return ProcessSnapshot(
        name=process.name,
        config=process.config,
        state=process.state,
        goal=process.goal,
        reason=process.reason,
        history=process.history.snapshot(),
        child=process._child.snapshot() if process._child is not None else None,
        began=monotonic(process.began),
        began_at=process.began_at,
        next_start=monotonic(process.next_start),
        told=monotonic(process._told) if process._told is not None else None,
        verdict=process._verdict,
        why=process._why,
        again=process._again,
        start_wanted=process._start_wanted,
        stop_wanted=process._stop_wanted,
        grace_limit=process._grace_limit if process._grace_limit != math.inf else None,
        kill_wanted=process._kill_wanted,
        streams=process.output.snapshot(),
        health=process.health.snapshot() if process.health is not None else None,
        sockets=process.listening.snapshot() if process.listening is not None else [],
        schedule=process.schedule.snapshot() if process.schedule is not None else None,
    )


def restore(process: Life, kept: ProcessSnapshot, adopt: Callable[[ChildSnapshot, Callable[[], None]], Child]) -> None:
    """Before ``run``: be what ``kept`` says. ``adopt``: takes over the child of the image before this one."""
    process.state, process.goal, process.reason = kept.state, kept.goal, kept.reason
    process.history.restore(kept.history)
    process._child = adopt(kept.child, process._wake) if kept.child is not None else None
    process.cgroup = launch.leaf(process.name, process.config) if process._child is not None else None
    process.began, process.began_at = trio_time(kept.began), kept.began_at
    process.next_start = trio_time(kept.next_start)
    process._told = trio_time(kept.told) if kept.told is not None else None
    process._verdict = Verdict(*kept.verdict) if kept.verdict is not None else None
    process._why, process._again = kept.why, kept.again
    process._start_wanted, process._stop_wanted = kept.start_wanted, kept.stop_wanted
    process._grace_limit = kept.grace_limit if kept.grace_limit is not None else math.inf
    process._kill_wanted = kept.kill_wanted
    process.output.restore(kept.streams)
    if process.health is not None and kept.health is not None:
        process.health.restore(kept.health)
    if process.listening is not None:
        process.listening.restore(kept.sockets)
    if process.schedule is not None and kept.schedule is not None:
        process.schedule.restore(kept.schedule)
