"""When a scheduled process runs, and what happens when the run before still goes on.

Intervals count on the monotonic clock. Times of a calendar are awaited with a timerfd on the real clock, which also wakes
when that clock is set (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET): then the next time is worked out anew. As in cron(8), a time
that a step of the clock has passed over is made up for if it is less than a minute ago, and a step back of less than three hours
runs nothing a second time.

Imported only for a set in which somebody has a schedule; cronsim and zoneinfo only for calendars.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.config.values import format_duration
from ocelot.errors import OcelotError, describe
from ocelot.linux import syscalls
from ocelot.states import Cause, Goal, State
from ocelot.wire.protocol import ScheduleStatus
from supervisor.lifecycle import ALIVE, ENDED, Change
from supervisor.process.surroundings import Hold

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from supervisor.process.supervised import Process
    from supervisor.snapshots import ScheduleSnapshot

RETRY = 1.0
"""Seconds between looks at the clock where the kernel has no timer to give."""

LATE = 60.0
"""Seconds; a time that the clock has jumped over is still met when it is no longer ago."""

STEP = 1.0
"""Seconds; by less than this the clock is corrected, not set."""

STEP_BACK = 3 * 3600.0
"""Seconds; the clock may be set back so far without anything running twice."""


class Timetable(Protocol):
    """The times of a schedule. ``next_run``: on the real clock, None for never."""

    next_run: float | None

    def plan(self) -> None:
        """Work out the next time."""

    async def wait(self) -> None:
        """Until the next time, and plan the one after it."""


class RealClock:
    """The clock of calendars."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME)

    def offset(self) -> float:
        """What it is ahead of trio's clock; changes only when it is set."""
        return self.now() - trio.current_time()

    async def sleep_until(self, at: float, offset: float) -> bool:
        """Whether ``at`` has come; False: the clock was set, since now or since it had that ``offset``.

        Raises OSError: there is no descriptor or no memory for a timer.
        """
        fd = syscalls.timerfd_create(time.CLOCK_REALTIME)
        try:
            syscalls.timerfd_settime(fd, at)
            if abs(self.offset() - offset) > STEP:
                return False  # between the plan and the timer: nobody was told
            await trio.lowlevel.wait_readable(fd)
            os.read(fd, 8)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            return False
        finally:
            os.close(fd)
        return True


class Interval:
    """Every so often; times that were missed are left out. The first one is an interval after the start."""

    def __init__(self, every: float, clock: RealClock | None = None) -> None:
        self.next_run: float | None = None
        self._every = every
        self._clock = clock or RealClock()
        self._at = -math.inf

    def plan(self) -> None:
        now = trio.current_time()
        if self._at == -math.inf:
            self._at = now + self._every
        elif self._at <= now:
            self._at += self._every * (1 + (now - self._at) // self._every)
        self.next_run = self._clock.now() + self._at - now

    def resume(self, next_run: float) -> None:
        """Go on with a plan that was made before, in another image."""
        self._at = trio.current_time() + next_run - self._clock.now()
        self.next_run = next_run

    async def wait(self) -> None:
        self.plan()
        await trio.sleep_until(self._at)
        self.plan()


class Calendar:
    """The times of a cron expression in a time zone. Raises OcelotError: no cronsim, no such zone, no such expression."""

    def __init__(self, cron: str, timezone: str | None, clock: RealClock | None = None) -> None:
        self.next_run: float | None = None
        self._cron = cron
        self._clock = clock or RealClock()
        self._zone = _zone(timezone)
        self._last = -math.inf
        self._offset = 0.0
        self._times(self._clock.now())

    def plan(self) -> None:
        self._offset = self._clock.offset()
        now = self._clock.now()
        after = max(now, self._last) if now > self._last - STEP_BACK else now
        found = next(self._times(after), None)
        self.next_run = found.timestamp() if found is not None else None

    async def wait(self) -> None:
        while True:
            self.plan()
            if self.next_run is None:
                await trio.sleep_forever()
            at = self.next_run
            if await self._sleep_until(at) or at <= self._clock.now() <= at + LATE:
                self._last = at
                self.plan()
                return
            log.info("the clock was set: the times of schedules are worked out anew")

    async def _sleep_until(self, at: float) -> bool:
        while True:
            try:
                return await self._clock.sleep_until(at, self._offset)
            except OSError as error:
                log.debug(f"no timer for a schedule: {describe(error)}; looking at the clock instead")
            if abs(self._clock.offset() - self._offset) > STEP:
                return False
            left = at - self._clock.now()
            if left <= 0:
                return True
            await trio.sleep(min(left, RETRY))

    def _times(self, after: float) -> Iterator[datetime]:
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            raise OcelotError(
                'cannot schedule by "cron": the package cronsim is not installed',
                hint='install the extra "schedule", or use "every"',
            ) from error
        from datetime import datetime

        try:
            return CronSim(self._cron, datetime.fromtimestamp(after, self._zone))
        except CronSimError as error:
            raise OcelotError(f'cannot schedule by "{self._cron}": {error}') from error


def _zone(name: str | None) -> tzinfo:
    """``name``, or what the machine is set to; UTC when it is set to nothing."""
    from datetime import UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name == "UTC":
        return UTC  # known without tzdata
    if name is None:
        try:
            with open("/etc/localtime", "rb") as file:
                return ZoneInfo.from_file(file)
        except (OSError, ValueError):
            return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = "install tzdata in its root file system, or leave the timezone out"
        raise OcelotError(f'cannot schedule: this machine has no time zone "{name}"', hint=hint) from error


class Scheduled:
    """The schedule of one process. ``due``: it may run, and go on until that run has ended for good."""

    def __init__(self, process: Process, config: structs.Schedule, clock: RealClock | None = None) -> None:
        self.process = process
        self.due = False
        self.skipped = 0
        self._config = config
        self._queued = False
        self._overdue = False  # its time came while one image of ocelot made way for another
        self._clock = clock or RealClock()
        self._scope = trio.CancelScope()
        self._broken = ""
        self._timetable: Timetable | None = None
        try:
            if config.cron is not None:
                self._timetable = Calendar(config.cron, config.timezone, self._clock)
            else:
                self._timetable = Interval(config.every or math.inf, self._clock)
        except OcelotError as error:
            self._broken = str(error)

    @property
    def next_run(self) -> float | None:
        """When it runs next, on the real clock, if nobody stops it."""
        if self._timetable is None or self.process.goal is Goal.DOWN:
            return None
        if self._timetable.next_run is None:
            self._timetable.plan()
        return self._timetable.next_run

    def look(self) -> Hold | None:
        """What holds the process back: that its time has not come."""
        if self._broken:
            return Hold(self._broken, for_good=True, cause=Cause.SCHEDULE)
        if self.due:
            return None
        at = self.next_run
        return Hold(f"next run at {_shown(at)}" if at is not None else "its time never comes")

    def run_now(self) -> None:
        """Somebody asks for a run out of turn; the caller starts the process."""
        self.due = True

    async def run(self) -> None:
        """Tick until closed."""
        if self.process.state in ALIVE or self.process.state is State.BACKOFF:
            self.due = True  # it was begun before there was this schedule
        with self._scope:
            if self._overdue:
                self._tick()
            while self._timetable is not None:
                try:
                    await self._timetable.wait()
                    self._tick()
                except Exception as error:  # noqa: BLE001 (one schedule must not end the whole set)
                    log.error(f"{self.process.name}: its schedule: {describe(error)}; going on in {RETRY:g}s")
                    await trio.sleep(RETRY)

    def close(self) -> None:
        """No more runs."""
        self._scope.cancel()

    def changed(self, change: Change) -> None:
        """The state of the process has changed."""
        process = self.process
        if change.after in ENDED or (change.after is State.STOPPED and process.goal is Goal.DOWN):
            self.due = process.about_to_start  # who asked for a run while the one before was tidied up is to have it
            if self._queued and process.goal is Goal.UP:
                self._begin()
            self._queued = False

    def status(self) -> ScheduleStatus:
        config = self._config
        if config.cron is not None:
            when = f"cron {config.cron}" + (f" ({config.timezone})" if config.timezone else "")
        else:
            when = f"every {format_duration(config.every or 0.0)}"
        return ScheduleStatus(
            when=when, overlap=config.overlap, next_run=self.next_run, skipped=self.skipped, queued=self._queued
        )

    def snapshot(self) -> ScheduleSnapshot:
        from supervisor.snapshots import ScheduleSnapshot

        return ScheduleSnapshot(next_run=self.next_run, due=self.due, queued=self._queued, skipped=self.skipped)

    def restore(self, kept: ScheduleSnapshot) -> None:
        """Go on where an image before this one was: the next run is when it was to be, or now if that was a moment ago."""
        self.due, self._queued, self.skipped = kept.due, kept.queued, kept.skipped
        if kept.next_run is None:
            return
        self._overdue = kept.next_run <= self._clock.now() <= kept.next_run + LATE
        if isinstance(self._timetable, Interval):
            self._timetable.resume(kept.next_run)

    def _tick(self) -> None:
        process = self.process
        if process.goal is Goal.DOWN:
            return
        if not self.due:
            self._begin()
        elif self._config.overlap == "replace":
            log.info(f"{process.name}: it is time again, and the run before is replaced")
            process.restart(Cause.SCHEDULE)
        elif self._config.overlap == "queue":
            self._queued = True
        else:
            self.skipped += 1
            log.info(f"{process.name}: skipped: it is time again, and the run before still goes on")

    def _begin(self) -> None:
        self.due = True
        self.process.start()


def _shown(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
