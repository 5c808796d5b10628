"""PID 1's life, from the first mount to the power-off, told in order.

One ``trio.run`` holds all of it: the reaper, the signals, the boot, the hand-off, the shutdown. The process that mounts
/proc is the one that supervises. Both wings meet here and only here: ``bootstrap`` gets to run programs through the
supervisor's spawn, so that one reaper owns every exit status.

What fails is caught once, in :meth:`Life.run`, told to the console, the kernel log and the host, and then the
``onFatal`` policy runs. Side tasks (control, metrics, the power button) may fail without taking the rest with them.

Its chapters stand beside it: ``beginning``, ``booting``, ``failure`` and ``ending``; and, imported when somebody asks for
them, ``reload`` and ``reexec``.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import trio

from bootstrap import cmdline, console
from bootstrap.steps import RUNTIME, Machine
from bootstrap.timeline import Timeline
from ocelot import __version__, bundle, configuration, log
from ocelot.config import structs
from ocelot.config.loading import Kind
from ocelot.ending import Ending, chosen_verb, go_down, only_one
from ocelot.errors import BootError, ControlError, OcelotError, describe
from ocelot.linux import syscalls
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity
from ocelot.linux.inherited import Inherited
from ocelot.linux.kmsg import Kmsg
from ocelot.states import Cause, PowerVerb, signal_name
from ocelot.wire.protocol import BootTimeline, Status
from supervisor import signals
from supervisor.manager import Supervisor
from supervisor.programs import Programs
from supervisor.reaper import Reaper

if TYPE_CHECKING:
    from ocelot.wire.protocol import ReloadReply
    from supervisor.door import Door


class Life:
    """One run of PID 1. The control socket controls it (``supervisor.controlled.Controlled``)."""

    def __init__(
        self,
        kind: Kind,
        file: str | None,
        *,
        inherited: Inherited,
        who: Identity,
        socket: str | None = None,
        trial: bool = False,
        born: float | None = None,
    ) -> None:
        self.kind = kind
        self.file = file
        self.inherited = inherited
        self.who = who
        self.socket = socket
        self.trial = trial
        self.config: structs.Sections = structs.Bootstrap() if kind == "bootstrap" else structs.SuperviseFile()
        self.supervisor: Supervisor | None = None
        self.phase: Literal["boot", "running", "shutdown", "failed"] = "boot"
        self.reaper = Reaper()
        console.occupy_standard_descriptors()
        self.stdout = Writer.nowhere()
        self.stderr = Writer.nowhere()
        self.console: console.Console | None = None
        self.cmdline = cmdline.Cmdline()
        self.carried: dict[str, tuple[str, ...]] = {}  # by file system: modules of the initramfs that it needs
        self.machine = self._new_machine()
        self.requested = trio.Event()
        self.verb: PowerVerb | None = None  # what was asked for
        self._why = ""
        self.arrived: set[int] = set()  # signals that have come and were not heeded yet
        self.doors: dict[str, Door] = {}
        self.reloading = False
        self.leaving = False  # another image is asked whether it takes over
        self.turn = 0  # how many images there were before this one
        self.born = time.monotonic() if born is None else born
        self.boot_timeline: Timeline | None = None
        self.measures: object | None = None
        self._kernel_log: Kmsg | None = None

    def _new_machine(self) -> Machine:
        programs = Programs(self.reaper, inherited=self.inherited, stdout=self.stdout, stderr=self.stderr)
        return Machine(
            runner=programs,
            identity=self.who,
            warn=log.warn,
            info=log.info,
            trial=self.trial,
            environment=self.inherited.child_environment(),
            load_file_system=self.load_file_system,
        )

    # -- the story ---------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Everything, to the point where only the power verb or the exit is left. Does not raise for what it can tell."""
        return await self._with_tasks(self._boot if self.kind == "bootstrap" else self._supervise_file)

    async def run_on(self, resume: Callable[[], Collection[int]], begun: Callable[[], None]) -> Ending:
        """As :meth:`run`, from where another image was. ``resume`` makes this life what that one was, with a supervisor, and
        returns the signals that are to be blocked; what it raises is raised, since nothing has happened yet.

        ``begun`` is called when everything is in order.
        """
        return await self._with_tasks(lambda: self._run_supervisor(begun), resume)

    async def run_after(self, error: OcelotError) -> Ending:
        """What is left of a life whose exec failed: the policy for failures, and the shutdown."""

        async def fail() -> Ending:
            raise BootError(error.message, hint=error.hint, phase="postSwitch.handoff") from error

        return await self._with_tasks(fail)

    async def _with_tasks(
        self, story: Callable[[], Awaitable[Ending]], resume: Callable[[], Collection[int]] | None = None
    ) -> Ending:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            mask = resume() if resume is not None else None
            if self.who is not Identity.MACHINE:  # whose init the kernel spares anyway
                self.reaper.spare_ourselves()
            await nursery.start(self.reaper.run)
            await nursery.start(signals.listen, self._heed, self.who, self.arrived)
            if mask is not None:  # what has come since the other image blocked everything is delivered here
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            try:
                ending = await self._until_requested(story)
            except Exception as error:  # noqa: BLE001 (PID 1 must not die of anything)
                ending = await self._fail(error)
            if ending.program is None:
                await go_down(self, ending)
            nursery.cancel_scope.cancel()
        return ending

    async def _until_requested(self, story: Callable[[], Awaitable[Ending]]) -> Ending:
        """Run ``story``, but let a request to go down end it: in order if processes are supervised, else at once."""
        result: list[Ending] = []

        async def tell() -> None:
            result.append(await story())
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                await self.requested.wait()
                if self.supervisor is not None:
                    await self.supervisor.stop_all(Cause.SHUTDOWN, reason=self._why)
                    await trio.sleep_forever()  # the story ends now, with what the supervisor says
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_one(group) from None
        if self.requested.is_set():
            status = result[0].status if result else 0
            return Ending(status, self._why, verb=chosen_verb(self))
        return result[0]

    async def _boot(self) -> Ending:
        from ocelot.booting import boot

        return await boot(self)

    async def _fail(self, error: Exception) -> Ending:
        from ocelot.failure import fail

        return await fail(self, error)

    async def load_file_system(self, fstype: str) -> None:
        """Before a file system is first mounted: the modules for it, if the initramfs carries some."""
        from ocelot.booting import load_file_system

        await load_file_system(self, fstype)

    async def _supervise_file(self) -> Ending:
        self.begin_timeline()
        self.open_console("console")
        config = configuration.load(self.path, self.kind)
        assert isinstance(config, structs.SuperviseFile)
        self.config = config
        log.configure(level=config.log_level)
        if self.who is Identity.CONTAINER:
            self.set_hostname()
        return await self.supervise(config.processes, config.shutdown_timeout)

    async def supervise(self, processes: Mapping[str, structs.Process], timeout: float | None) -> Ending:
        self.supervisor = self.new_supervisor(processes, timeout)
        return await self._run_supervisor(self.finish_boot)

    def new_supervisor(self, processes: Mapping[str, structs.Process], timeout: float | None) -> Supervisor:
        return Supervisor(
            processes,
            reaper=self.reaper,
            inherited=self.inherited,
            environment=self.machine.environment,
            stdout=self.stdout,
            stderr=self.stderr,
            shutdown_timeout=timeout,
            terminal=self.tty() if self.who is Identity.MACHINE else None,
        )

    async def _run_supervisor(self, begun: Callable[[], None]) -> Ending:
        """Until it is over. ``begun`` is called once everything has been told to start."""
        assert self.supervisor is not None
        async with trio.open_nursery() as nursery:
            await self._open_control()
            self.start_side("metrics", self._serve_metrics)
            if self.config.control.vsock is not None:
                from ocelot.doors import serve_vsock

                self.start_side("control.vsock", partial(serve_vsock, self))

            async def finish() -> None:
                await trio.lowlevel.checkpoint()
                begun()
                bundle.leave()  # also of a life that goes on from another image

            nursery.start_soon(finish)
            end = await self.supervisor.run()
            nursery.cancel_scope.cancel()
        return Ending(end.status, end.reason, process=end.process, verb=chosen_verb(self))

    # -- what the world asks -----------------------------------------------------------------------

    def _heed(self, response: signals.Response) -> None:
        try:
            self._respond(response)
        except OSError as error:  # EPERM for one that runs as another user
            log.error(f"{signal_name(response.number)}: {describe(error)}")

    def _respond(self, response: signals.Response) -> None:
        name = signal_name(response.number)
        match response.action:
            case signals.Action.SHUT_DOWN:
                log.info(f"{name}: {response.meaning}")
                self._request(response.verb, f"asked by {name}")
            case signals.Action.HURRY:
                log.warn(f"{name}: {response.meaning}")
                if self.supervisor is not None:
                    self.supervisor.hurry()
            case signals.Action.FORWARD:
                to = self.supervisor.forward(response.number) if self.supervisor is not None else None
                log.info(f"{name}: {f'passed to {to}' if to else 'nobody to pass it to'}")
            case signals.Action.RELOAD:
                log.info(f"{name}: {response.meaning}")
                self.start_side("the reload", self._reload_by_signal)
            case signals.Action.NOTHING:
                log.debug(f"{name}: ignored")

    def _request(self, verb: PowerVerb | None, why: str) -> None:
        if self.requested.is_set():
            return
        self.verb = verb
        self._why = why
        self.requested.set()

    def request_power(self, verb: PowerVerb) -> None:
        """Begin to go down (``ocelotctl poweroff``); returns at once. Raises ControlError if that cannot be done here."""
        if self.who is not Identity.MACHINE and verb is not PowerVerb.POWEROFF:
            raise ControlError(
                f"cannot {verb.value}: ocelot is not the init of a machine here",
                hint="use ocelotctl poweroff, which stops everything and exits",
                status=409,
                kind="not-a-machine",
            )
        self._request(verb, f"asked to {verb.value} on the control socket")

    async def reload(self, file: str | None, *, dry_run: bool, keep_scale: bool) -> ReloadReply:
        """Let a changed configuration file take effect (``ocelotctl reload``). Raises ControlError."""
        from ocelot.reload import reload

        return await reload(self, file, dry_run=dry_run, keep_scale=keep_scale)

    async def _reload_by_signal(self) -> None:
        from ocelot.reload import reload_by_signal

        await reload_by_signal(self)

    async def replace(self, runtime: str | None, descriptor: int) -> None:
        """Become another image of ocelot (``ocelotctl reexec``); returns only by raising ControlError."""
        from ocelot.reexec import replace

        await replace(self, runtime, descriptor)

    def status(self) -> Status:
        """What ``ocelotctl status`` shows."""
        return Status(
            version=__version__,
            hostname=socket.gethostname(),
            identity=self.who.value,
            phase=self.phase,
            pid=os.getpid(),
            uptime=time.monotonic() - self.born,
            processes=self.supervisor.statuses() if self.supervisor is not None else [],
        )

    def timeline(self) -> BootTimeline:
        return self.boot_timeline.wire if self.boot_timeline is not None else BootTimeline(spans=[])

    def counters(self) -> Mapping[str, float]:
        """Counters of ocelot itself, for the metrics."""
        return {"reaped_orphans": self.reaper.orphans_reaped, "reaped_children": self.reaper.children_reaped}

    # -- pieces ------------------------------------------------------------------------------------

    def begin_timeline(self) -> Timeline:
        age = time.monotonic() - self.born
        timeline = Timeline(age=age, before=self.born if self.who is Identity.MACHINE else None)
        timeline.add("imports", start=0.0, end=age)
        self.boot_timeline = timeline
        return timeline

    def finish_boot(self) -> None:
        self.phase = "running"
        bundle.leave(remove=self.who is Identity.MACHINE and syscalls.lies_in_memory(RUNTIME))
        if self.boot_timeline is not None:
            for span in self.boot_timeline.wire.spans:
                if span.end is None:
                    self.boot_timeline.end(span)
            self.boot_timeline.finish()

    @property
    def path(self) -> str:
        """The configuration file."""
        return self.file or self.cmdline.config or configuration.DEFAULT_FILE

    def open_console(self, name: str) -> None:
        """In a machine our descriptors become the console, elsewhere they stay; messages go there and to the kernel log."""
        opened = console.open_console(name, self.who)
        self.console, self.stdout, self.stderr = opened, opened.stdout, opened.stderr
        self.machine.runner = Programs(self.reaper, inherited=self.inherited, stdout=self.stdout, stderr=self.stderr)
        for writer in {opened.stdout, opened.stderr}:
            self.start_side("console output", writer.run)
        sinks = [opened.sink()]
        if self.who is Identity.MACHINE:
            if self._kernel_log is None:
                self._kernel_log = Kmsg.open(unlimited=True)
            if self._kernel_log is not None:
                sinks.append(self._kernel_log)
        log.configure(sinks=sinks)
        if opened.problem:
            log.warn(opened.problem)

    def tty(self) -> str | None:
        return self.console.tty if self.console is not None else None

    def set_hostname(self) -> None:
        """To what the file says, if it says so; a warning where that may not be."""
        if self.config.hostname is None:
            return
        try:
            socket.sethostname(self.config.hostname)
        except OSError as error:
            log.warn(f'cannot set the host name to "{self.config.hostname}": {describe(error)}')

    def start_side(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        """Start a task that may fail without taking the rest with it."""

        async def guarded() -> None:
            try:
                await task()
            except Exception as error:  # noqa: BLE001 (a side task must not end PID 1)
                log.error(f"{name}: {describe(error)}; going on without it")
                if not isinstance(error, OcelotError | OSError):
                    from ocelot.failure import log_traceback

                    log_traceback(error)

        self._nursery.start_soon(guarded, name=name)

    async def _open_control(self) -> None:
        """Open the control socket. A machine goes on without it; elsewhere another ocelot behind it is an error."""
        from supervisor.control import open_control
        from supervisor.door import Door

        config = configuration.control(self.config, self.socket)
        door = self.doors.setdefault("control", Door())
        await open_control(self, config, self._nursery, door=door, required=self.who is not Identity.MACHINE)

    async def _serve_metrics(self) -> None:
        if self.config.metrics.listen is None:
            return
        from supervisor.control import serve_metrics
        from supervisor.door import Door

        await serve_metrics(self, self.config.metrics, door=self.doors.setdefault("metrics", Door()))

    async def watch_power_button(self) -> None:
        from bootstrap.power_button import watch

        await watch(lambda: self._request(PowerVerb.POWEROFF, "the power button was pressed"))
