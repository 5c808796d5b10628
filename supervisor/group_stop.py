"""The end of a process group: the signal to all of it, one grace period for all of it, SIGKILL for what is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import trio

from ocelot import log
from ocelot.states import signal_name
from supervisor.reaper import Child
from supervisor.surroundings import Spawner

Patience = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Waits until something has happened, or there is no more time for it; whether it has."""


def tell_to_stop(child: Child, number: int) -> None:
    """Send the shutdown signal to the group of ``child``."""
    child.kill_group = False  # the leader may go first: the others keep their grace
    _signal_group(child, number)
    _signal_group(child, signal.SIGCONT)  # a stopped process would not see the other one


async def await_end(
    child: Child, spawner: Spawner, within: Patience, *, name: str, wake: Callable[[], None], late: Callable[[], str]
) -> None:
    """Return when nothing is left of the group of ``child``, which was told to stop.

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
        await child.wait()
    elif spawner.watch_group(child.pid, gone):
        if not await within(emptied.is_set):
            killed = spawner.kill_leftovers(child.pid)
            log.warn(f"{name}: killed {killed} of its group: left over {late()}")
        spawner.unwatch_group(child.pid)


def _signal_group(child: Child, number: int) -> None:
    try:
        child.signal_group(number)
    except OSError as error:
        log.error(f"cannot send {signal_name(number)} to process group {child.pid}: {os.strerror(error.errno or 0)}")
