"""The set of supervised processes: starts them, asks of them what is asked for, stops them in order.

When it is over, and with which status, says ``ending``; who depends on whom, ``dependencies``; in which order they stop, ``stop_order``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import describe
from ocelot.linux.descriptors import Writer
from ocelot.linux.inherited import Inherited
from ocelot.states import Cause, State
from ocelot.wire.protocol import ProcessStatus
from supervisor.assembly import Assembly, OutputFactory
from supervisor.ending import Ending as Ending
from supervisor.ending import Reckoning
from supervisor.journal import Journal
from supervisor.lifecycle import ENDED, Change, Event
from supervisor.output.network_files import NetworkFiles
from supervisor.output.process_output import Output
from supervisor.output.relay import Relay
from supervisor.process.supervised import Process
from supervisor.process.surroundings import Spawner, Surroundings
from supervisor.process_set import ProcessSet
from supervisor.replicas import base_of
from supervisor.roster import Roster
from supervisor.stop_order import stop_in_order

if TYPE_CHECKING:
    from supervisor.snapshots import SupervisorSnapshot


class Supervisor:
    """``processes`` by name, in the order of the file. ``environment`` is that of the phases.

    ``stdout`` and ``stderr`` are where inherited output goes.
    ``make_output`` replaces what makes the output of each process. ``terminal``: see ``Surroundings``.
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
        terminal: str | None = None,
    ) -> None:
        around = Surroundings(reaper, inherited, environment, NetworkFiles().may_hang, terminal)
        self._relay = Relay()
        self._assembly = Assembly(
            around, self._changed, stdout=stdout, stderr=stderr, relay=self._relay, make_output=make_output
        )
        self._roster = Roster(processes, self._assembly.make)
        self._processes = self._roster.processes
        self._reckoning = Reckoning(self._processes)
        self._set = ProcessSet(around, self._assembly, self._roster, self._reckoning, shutdown_timeout)
        self._listeners: list[Callable[[Change], None]] = []
        self._all_down = trio.Event()

    # -- looking

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._processes)

    @property
    def groups(self) -> Mapping[str, Sequence[str]]:
        """The names of the replicas by the name of their entry, for each entry that has them."""
        return self._roster.groups

    @property
    def configs(self) -> Mapping[str, structs.Process]:
        """The entries of the configuration as they hold now, by name."""
        return self._roster.configs

    @property
    def outputs(self) -> Mapping[str, Output]:
        """By the name of the process."""
        return self._assembly.outputs

    def status(self, name: str) -> ProcessStatus:
        return self._roster.find(name).status()

    def config(self, name: str) -> structs.Process:
        """What the process ``name`` was configured as."""
        return self._roster.find(name).config

    @property
    def surroundings(self) -> Surroundings:
        """What all processes share."""
        return self._set.around

    @property
    def journal(self) -> Journal:
        """The latest changes."""
        return self._set.journal

    @property
    def scaled(self) -> set[str]:
        """Entries whose replicas are not those of the file."""
        return self._set.scaled

    @property
    def under_way(self) -> dict[str, dict[str, float | None]]:
        """What is asked for and not through yet; see ``actions``."""
        return self._set.under_way

    @property
    def shutdown_timeout(self) -> float | None:
        """Seconds that stopping everything may take; None: the longest chain of grace periods, and some."""
        return self._set.shutdown_timeout

    @shutdown_timeout.setter
    def shutdown_timeout(self, seconds: float | None) -> None:
        self._set.shutdown_timeout = seconds

    def statuses(self) -> list[ProcessStatus]:
        return [process.status() for process in self._processes.values()]

    @property
    def cgroups(self) -> Mapping[str, str]:
        """The folder of the cgroup of each process that has one, by name."""
        return {name: process.cgroup.folder for name, process in self._processes.items() if process.cgroup is not None}

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``listener`` with every change, at once and in order; it must be quick. Returns how to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def changed(self) -> trio.Event:
        """An event that is set when any process next changes its state."""
        return self._set.change

    # -- asking

    async def start(self, names: Iterable[str]) -> None:
        """Ask them to run, and first what they require and do not have; returns when their states show it.

        Raises ControlError when everything is being stopped.
        """
        chosen = self._to_start(names)
        await _ask(chosen, _start_now)

    async def stop(self, names: Iterable[str]) -> None:
        """Ask them to stop, as the operator's wish: nothing but a start brings them back.

        Those of them that depend on others of them go first. Whoever else depends on them goes on.
        """
        await self._ask_in_order(names, lambda process: process.stop(Cause.OPERATOR))

    async def restart(self, names: Iterable[str]) -> None:
        """Stop (those that run) and start. What they require is started as by :meth:`start`."""
        chosen = self._to_start(names)
        await _ask(chosen, _restart_now)

    async def accepted(self, names: Iterable[str]) -> None:
        """Wait until the states show what was asked for last."""
        for name in names:
            await self._roster.find(name).accepted()

    def reload(self, names: Iterable[str]) -> None:
        """Send each its ``reloadSignal``. Those that do not run, or have none, are passed over."""
        for name in names:
            self._roster.find(name).reload()

    async def down(self, name: str) -> None:
        """Wait until the process ``name`` does not run and is not about to, or somebody wants it up again. Raises ControlError."""
        process = self._roster.find(name)
        await process.down(unless=process.wanted)

    def signal(self, names: Iterable[str], number: int) -> None:
        """Send a signal to the processes themselves. Those that do not run are passed over."""
        for name in names:
            self._roster.find(name).signal(number)

    def forward(self, number: int) -> str | None:
        """Send a signal to the main process: the essential ones, or the only one. What it went to, in words."""
        main = [p for p in self._processes.values() if p.config.essential] or list(self._processes.values())
        if not main or (len(main) > 1 and not main[0].config.essential):
            return None
        for process in main:
            process.signal(number)
        return ", ".join(process.name for process in main)

    # -- across images

    @property
    def kept_bytes(self) -> int:
        """How much of the logs is in memory."""
        return sum(len(ring) for output in self.outputs.values() for ring in output.rings.values())

    def snapshot(self) -> SupervisorSnapshot:
        """For an image that replaces this one. Raises NotNow while a process is being spawned or all are being stopped."""
        from supervisor.manager_snapshot import snapshot

        return snapshot(self._set)

    def salvage(self) -> SupervisorSnapshot:
        """As :meth:`snapshot`, when the loop is broken and no better moment will come."""
        from supervisor.salvage import salvage

        return salvage(self._set)

    def restore(self, kept: SupervisorSnapshot) -> None:
        """Before :meth:`run`, and before the reaper runs: go on from where the image before this one was."""
        from supervisor.manager_snapshot import restore

        restore(self._set, kept)

    # -- its life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Ending:
        """Start everything in order, wait for the end, stop what is left, and say how it ended."""
        try:
            await self._run(task_status)
        finally:
            # However it ended, there is nobody left who would stop anything: do not wait for it
            self._set.stopping = True
            self._all_down.set()
        for process in self._processes.values():
            process.let_go()
        self._assembly.close()
        assert self._reckoning.ending is not None
        return self._reckoning.ending

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._set.nursery = nursery
            nursery.start_soon(self._relay.run)
            present = list(self._processes.values())
            if not self._set.stopping and not self._set.kept:
                for process in present:
                    process.start()  # all of them are wanted before the first one looks what it may count on
            for process in present:
                nursery.start_soon(process.run, name=process.name)
                if process.schedule is not None:
                    nursery.start_soon(process.schedule.run)
                # One spawn a turn: with a thousand of them, whoever died meanwhile is reaped meanwhile
                await trio.lowlevel.checkpoint()
            task_status.started()
            await self._reckoning.over.wait()
            await self.stop_all(Cause.SHUTDOWN)
            nursery.cancel_scope.cancel()

    async def stop_all(self, cause: Cause = Cause.SHUTDOWN, *, reason: str = "shut down") -> None:
        """Stop everything in the reverse order of starting, within the announced bound; returns when that is done.

        A second call waits for the first. It shortens nothing: :meth:`hurry` does.
        """
        if self._set.stopping:
            await self._all_down.wait()
            return
        self._set.stopping = True
        self._reckoning.end(Ending(0, None, reason))
        await stop_in_order(
            list(self._processes.values()),
            cause,
            dependencies=self._roster.dependencies,
            timeout=self.shutdown_timeout,
        )
        self._all_down.set()

    def hurry(self) -> None:
        """While everything is being stopped: no more grace, SIGKILL now."""
        if self._set.stopping:
            for process in self._processes.values():
                process.kill()

    # -- what belongs to it

    def add(self, name: str, config: structs.Process) -> None:
        """Take up the entry ``name`` (with its replicas) and start it. Raises ControlError if there is one."""
        from supervisor.membership import add

        add(self._set, name, config)

    async def remove(self, name: str) -> None:
        """Stop the entry ``name`` and forget it; returns when nothing is left of it. Raises ControlError."""
        from supervisor.membership import remove

        await remove(self._set, name)

    def replace(self, name: str, config: structs.Process) -> None:
        """Let the entry ``name`` mean ``config``. Starts and stops nothing but replicas that are more or fewer, or have other names.

        Rules such as the restart policy hold at once; what a process is given at its start, from its next start on.
        What an operator has stopped stays stopped, new replicas of it too. Raises ControlError.
        """
        from supervisor.membership import replace

        replace(self._set, name, config)

    async def scale(self, name: str, replicas: int) -> None:
        """Let the entry ``name`` have so many replicas: start those that are missing, stop the last ones.

        Returns when the states of the new ones show it. Raises ControlError.
        """
        from supervisor.membership import scale

        await scale(self._set, name, replicas)

    def stays_down(self, name: str) -> bool:
        """Whether a reload leaves the entry ``name`` down: an operator has stopped it, and its policy is not Always."""
        return self._roster.stays_down(name, self._roster.configs[name])

    # -- inside

    def _to_start(self, names: Iterable[str]) -> list[Process]:
        """The processes of these names, once what they require has been asked to start."""
        self._set.refuse_late_starts()
        chosen = [self._roster.find(name) for name in names]
        chosen = [process for process in chosen if process not in self._set.going]
        if self._roster.dependencies is not None:
            for base in self._roster.dependencies.needed(base_of(process.name) for process in chosen):
                for process in self._roster.members(base):
                    process.start()
        return chosen

    async def _ask_in_order(self, names: Iterable[str], request: Callable[[Process], None]) -> None:
        """Ask dependants first, and what they depend on when they are down; without any, all at once."""
        chosen = [self._roster.find(name) for name in names]
        self._set.asking += 1
        try:
            await self._ask_ranks(chosen, request)
        finally:
            self._set.asking -= 1

    async def _ask_ranks(self, chosen: list[Process], request: Callable[[Process], None]) -> None:
        if self._roster.dependencies is not None:
            for rank in self._roster.dependencies.ranks(chosen)[:-1]:
                await _ask(rank, request)
                for process in rank:
                    await process.down(unless=process.wanted)
                chosen = [process for process in chosen if process not in rank]
        await _ask(chosen, request)

    def _changed(self, change: Change) -> None:
        self._set.journal.note(change)
        self._set.tell()
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception as error:  # noqa: BLE001 (whoever looks on must not stop what it looks at)
                self._listeners.remove(listener)
                log.error(f"a listener to state changes failed and is left out: {describe(error)}")
        if change.after in ENDED:
            self._reckoning.ended(self._processes[change.name])
        elif change.after is not State.BACKOFF:
            self._reckoning.goes_on(change.name)
        schedule = self._processes[change.name].schedule
        if schedule is not None:
            schedule.changed(change)
        if self._roster.dependencies is not None:
            again = change.event is Event.START and self._processes[change.name].history.last_end is not None
            begins = change.event in (Event.START, Event.HOLD)
            base = base_of(change.name)
            self._roster.dependencies.changed(base, begins=begins, again=again and not self._set.stopping)


def _start_now(process: Process) -> None:
    if process.schedule is not None:
        process.schedule.run_now()
    process.start()


def _restart_now(process: Process) -> None:
    if process.schedule is not None:
        process.schedule.run_now()
    process.restart()


async def _ask(processes: Sequence[Process], request: Callable[[Process], None]) -> None:
    for process in processes:
        request(process)
    for process in processes:
        await process.accepted()
