"""What one life as PID 1 is made of, and what may be asked of it at any time.

The story of it is told in ``pid1``; its chapters (``beginning``, ``booting``, ``failure``, ``ending``, ``reload``, ``reexec``) get the
:class:`Life` that they are about.
"""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal

import trio

from bootstrap import cmdline, console
from bootstrap.steps import RUNTIME, Machine
from bootstrap.timeline import Timeline
from ocelot import __version__, bundle, log
from ocelot.config import structs
from ocelot.config.loading import Kind
from ocelot.errors import ControlError, OcelotError, describe
from ocelot.life import configuration
from ocelot.linux import syscalls
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity
from ocelot.linux.inherited import Inherited
from ocelot.linux.kmsg import Kmsg
from ocelot.states import PowerVerb
from ocelot.wire.protocol import BootTimeline, Status
from supervisor.children.reaper import Reaper
from supervisor.manager import Supervisor
from supervisor.process.programs import Programs

if TYPE_CHECKING:
    from ocelot.wire.protocol import ReloadReply
    from supervisor.control.door import Door


class Life(ABC):
    """One run of PID 1. The control socket controls it (``supervisor.controlled.Controlled``).

    ``nursery``: of everything that lasts as long as it does; it is there from the beginning of the run.
    """

    nursery: trio.Nursery

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
        self.hurried = trio.Event()  # whoever asked has asked again
        self.verb: PowerVerb | None = None  # what was asked for
        self.why = ""
        self.arrived: set[int] = set()  # signals that have come and were not heeded yet
        self.doors: dict[str, Door] = {}
        self.reloading = False
        self.leaving = False  # another image is asked whether it takes over
        self.turn = 0  # how many images there were before this one
        self.breaks: list[float] = []  # when the event loop broke lately
        self.clock: trio.abc.Clock | None = None  # of the event loop
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
        )

    # -- what is asked of it --------------------------------------------------------------------------

    def request(self, verb: PowerVerb | None, why: str) -> None:
        """Begin to go down, as the first one who asks says."""
        if self.requested.is_set():
            return
        self.verb = verb
        self.why = why
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
        self.request(verb, f"asked to {verb.value} on the control socket")

    @abstractmethod
    async def reload(self, file: str | None, *, dry_run: bool, keep_scale: bool) -> ReloadReply:
        """Let a changed configuration file take effect (``ocelotctl reload``). Raises ControlError."""

    @abstractmethod
    async def replace(self, runtime: str | None, descriptor: int) -> None:
        """Become another image of ocelot (``ocelotctl reexec``); returns only by raising ControlError."""

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

    # -- what it is made of ------------------------------------------------------------------------------

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
                    log_traceback(error)

        self.nursery.start_soon(guarded, name=name)

    async def watch_power_button(self) -> None:
        from bootstrap.power_button import watch

        await watch(lambda: self.request(PowerVerb.POWEROFF, "the power button was pressed"))


def log_traceback(error: BaseException) -> None:
    """Where a mistake of ours happened, line by line."""
    import traceback

    for entry in traceback.format_exception(error):
        log.error(entry.rstrip())
