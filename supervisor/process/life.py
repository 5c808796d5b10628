"""The life of one supervised process: a task of its own that owns its state and assigns it in one place.

Each state has one activity, an async function that runs while the state lasts and returns the event that ends it; timers are its
local deadlines and die with it. What the operator wants is kept apart, as a goal and two pending requests that the activities look at
whenever they are woken: nothing is queued, so nothing can be stale. A death wakes the task through the reaper.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import SpawnError, describe, refused
from ocelot.states import Cause, Goal, State, signal_name
from supervisor import restart
from supervisor.children.child import Child
from supervisor.lifecycle import ENDED, Change, Event, advance
from supervisor.process import launch
from supervisor.process.group_stop import await_end, kill_cgroup, tell_to_stop
from supervisor.process.history import History
from supervisor.process.starting import start_child
from supervisor.process.surroundings import Gate, Health, Hold, ProcessOutput, Schedule, Sockets, Surroundings, Verdict
from supervisor.process.wishes import Wishes

if TYPE_CHECKING:
    from supervisor.children.cgroups import Leaf
    from supervisor.process.commands import Commands

T = TypeVar("T")

RETRY = 1.0
"""Seconds until something is tried again for which the kernel had no memory or no descriptors."""

FINISH_TIMEOUT = 5.0
"""Seconds for the last output of a dead process to be moved."""


class _Dismissed(Exception):
    """The task of a process has nothing more to do."""


class Life(Wishes):
    """What a process does by itself, in its task :meth:`run`; ``process.Process`` is what others see of it."""

    __slots__ = (
        "_again",
        "_around",
        "_child",
        "_publish",
        "_renew",
        "_told",
        "_verdict",
        "began",
        "began_at",
        "cgroup",
        "config",
        "gate",
        "health",
        "history",
        "listening",
        "name",
        "next_start",
        "output",
        "reason",
        "schedule",
    )

    def __init__(
        self,
        name: str,
        config: structs.Process,
        surroundings: Surroundings,
        output: ProcessOutput,
        publish: Callable[[Change], None],
    ) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.output = output
        self.reason = "not started yet"
        self.history = History()
        self.health: Health | None = None  # set before it runs, if anything is known of its health
        self.listening: Sockets | None = None  # likewise, if it has sockets
        self.schedule: Schedule | None = None  # likewise, if it has one
        self.gate: Gate | None = None  # likewise, if it has to wait for others
        self.cgroup: Leaf | None = None  # of the life under way, if it has resources
        self._around = surroundings
        self._publish = publish
        self._child: Child | None = None
        self.began = 0.0  # trio's clock
        self._told: float | None = None  # trio's clock; when the signal of the stop under way was sent
        self.began_at: float | None = None  # the real clock
        self.next_start = 0.0  # trio's clock; set when BACKOFF is entered
        self._verdict: Verdict | None = None  # of its health, while it is being stopped for that
        self._again: Cause | None = None  # why the start to come is one more
        self._renew: Callable[[], None] | None = None  # what is to be done before the next start

    @property
    def succeeded(self) -> bool:
        """Whether its last end was a success by its own ``successExitCodes``."""
        end = self.history.last_end
        return end is not None and restart.succeeded(self.config.restart_policy, end)

    async def run(self) -> None:
        """Live until cancelled. Leaves no timers behind; the child itself is stopped by asking, not by cancelling."""
        try:
            while True:
                self._enter(await self._act())
        except _Dismissed:
            return

    async def _act(self) -> Event:
        """The activity of its state, begun anew when the kernel refused what it needed and nobody else knew what to do about that."""
        while True:
            try:
                return await _ACTIVITIES[self.state](self)
            except Exception as error:
                if not refused(error):
                    raise
                log.error(f"{self.name}: {self.state.value}: {describe(error)}; tried again in {RETRY:g}s")
            await self._woken(trio.current_time() + RETRY)

    def _enter(self, event: Event) -> None:
        """The one place where the state changes, and where everybody hears of it."""
        before = self.state
        self.state = advance(before, event)
        if self.state in (State.STOPPING, State.STOPPED) or self.state in ENDED:
            self._stop_wanted = False  # a stop that came with a death is still to be seen by the backoff
        if self.state is not State.STOPPING:
            self._kill_wanted = False
        ended = event in (Event.RETRY, Event.DONE, Event.GIVE_UP)
        cause = self.history.last_end.cause if ended and self.history.last_end is not None else None
        self._log(event)
        self._publish(Change(self.name, before, self.state, event, self.reason, cause))
        self._show()

    async def _rest(self) -> Event:
        """STOPPED, EXITED, FATAL: until it is to start."""
        while not self._start_wanted:
            if self._dismissed:
                raise _Dismissed
            await self._woken()
        self.history.in_a_row = 0  # whoever starts it, or its schedule, gives it all of its tries again
        self.reason = "to be started"
        return self._go()

    def _go(self) -> Event:
        """It is to start now: unless something holds it back."""
        self._start_wanted = False
        hold = self._hold()
        if hold is None:
            return Event.START
        self.reason = hold.reason
        return Event.HOLD

    def _hold(self) -> Hold | None:
        """What holds it back: its schedule, or those it depends on."""
        hold = self.schedule.look() if self.schedule is not None else None
        return hold if hold is not None or self.gate is None else self.gate.look()

    async def _wait(self) -> Event:
        """WAITING: until nothing holds it back any more, or never will let it go, or it is not wanted."""
        while not self._stop_wanted:
            hold = self._hold()
            self._start_wanted = False
            self._show()  # a start that was asked for meanwhile has been looked at
            if hold is None:
                self.reason = "to be started"
                return Event.START
            self.reason = hold.reason
            if hold.for_good:
                self.history.never_ran(hold.cause, "never ran", 1)
                return Event.GIVE_UP
            await self._woken()
        self.reason = f"stopped ({self._why.value})"
        return Event.STOP

    async def _start(self) -> Event:
        """STARTING: the spawn, and the wait for readiness where there is a way to tell."""
        self._start_wanted = False
        if self._again is not None:
            self.history.restarted(self._again)
            self._again = None
        if self._child is None and (failed := await self._spawn()) is not None:
            return failed
        child = self._living_child()  # it was there already if the image before this one has spawned it
        if self.health is not None:
            self._enter(Event.SPAWNED)
            verdict = await self._while_up(child, self.health.until_ready)
            if child.status is not None or self._stop_wanted or verdict is not None:
                return await self._leave(child, verdict)
            self.reason = f"ready with pid {child.pid}"
        return Event.READY

    async def _spawn(self) -> Event | None:
        """Run ``preStart`` and the program; what has ended that if there is no child now."""
        try:
            if self._renew is not None:
                renew, self._renew = self._renew, None
                renew()
            if self.config.pre_start and not await self._run_before():
                return self._never_mind()
            self.cgroup = launch.leaf(self.name, self.config)
            child = await start_child(
                self.config,
                self._around,
                self.output,
                self.health,
                listening=self.listening,
                cgroup=self.cgroup,
                on_exit=self._wake,
                stopped=self._told_to_stop,
            )
        except Exception as error:
            if not refused(error):
                raise
            status = error.shell_status if isinstance(error, SpawnError) else 126
            self.history.never_ran(Cause.SPAWN_FAILED, describe(error), status)
            await self._finish_output()
            self._give_back()
            return self._end_of_life()
        if child is None:
            return self._never_mind()
        self._child = child
        self.began = trio.current_time()
        self.began_at = time.clock_gettime(time.CLOCK_REALTIME)
        self.reason = f"started with pid {child.pid}"
        return None

    def _never_mind(self) -> Event:
        self.reason = f"stopped ({self._why.value}) before it had started"
        return Event.GONE

    async def _run(self) -> Event:
        """RUNNING: until it dies, is to stop, or is found to be of no more use."""
        child = self._living_child()
        verdict = None
        if self.health is not None:
            verdict = await self._while_up(child, self.health.watch)
        while child.status is None and not self._stop_wanted and verdict is None:
            await self._woken()
        return await self._leave(child, verdict)

    async def _leave(self, child: Child, verdict: Verdict | None) -> Event:
        """What ends STARTING and RUNNING: a death, a wish, or a verdict, in this order."""
        if child.status is None:
            if not self._stop_wanted and verdict is not None:
                self._verdict, self._why = verdict, verdict.cause
            self.reason = f"to be stopped ({self._why.value})"
            return Event.STOP
        # The reaper has sent SIGKILL to what was left of its group
        if self.cgroup is not None:
            await kill_cgroup(self.cgroup)
        await self._finish_output()
        cause = Cause.EXIT if child.status.code is not None else Cause.SIGNAL
        starved = self.cgroup.starved() if self.cgroup is not None else ""
        if starved and child.status.code not in self.config.restart_policy.success_exit_codes:
            cause = Cause.OOM_KILLED
        self._note_end(child, cause, starved)
        return self._end_of_life()

    def _end_of_life(self) -> Event:
        """It has ended by itself: what is to become of it, unless something is to be run first."""
        if not self.config.post_stop:
            return self._decide()
        assert self.history.last_exit is not None
        self.reason = f"{self.history.last_exit.detail}; postStop runs"
        return Event.STOP

    async def _stop(self) -> Event:
        """STOPPING: the signal to the whole group, its grace period, SIGKILL for what is left, and what comes after."""
        if self._child is None:
            await self._run_after()
            event = self._decide()
            if event is Event.RETRY and (self.goal is Goal.DOWN or self._start_wanted):
                self.reason = f"stopped ({self._why.value})"
                self._again = self.history.last_end.cause if self._start_wanted and self.history.last_end else None
                return Event.GONE
            return event
        child = self._living_child()
        self._start_wanted = self._start_wanted and self.goal is Goal.UP
        began = self._tell_to_stop(child) if self._told is None else self._told  # by the image before this one
        await await_end(
            child,
            self._around.spawner,
            lambda happened: self._until(happened, began),
            name=self.name,
            wake=self._wake,
            late=lambda: f"{self._grace():.3g}s after {signal_name(self.config.shutdown_signal)}",
            cgroup=self.cgroup,
        )
        await self._finish_output()
        self._note_end(child, self._why)
        await self._run_after()
        verdict, self._verdict, self._told = self._verdict, None, None
        if verdict is not None and self.goal is Goal.UP and not self._start_wanted:
            return self._decide(verdict)
        self.reason = f"stopped ({self._why.value}): {child.status}"
        self.history.in_a_row = 0
        if self._start_wanted:
            self._again = self._why
        return Event.GONE

    async def _back_off(self) -> Event:
        if self.history.last_end is None or self.history.last_end.status is None:
            # A spawn that fails, with no delay at all, is a loop without any waiting: let the others run
            await trio.lowlevel.checkpoint()
        while trio.current_time() < self.next_start and not self._start_wanted:
            if self._stop_wanted or self.goal is Goal.DOWN:
                self.reason = f"stopped ({self._why.value})"
                return Event.STOP
            await self._woken(self.next_start)
        if self._stop_wanted or self.goal is Goal.DOWN:
            return Event.STOP
        if self.history.last_end is not None:
            self._again = self.history.last_end.cause
        self.reason = "to be started again"
        return self._go()

    def _tell_to_stop(self, child: Child) -> float:
        self._told = trio.current_time()
        self.reason = f"stopping ({self._why.value})"
        if self._verdict is not None:
            self.reason = f"stopping: {self._verdict.reason}"
            log.warn(f"{self.name}: {self.reason}")
        tell_to_stop(child, self.config.shutdown_signal, self.cgroup)
        return self._told

    def _commands(self, told: Callable[[], Awaitable[None]]) -> Commands:
        from supervisor.process.commands import Commands

        return Commands(self.name, self.config, self._around, self.output, told)

    async def _run_before(self) -> bool:
        self.reason = "preStart runs"
        return await self._commands(self._told_to_stop).before()

    async def _run_after(self) -> None:
        if self.config.post_stop:
            await self._commands(self._told_to_hurry).after(self.history.last_exit)

    # -- what the activities are made of

    async def _while_up(self, child: Child, look: Callable[[Child], Awaitable[T]]) -> T | None:
        """What ``look`` returns; None if the child died or is to stop before that, or if there is a bug in looking."""
        found: T | None = None

        async def run() -> None:
            nonlocal found
            again = True
            while again:
                again = False
                try:
                    found = await look(child)
                except Exception as error:  # noqa: BLE001 (that must not end what it looks at)
                    again = refused(error)
                    then = f"tried again in {RETRY:g}s" if again else "given up"
                    log.error(f"{self.name}: cannot look after its health: {describe(error)}; {then}")
                    if again:
                        await trio.sleep(RETRY)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while child.status is None and not self._stop_wanted:
                await self._woken()
            nursery.cancel_scope.cancel()
        return found

    def _decide(self, verdict: Verdict | None = None) -> Event:
        """What becomes of it after its last end. ``verdict``: on its health, if it was ended for that."""
        assert self.history.last_exit is not None
        decision = self.history.decide(
            self.config.restart_policy, oneshot=self.config.type == "oneshot", jitter=self._around.jitter
        )
        self.next_start = trio.current_time() + decision.delay
        why = f"{verdict.reason}, and it " if verdict is not None else ""
        self.reason = f"{why}{self.history.last_exit.detail}; {decision.reason}"
        return decision.event

    def _note_end(self, child: Child, cause: Cause, detail: str = "") -> None:
        assert child.status is not None
        self.history.ended(child.status, cause, trio.current_time() - self.began, detail)
        self._give_back()
        self._child = None
        self.began_at = None

    def _give_back(self) -> None:
        """What was made or lent for one start."""
        if self.cgroup is not None:
            self.cgroup.remove()  # if that fails, something in it cannot die yet: the next start uses it as it is
        if self.config.stdin != "null":
            launch.give_up_terminal(self.config, self._child)

    async def _finish_output(self) -> None:
        if self.output.finish_at_once():
            return  # as nearly always: the end of the pipes is seen before the death
        await self.output.finish(FINISH_TIMEOUT)

    async def _until(self, happened: Callable[[], bool], began: float) -> bool:
        """Wait for ``happened`` within the grace period that started at ``began``; whether it did."""
        while not happened():
            deadline = began + self._grace()
            if self.health is not None:  # it may ask for more, within what a shutdown has
                deadline = max(deadline, min(self.health.extended_to, began + self._grace_limit))
            if self._kill_wanted or trio.current_time() >= deadline:
                return False
            await self._woken(deadline)
        return True

    def _grace(self) -> float:
        return min(self.config.termination_grace_period, self._grace_limit)

    def _living_child(self) -> Child:
        assert self._child is not None, f"{self.name} is {self.state} without a child"
        return self._child

    def _log(self, event: Event) -> None:
        line = f"{self.name}: {self.reason}"
        if event is Event.GIVE_UP:
            log.error(line)
        elif event is Event.RETRY or (event is Event.DONE and not self.succeeded):
            log.warn(line)
        elif event in (Event.SPAWNED, Event.READY, Event.UNREADY, Event.DONE, Event.GONE):
            log.info(line)
        else:
            log.debug(line)


_ACTIVITIES: Mapping[State, Callable[[Life], Awaitable[Event]]] = {
    State.STOPPED: Life._rest,
    State.WAITING: Life._wait,
    State.STARTING: Life._start,
    State.RUNNING: Life._run,
    State.STOPPING: Life._stop,
    State.BACKOFF: Life._back_off,
    State.EXITED: Life._rest,
    State.FATAL: Life._rest,
}
