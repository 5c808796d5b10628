"""What is wanted of a process, and those who wait until it shows.

The goal and the pending requests are looked at by the activities of the process whenever they are woken: nothing is queued, so
nothing can be stale.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from ocelot.states import Cause, Goal, State
from supervisor.lifecycle import ENDED

_UNSETTLED = frozenset({State.WAITING, State.STARTING, State.STOPPING})
_DOWN = ENDED | {State.STOPPED}


class Wishes:
    """The side of a process that takes requests; ``process.Process`` is the other, which assigns ``state``."""

    __slots__ = (
        "_dismissed",
        "_grace_limit",
        "_kill_wanted",
        "_start_wanted",
        "_stop_wanted",
        "_wakeups",
        "_watchers",
        "_why",
        "goal",
        "state",
    )

    def __init__(self) -> None:
        self.state = State.STOPPED
        self.goal = Goal.DOWN
        self._why = Cause.OPERATOR
        self._start_wanted = False
        self._stop_wanted = False
        self._grace_limit = math.inf  # seconds; a shutdown may have less time than the grace period
        self._kill_wanted = False
        self._dismissed = False
        self._wakeups = trio.lowlevel.ParkingLot()
        self._watchers: trio.lowlevel.ParkingLot | None = None  # made when somebody first waits for it

    def start(self) -> None:
        """Wanted up. Ends a backoff at once; nothing changes if it runs; after a stop in progress it starts again."""
        self.goal = Goal.UP
        if self.state not in (State.STARTING, State.RUNNING) or self._stop_wanted:
            self._start_wanted = True
        self._wake()

    def stop(self, cause: Cause, *, limit: float = math.inf) -> None:
        """Wanted down. ``limit``: seconds that may pass before SIGKILL, if the grace period is longer."""
        self.goal = Goal.DOWN
        self._why = cause
        self._start_wanted = False
        self._grace_limit = limit
        if self.state not in ENDED and self.state is not State.STOPPED:
            self._stop_wanted = True
        self._wake()

    def restart(self, cause: Cause = Cause.OPERATOR) -> None:
        """Stopped gracefully if it runs, then started; started if it does not run."""
        self.goal = Goal.UP
        self._why = cause
        self._start_wanted = True
        self._grace_limit = math.inf
        if self.state in (State.STARTING, State.RUNNING):
            self._stop_wanted = True
        self._wake()

    def kill(self) -> None:
        """The grace period is over now, if it is being stopped."""
        self._kill_wanted = True
        self._wake()

    def look_again(self) -> None:
        """What it waits for may have changed."""
        if self.state is State.WAITING:
            self._wake()

    def retire(self) -> None:
        """Wanted down, but not yet: it runs on until :meth:`stop`, and is not started again whatever happens."""
        self.goal = Goal.DOWN
        self._start_wanted = False
        if self.state is State.WAITING or self.state is State.BACKOFF:
            self._stop_wanted = True
        self._wake()

    def dismiss(self) -> None:
        """End its task as soon as it is down, where it is to stay."""
        self._dismissed = True
        self._wake()

    @property
    def about_to_start(self) -> bool:
        """Whether a start was asked for that the state does not show yet."""
        return self._start_wanted

    def wanted(self) -> bool:
        """Whether it is wanted up."""
        return self.goal is Goal.UP

    async def accepted(self) -> None:
        """Wait until the state shows what was asked for last: stopping for a stop, starting or later for a start."""
        while self._stop_wanted or (self._start_wanted and self.state is not State.STOPPING):
            await self._shown()

    async def settled(self) -> None:
        """Wait until it neither starts nor stops nor is about to."""
        while self._stop_wanted or self._start_wanted or self.state in _UNSETTLED:
            await self._shown()

    async def down(self, unless: Callable[[], bool] = lambda: False) -> None:
        """Wait until no process exists and none is about to; ``unless``: or this is found true at a change of the state."""
        while (self._stop_wanted or self._start_wanted or self.state not in _DOWN) and not unless():
            await self._shown()

    async def _told_to_stop(self) -> None:
        while not self._stop_wanted:
            await self._woken()

    async def _told_to_hurry(self) -> None:
        while not self._kill_wanted:
            await self._woken()

    async def _shown(self) -> None:
        """Sleep until the state has been assigned again, or a request was looked at."""
        if self._watchers is None:
            self._watchers = trio.lowlevel.ParkingLot()
        await self._watchers.park()

    def _show(self) -> None:
        if self._watchers is not None:
            self._watchers.unpark_all()

    def _wake(self) -> None:
        self._wakeups.unpark_all()

    async def _woken(self, until: float = math.inf) -> None:
        """Sleep until something may have changed, or the clock shows ``until``."""
        if until == math.inf:
            await self._wakeups.park()
        else:
            with trio.move_on_at(until):
                await self._wakeups.park()
