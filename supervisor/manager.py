"""The set of supervised processes: starts them, says when it is over and with which status, stops them in order.

It is over when every process has ended by itself, or an essential one has; never because an operator stopped the last one. A
set of none holds until it is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import ControlError, describe
from ocelot.linux.descriptors import Writer
from ocelot.linux.inherited import Inherited
from ocelot.states import Cause, State
from ocelot.wire.protocol import ProcessStatus
from supervisor.journal import Journal
from supervisor.lifecycle import ALIVE, ENDED
from supervisor.network_files import NetworkFiles
from supervisor.output import Output
from supervisor.process import Change, Process
from supervisor.relay import Relay

if TYPE_CHECKING:
    from supervisor.snapshots import SupervisorSnapshot
from supervisor.surroundings import Spawner, Surroundings

MARGIN = 10.0
"""Seconds beyond the longest chain of grace periods, when no ``shutdownTimeout`` is given."""

KILL_SHARE = 0.1
"""The share of a ``shutdownTimeout`` that is kept for the SIGKILLs at its end (at most :data:`KILL_MAX` seconds)."""

KILL_MAX = 2.0

OutputFactory = Callable[[str, structs.Log], Output]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a supervised set came to its end. ``status`` is the exit status that ocelot reports; ``process`` decided it."""

    status: int
    process: str | None
    reason: str


class Supervisor:
    """``processes`` by name, in the order of the file. ``environment`` is that of the phases.

    ``stdout`` and ``stderr`` are where inherited output goes.
    ``make_output`` replaces what makes the output of each process.
    """

    def __init__(
        self,
        processes: Mapping[str, structs.Process],
        *,
        reaper: Spawner,
        inherited: Inherited,
        environment: Mapping[str, str],
        stdout: Writer,
        stderr: Writer,
        shutdown_timeout: float | None = None,
        make_output: OutputFactory | None = None,
    ) -> None:
        around = self._around = Surroundings(reaper, inherited, environment, NetworkFiles().may_hang)
        self._relay = Relay()
        if make_output is None:
            make_output = partial(_make_output, stdout=stdout, stderr=stderr, relay=self._relay)
        self.outputs = {name: make_output(name, config.log) for name, config in processes.items()}
        self._processes = {
            name: Process(name, config, around, self.outputs[name], self._changed) for name, config in processes.items()
        }
        for process in self._processes.values():
            self._look_after(process)
        self._shutdown_timeout = shutdown_timeout
        self.journal = Journal()
        self._listeners: list[Callable[[Change], None]] = []
        self._change = trio.Event()
        self._going_on = set(processes)  # those that have not ended by themselves
        self._first_failure: str | None = None
        self._ending: Ending | None = None
        self._over = trio.Event()
        self._stopping = False
        self._kept = False  # it goes on from where another image was
        self._all_down = trio.Event()

    # -- looking

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._processes)

    def status(self, name: str) -> ProcessStatus:
        return self._find(name).status()

    def config(self, name: str) -> structs.Process:
        """What the process ``name`` was configured as."""
        return self._find(name).config

    @property
    def surroundings(self) -> Surroundings:
        """What all processes share."""
        return self._around

    def statuses(self) -> list[ProcessStatus]:
        return [process.status() for process in self._processes.values()]

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``listener`` with every change, at once and in order; it must be quick. Returns how to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def changed(self) -> trio.Event:
        """An event that is set when any process next changes its state."""
        return self._change

    # -- asking

    async def start(self, names: Iterable[str]) -> None:
        """Ask them to run; returns when their states show it. Raises ControlError when everything is being stopped."""
        self._refuse_late_starts()
        await self._ask(names, Process.start)

    async def stop(self, names: Iterable[str]) -> None:
        """Ask them to stop, as the operator's wish: nothing but a start brings them back."""
        await self._ask(names, lambda process: process.stop(Cause.OPERATOR))

    async def restart(self, names: Iterable[str]) -> None:
        """Stop (those that run) and start."""
        self._refuse_late_starts()
        await self._ask(names, Process.restart)

    def signal(self, names: Iterable[str], number: int) -> None:
        """Send a signal to the processes themselves. Those that do not run are passed over."""
        for name in names:
            self._find(name).signal(number)

    def forward(self, number: int) -> str | None:
        """Send a signal to the main process: the essential ones, or the only one. What it went to, in words."""
        main = [p for p in self._processes.values() if p.config.essential] or list(self._processes.values())
        if not main or (len(main) > 1 and not main[0].config.essential):
            return None
        for process in main:
            process.signal(number)
        return ", ".join(process.name for process in main)

    # -- across images

    def snapshot(self) -> SupervisorSnapshot:
        """For an image that replaces this one. Raises NotNow while a process is being spawned or all are being stopped."""
        from supervisor.snapshots import NotNow, SupervisorSnapshot

        if self._stopping or self._over.is_set():
            raise NotNow("everything is being stopped")
        return SupervisorSnapshot(
            processes=[process.snapshot() for process in self._processes.values()],
            shutdown_timeout=self._shutdown_timeout,
            going_on=[name for name in self._processes if name in self._going_on],
            first_failure=self._first_failure,
        )

    def restore(self, kept: SupervisorSnapshot) -> None:
        """Before :meth:`run`, and before the reaper runs: go on from where the image before this one was."""
        self._kept = True
        for each in kept.processes:
            self._processes[each.name].restore(each, self._around.spawner.adopt)
        self._going_on = set(kept.going_on)
        self._first_failure = kept.first_failure

    # -- its life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Ending:
        """Start everything in order, wait for the end, stop what is left, and say how it ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._relay.run)
            for process in self._processes.values():
                nursery.start_soon(process.run, name=process.name)
                if not self._stopping and not self._kept:
                    process.start()
                # One spawn a turn: with a thousand of them, whoever died meanwhile is reaped meanwhile
                await trio.lowlevel.checkpoint()
            task_status.started()
            await self._over.wait()
            await self.stop_all(Cause.SHUTDOWN)
            nursery.cancel_scope.cancel()
        for process in self._processes.values():
            process.let_go()
        assert self._ending is not None
        return self._ending

    async def stop_all(self, cause: Cause = Cause.SHUTDOWN, *, reason: str = "shut down") -> None:
        """Stop everything in the reverse order of starting, within the announced bound; returns when that is done.

        A second call waits for the first. It shortens nothing: :meth:`hurry` does.
        """
        if self._stopping:
            await self._all_down.wait()
            return
        self._stopping = True
        self._end(Ending(0, None, reason))
        running = [process for process in self._processes.values() if process.state in ALIVE]
        chain = max((process.config.termination_grace_period for process in running), default=0.0)
        bound = self._shutdown_timeout if self._shutdown_timeout is not None else chain + MARGIN
        kept = min(KILL_MAX, bound * KILL_SHARE)
        if running:
            many = "1 process" if len(running) == 1 else f"{len(running)} processes"
            log.info(f"stopping {many}, within {bound:.3g}s")
        for process in reversed(self._processes.values()):
            process.stop(cause, limit=bound - kept)
            if process.state in (State.STARTING, State.RUNNING):
                await process.accepted()  # its signal is sent before the next one's
        with trio.move_on_after(bound):
            for process in reversed(self._processes.values()):
                await process.down()
        left = [process.name for process in self._processes.values() if process.state in ALIVE]
        if left:
            log.error(
                f"cannot stop {', '.join(left)}: not even SIGKILL ends it; the kernel may be waiting for a device"
            )
        self._all_down.set()

    def hurry(self) -> None:
        """While everything is being stopped: no more grace, SIGKILL now."""
        if self._stopping:
            for process in self._processes.values():
                process.kill()

    # -- inside

    def _look_after(self, process: Process) -> None:
        """Give it a health if its configuration says how to know it; what that needs is imported only then."""
        config = process.config
        if config.readiness_probe or config.liveness_probe or config.startup_probe or config.notify:
            from supervisor.health import attend

            process.health = attend(
                process.name,
                config,
                self._around,
                output=self.outputs[process.name],
                relay=self._relay,
                changed=process.readiness_changed,
            )
        if config.sockets:
            from supervisor.sockets import Listening

            process.listening = Listening(config.sockets)

    def _find(self, name: str) -> Process:
        try:
            return self._processes[name]
        except KeyError:
            raise ControlError(
                f'cannot find the process "{name}"', hint="see status for the names", status=404, kind="no-such-process"
            ) from None

    async def _ask(self, names: Iterable[str], request: Callable[[Process], None]) -> None:
        chosen = [self._find(name) for name in names]
        for process in chosen:
            request(process)
        for process in chosen:
            await process.accepted()

    def _refuse_late_starts(self) -> None:
        if self._stopping:
            raise ControlError("cannot start anything: everything is being stopped", status=409, kind="shutting-down")

    def _changed(self, change: Change) -> None:
        self.journal.note(change)
        before, self._change = self._change, trio.Event()
        before.set()
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception as error:  # noqa: BLE001 (whoever looks on must not stop what it looks at)
                self._listeners.remove(listener)
                log.error(f"a listener to state changes failed and is left out: {describe(error)}")
        if change.after in ENDED:
            self._ended(self._processes[change.name])
        elif change.after is not State.BACKOFF:
            self._going_on.add(change.name)

    def _ended(self, process: Process) -> None:
        self._going_on.discard(process.name)
        if self._first_failure is None and not process.succeeded:
            self._first_failure = process.name
        if process.config.essential:
            self._end(self._ending_of(process, "the essential process"))
        elif not self._going_on:
            if self._first_failure is None:
                self._end(Ending(0, None, "every process has ended"))
            else:
                first = self._processes[self._first_failure]
                self._end(self._ending_of(first, "every process has ended; the first failure was"))

    def _ending_of(self, process: Process, words: str) -> Ending:
        last = process.history.last_exit
        status = last.status if last is not None else 0
        if status == 0 and not process.succeeded:
            status = 1  # a probe condemned it, and it took its leave with 0
        return Ending(status, process.name, f"{words} {process.name}: {process.reason}")

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._over.set()


def _make_output(name: str, config: structs.Log, *, stdout: Writer, stderr: Writer, relay: Relay) -> Output:
    return Output(name, config, stdout=stdout, stderr=stderr, relay=relay)
