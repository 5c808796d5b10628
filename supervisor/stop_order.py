"""Stopping many processes in order: dependants before what they depend on, and all of them within a bound.

The bound is the longest chain of grace periods. When there is less time, it is shared out along each chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.config.dependencies import stop_time
from ocelot.states import Cause, State
from supervisor.lifecycle import ALIVE
from supervisor.process.supervised import Process
from supervisor.replicas import base_of

if TYPE_CHECKING:
    from supervisor.dependencies import Dependencies

MARGIN = 10.0
"""Seconds beyond the longest chain of grace periods, when no ``shutdownTimeout`` is given."""

KILL_SHARE = 0.1
"""The share of a ``shutdownTimeout`` that is kept for the SIGKILLs at its end (at most :data:`KILL_MAX` seconds)."""

KILL_MAX = 2.0


async def stop_in_order(
    processes: Sequence[Process],
    cause: Cause,
    *,
    dependencies: Dependencies | None = None,
    timeout: float | None = None,
) -> None:
    """Stop ``processes`` (in the order of their start) in reverse, for good; returns when that is done.

    ``timeout``: seconds for all of it; None: as long as the grace periods take.
    """
    running = [process for process in processes if process.state in ALIVE]
    chains = _chains(running, dependencies)
    longest = max(chains.values(), default=0.0)
    bound = timeout if timeout is not None else longest + MARGIN
    kept = min(KILL_MAX, bound * KILL_SHARE)
    if running:
        many = "1 process" if len(running) == 1 else f"{len(running)} processes"
        log.info(f"stopping {many}, within {bound:.3g}s")
    limits: dict[str, float] = {}
    if timeout is not None:
        for process in running:
            share = min(1.0, (bound - kept) / chains[process.name])
            limits[process.name] = process.config.termination_grace_period * share
    with trio.move_on_after(bound):
        if dependencies is None:
            await _all_at_once(processes, cause, limits)
        else:
            await _one_after_the_other(processes, cause, limits, dependencies)
    left = [process for process in processes if process.state in ALIVE]
    if dependencies is not None and left:
        await _what_is_left(left, cause)
        left = [process for process in left if process.state in ALIVE]
    if left:
        names = ", ".join(process.name for process in left)
        log.error(f"cannot stop {names}: not even SIGKILL ends it; the kernel may be waiting for a device")


def _chains(running: Sequence[Process], dependencies: Dependencies | None) -> dict[str, float]:
    """By name, what the heaviest chain through it takes: seconds."""
    times = {process.name: stop_time(process.config) for process in running}
    return times if dependencies is None else dependencies.chains(times)


async def _all_at_once(processes: Sequence[Process], cause: Cause, limits: dict[str, float]) -> None:
    for process in reversed(processes):
        process.stop(cause, limit=limits.get(process.name, math.inf))
        if process.state in (State.STARTING, State.RUNNING):
            await process.accepted()  # its signal is sent before the next one's
    for process in reversed(processes):
        await process.down()


async def _one_after_the_other(
    processes: Sequence[Process], cause: Cause, limits: dict[str, float], dependencies: Dependencies
) -> None:
    """Each as soon as those that depend on it are down, and those of the same rank in reverse order."""
    chosen = {process.name for process in processes}
    for process in processes:
        process.retire()

    async def stop(process: Process) -> None:
        for other in dependencies.dependants(base_of(process.name)):
            if other.name in chosen:
                await other.down()
        process.stop(cause, limit=limits.get(process.name, math.inf))
        await process.down()

    async with trio.open_nursery() as nursery:
        for process in reversed(processes):
            nursery.start_soon(stop, process)


async def _what_is_left(processes: Sequence[Process], cause: Cause) -> None:
    """One that does not end must not leave those untold that were to follow it."""
    for process in processes:
        process.stop(cause, limit=0.0)
    with trio.move_on_after(KILL_MAX):
        for process in processes:
            await process.down()
