"""The end of a process group: the signal to all of it, one grace period for all of it, SIGKILL for what is left.

Where the process has a cgroup of its own, all of that is meant, whatever sessions and groups there are in it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.states import signal_name
from supervisor.children.child import Child
from supervisor.process.surroundings import Spawner

if TYPE_CHECKING:
    from supervisor.children.cgroups import Leaf

KILL_TIMEOUT = 5.0
"""Seconds for the members of a cgroup to be gone after SIGKILL."""

Patience = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Waits until something has happened, or there is no more time for it; whether it has."""


def tell_to_stop(child: Child, number: int, cgroup: Leaf | None = None) -> None:
    """Send the shutdown signal to the group of ``child``, or to all of its ``cgroup``."""
    child.kill_group = False  # the leader may go first: the others keep their grace
    for each in (number, signal.SIGCONT):  # a stopped process would not see the other one
        if cgroup is None or not cgroup.signal(each):
            _signal_group(child, each)


async def await_end(
    child: Child,
    spawner: Spawner,
    within: Patience,
    *,
    name: str,
    wake: Callable[[], None],
    late: Callable[[], str],
    cgroup: Leaf | None = None,
) -> None:
    """Return when nothing is left of the group of ``child``, or of its ``cgroup``, which was told to stop.

    ``wake`` makes ``within`` look again. ``late`` says in words how long was waited for what, after that was in vain.
    """
    emptied = trio.Event()

    def gone() -> None:
        emptied.set()
        wake()

    if not await within(lambda: child.status is not None):
        log.warn(f"{name}: killed: still running {late()}")
        child.kill_group = True
        _signal_group(child, signal.SIGKILL)
        if cgroup is not None:
            cgroup.kill()
        await child.wait()
        if cgroup is not None:
            await kill_cgroup(cgroup)
    elif cgroup is not None:
        await _await_cgroup(cgroup, within, gone, emptied, f"{name}: killed {{}} of its cgroup: left over", late)
    elif spawner.watch_group(child.group, gone):
        if not await within(emptied.is_set):
            killed = spawner.kill_leftovers(child.group)
            log.warn(f"{name}: killed {killed} of its group: left over {late()}")
        spawner.unwatch_group(child.group)


async def _await_cgroup(
    cgroup: Leaf, within: Patience, gone: Callable[[], None], emptied: trio.Event, words: str, late: Callable[[], str]
) -> None:
    async def watch() -> None:
        await cgroup.emptied()
        gone()

    if not cgroup.populated():
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        if not await within(emptied.is_set):
            log.warn(f"{words.format(len(cgroup.processes()))} {late()}")
            cgroup.kill()
        with trio.move_on_after(KILL_TIMEOUT):
            await emptied.wait()
        nursery.cancel_scope.cancel()


async def kill_cgroup(cgroup: Leaf) -> None:
    """SIGKILL to what is left in it, and wait until that is gone; not for long, for a device may hold it."""
    if cgroup.populated():
        cgroup.kill()
        with trio.move_on_after(KILL_TIMEOUT):
            await cgroup.emptied()


def _signal_group(child: Child, number: int) -> None:
    try:
        child.signal_group(number)
    except OSError as error:
        log.error(f"cannot send {signal_name(number)} to process group {child.group}: {os.strerror(error.errno or 0)}")
