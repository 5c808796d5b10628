"""PID 1's life, from the first mount to the power-off, told in order.

One ``trio.run`` holds all of it: the reaper, the signals, the boot, the hand-off, the shutdown. The process that mounts
/proc is the one that supervises. Both wings meet here and only here: ``bootstrap`` gets to run programs through the
supervisor's spawn, so that one reaper owns every exit status.

What fails is caught once, in :meth:`Life.run`, told to the console, the kernel log and the host, and then the
``onFatal`` policy runs. Side tasks (control, metrics, the power button) may fail without taking the rest with them.
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

from bootstrap import cmdline, console, host, shutdown
from bootstrap.steps import RUNTIME, Machine
from bootstrap.timeline import Timeline
from ocelot import __version__, bundle, configuration, ground, log
from ocelot.config import structs
from ocelot.config.loading import Kind
from ocelot.ending import Ending, only_one
from ocelot.errors import BootError, ControlError, OcelotError, describe
from ocelot.linux import syscalls
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import Inherited, keep_descriptors, raise_own_limits
from ocelot.linux.kmsg import Kmsg
from ocelot.states import Cause, PowerVerb, signal_name
from ocelot.wire.protocol import BootTimeline, ExitReport, Status
from supervisor import signals
from supervisor.manager import Supervisor
from supervisor.programs import Programs
from supervisor.reaper import Reaper

if TYPE_CHECKING:
    from ocelot.wire.protocol import ReloadReply
    from supervisor.door import Door


def import_boot() -> None:
    """Import what a boot needs and ``supervise`` does not (a sixth of its imports). Before the boot: the files may go away."""
    from bootstrap import rescue  # noqa: F401
    from ocelot import booting, failure  # noqa: F401


def boot(
    file: str | None,
    *,
    in_place: bool = False,
    called_by_kernel: bool = False,
    trial: bool = False,
    born: float | None = None,
) -> Ending:
    """Boot as PID 1, supervise, go down; returns when nothing is left to do but the power verb or to exit.

    ``born``: when our first instructions ran, in seconds of the monotonic clock.
    ``trial``: in the namespaces of ``ocelot bootstrap try``; what they do not contain is shown, not done.
    ``in_place``: in a PID namespace without the signs of a container, this root file system is meant nevertheless.
    """
    inherited = Inherited.capture()
    own_proc = ground.find_proc()
    who = identity()
    if who is not Identity.MACHINE:
        if own_proc:
            syscalls.umount2("/proc")
        ground.refuse_foreign(who, in_place)
    if called_by_kernel and who is Identity.MACHINE:
        os.chdir("/")
    life = Life("bootstrap", file, inherited=inherited, who=who, trial=trial, born=born)
    return _run(life)


def supervise(file: str, *, socket: str | None = None) -> Ending:
    """Supervise the processes of ``file``, as PID 1 of a container or as an ordinary process."""
    life = Life("supervise", file, inherited=Inherited.capture(), who=identity(), socket=socket)
    return _run(life)


def _run(life: Life) -> Ending:
    raise_own_limits()
    keep_descriptors()
    ending = trio.run(life.run)
    if ending.program is not None:
        from bootstrap import handoff

        try:
            handoff.execute(ending.program, life.machine, life.inherited)
        except OcelotError as error:
            return trio.run(life.run_after, error)
    return ending


class Life:
    """One run of PID 1. The control socket controls it (``supervisor.control.Controlled``)."""

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
        self._verb: PowerVerb | None = None
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
            await nursery.start(self.reaper.run)
            await nursery.start(signals.listen, self._heed, self.who, self.arrived)
            if mask is not None:  # what has come since the other image blocked everything is delivered here
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            try:
                ending = await self._until_requested(story)
            except Exception as error:  # noqa: BLE001 (PID 1 must not die of anything)
                ending = await self._fail(error)
            if ending.program is None:
                ending = await self._go_down(ending)
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
            return Ending(status, self._why, verb=self.chosen_verb())
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
        return Ending(end.status, end.reason, process=end.process, verb=self.chosen_verb())

    # -- the end -----------------------------------------------------------------------------------

    async def _go_down(self, ending: Ending) -> Ending:
        """After the processes: everything else, the file systems, and the last words to the host."""
        self.phase = "shutdown"
        log.info(f"going down: {ending.reason}")
        if self.who is Identity.MACHINE:
            await self.report(ending)
            await shutdown.go_down(self.config.shutdown.timeout)
        elif self.who is Identity.CONTAINER:
            await shutdown.end_others(self.config.shutdown.timeout)
        if self.who is Identity.MACHINE:
            if ending.verb is PowerVerb.REBOOT and self._verb is not PowerVerb.REBOOT and not shutdown.can_power_off():
                log.info(
                    "this machine cannot cut its own power (it has no ACPI): it is reset instead, as shutdown.action says"
                )
            log.info(host.console_line(self.exit_report(ending)))
        self.stdout.flush(1.0)
        self.stderr.flush(1.0)
        return ending

    async def report(self, ending: Ending) -> None:
        report = self.exit_report(ending)
        await host.send(report, self.config.host.exit_port)

    def exit_report(self, ending: Ending) -> ExitReport:
        return ExitReport(
            status=ending.status,
            reason=ending.reason,
            verb=ending.verb.value,
            process=ending.process,
            phase=ending.phase,
            hint=ending.hint,
            uptime=round(time.monotonic() - self.born, 3),
        )

    def chosen_verb(self) -> PowerVerb:
        action = self.config.shutdown.action
        if action == "auto" and self._verb in (None, PowerVerb.POWEROFF):
            return shutdown.automatic_verb()
        return self._verb or PowerVerb(action)

    # -- what the world asks -----------------------------------------------------------------------

    def _heed(self, response: signals.Response) -> None:
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
        self._verb = verb
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

    async def reload(self, file: str | None, *, dry_run: bool) -> ReloadReply:
        """Let a changed configuration file take effect (``ocelotctl reload``). Raises ControlError."""
        from ocelot.reload import reload

        return await reload(self, file, dry_run=dry_run)

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
        bundle.leave(remove=self.who is Identity.MACHINE and ground.lies_in_memory(RUNTIME))
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
        from supervisor.control import serve
        from supervisor.door import Door

        door = self.doors.setdefault("control", Door())
        config = self.config.control
        if self.socket is not None:
            config = structs.Control(socket=self.socket, mode=config.mode, group=config.group, roles=config.roles)
        opened = False

        async def answer(*, task_status: trio.TaskStatus[None]) -> None:
            try:
                await serve(self, config, door=door, task_status=task_status)
            except Exception as error:
                if not opened:
                    raise
                log.error(f"the control socket: {describe(error)}; going on without it")

        try:
            await self._nursery.start(answer)
            opened = True
        except (OcelotError, OSError) as error:
            if self.who is not Identity.MACHINE:
                raise
            log.error(f"the control socket: {describe(error)}; going on without it")

    async def _serve_metrics(self) -> None:
        if self.config.metrics.listen is None:
            return
        from supervisor.control import serve_metrics
        from supervisor.door import Door

        await serve_metrics(self, self.config.metrics, door=self.doors.setdefault("metrics", Door()))

    async def watch_power_button(self) -> None:
        from bootstrap.power_button import watch

        await watch(lambda: self._request(PowerVerb.POWEROFF, "the power button was pressed"))
