"""What the control socket needs of those whom it controls, so that neither has to know the other.

``pid1.Life`` is :class:`Controlled`, ``manager.Supervisor`` is :class:`Supervised`, ``output.Output`` is a :class:`LogSource`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import trio

    from ocelot.config import structs
    from ocelot.states import PowerVerb
    from ocelot.wire.protocol import BootTimeline, ProcessStatus, ReloadReply, Status
    from supervisor.journal import Journal
    from supervisor.lifecycle import Change
    from supervisor.output.process_output import OutputLine
    from supervisor.output.ring import Line
    from supervisor.output.sinks import Counters
    from supervisor.output.terminal import TerminalStream
    from supervisor.process.surroundings import Surroundings


class Supervised(Protocol):
    """The processes as the control socket needs them; ``manager.Supervisor`` is one. Names are always known ones."""

    @property
    def names(self) -> Sequence[str]: ...

    def status(self, name: str) -> ProcessStatus: ...

    async def start(self, names: Sequence[str]) -> None:
        """Ask for it; when this returns, what ``status`` says comes after the request."""

    async def stop(self, names: Sequence[str]) -> None: ...

    async def restart(self, names: Sequence[str]) -> None: ...

    async def accepted(self, names: Sequence[str]) -> None:
        """Return when what ``status`` says comes after what was asked for last."""

    def signal(self, names: Sequence[str], number: int) -> None: ...

    def reload(self, names: Sequence[str]) -> None:
        """Send each its ``reloadSignal``."""

    @property
    def under_way(self) -> dict[str, dict[str, float | None]]:
        """Requests that wait for what they have led to, by their token: of each process, what tells which life of it was meant."""

    async def scale(self, name: str, replicas: int) -> None:
        """Ask for so many replicas; when this returns, ``status`` of new ones comes after the request. Raises ControlError."""

    def changed(self) -> trio.Event:
        """An event that is set when any process next changes its state."""

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call ``listener`` with every change. Returns how to end that."""

    def config(self, name: str) -> structs.Process: ...

    @property
    def surroundings(self) -> Surroundings:
        """What all processes share: who spawns, the environment."""

    @property
    def journal(self) -> Journal:
        """The last changes."""

    @property
    def outputs(self) -> Mapping[str, LogSource]:
        """By the name of the process."""

    @property
    def cgroups(self) -> Mapping[str, str]:
        """The folder of the cgroup of each process that has one, by name."""


class LogSource(Protocol):
    """The output of one process; ``output.Output`` is one."""

    def lines(self, last: int | None = None, since: float | None = None) -> Sequence[OutputLine]: ...

    def watch(self, seen: Callable[[str, Line], None]) -> AbstractContextManager[None]: ...

    def rotate(self) -> int:
        """Rotate its log files, and say how many streams go to one. Raises OSError and OcelotError."""

    @property
    def counters(self) -> Mapping[str, Counters]: ...

    @property
    def terminal(self) -> TerminalStream | None:
        """Where the process has one of its own."""


class Controlled(Protocol):
    """What the control socket controls; ``pid1`` implements it."""

    config: structs.Sections
    """What holds now, beside the processes."""

    @property
    def supervisor(self) -> Supervised | None:
        """The processes, or None while the machine still boots."""

    def status(self) -> Status: ...

    def timeline(self) -> BootTimeline: ...

    def request_power(self, verb: PowerVerb) -> None:
        """Begin to go down; returns at once. Raises ControlError if that cannot be done here."""

    async def reload(self, file: str | None, *, dry_run: bool, keep_scale: bool) -> ReloadReply:
        """Let a changed configuration file take effect, or only tell what it would change. Raises ControlError."""

    async def replace(self, runtime: str | None, descriptor: int) -> None:
        """Become another image of ocelot, which answers on ``descriptor``. Raises ControlError if that is not to be."""

    def counters(self) -> Mapping[str, float]:
        """Counters of ocelot itself by name, for the metrics: ``reaped_orphans``, ``reaped_children``."""

    measures: object | None
    """What ``supervisor.metrics.collector`` remembers between two scrapes; None until the first."""
