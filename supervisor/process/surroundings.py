"""What a process needs from those around it: who spawns and reaps, where its output goes, who looks after its health."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ocelot.config import structs
from ocelot.linux.inherited import Inherited
from ocelot.states import Cause
from supervisor import restart
from supervisor.children.child import Child
from supervisor.children.spawn import SpawnSpec

if TYPE_CHECKING:
    from ocelot.wire.protocol import DependencyStatus, ScheduleStatus
    from supervisor.lifecycle import Change
    from supervisor.output.sinks import Counters
    from supervisor.snapshots import ChildSnapshot, HealthSnapshot, ScheduleSnapshot, SocketSnapshot, StreamSnapshot


class Ends(Protocol):
    """The descriptors that a child gets; closed here once it has them."""

    @property
    def stdout(self) -> int: ...
    @property
    def stderr(self) -> int: ...
    def close(self) -> None: ...


class ProcessOutput(Protocol):
    """Where the output of a process goes, over all its lives; ``supervisor.output.process_output.Output`` is one."""

    def open(self) -> Ends: ...
    async def finish(self, within: float) -> None: ...
    def finish_at_once(self) -> bool: ...

    @property
    def counters(self) -> Mapping[str, Counters]:
        """By stream name; only streams that are relayed."""

    def snapshot(self) -> dict[str, StreamSnapshot]: ...
    def restore(self, kept: Mapping[str, StreamSnapshot]) -> None: ...


class Spawner(Protocol):
    """Who starts children and reaps them; ``supervisor.children.reaper.Reaper`` is one."""

    def spawn(self, spec: SpawnSpec, *, on_exit: Callable[[], None]) -> Child: ...
    async def spawn_in_thread(self, spec: SpawnSpec, *, timeout: float, on_exit: Callable[[], None]) -> Child: ...
    def watch_group(self, group: int, on_empty: Callable[[], None]) -> bool: ...
    def unwatch_group(self, group: int) -> None: ...
    def kill_leftovers(self, group: int) -> int: ...
    def adopt(self, kept: ChildSnapshot, on_exit: Callable[[], None]) -> Child: ...


class Verdict(NamedTuple):
    """A process must go: LIVENESS, STARTUP or WATCHDOG, and why, in words."""

    cause: Cause
    reason: str


class Hold(NamedTuple):
    """What holds a process back from its start, in words. ``for_good``: it never will start unless somebody acts."""

    reason: str
    for_good: bool = False
    cause: Cause = Cause.DEPENDENCY


class Schedule(Protocol):
    """When a process runs; ``supervisor.schedule.Scheduled`` is one."""

    @property
    def next_run(self) -> float | None:
        """On the real clock; None: never, as things stand."""

    def look(self) -> Hold | None:
        """What holds it back now: that its time has not come."""

    def run_now(self) -> None:
        """Somebody asks for a run out of turn."""

    def changed(self, change: Change) -> None:
        """Its state has changed."""

    def status(self) -> ScheduleStatus: ...
    def snapshot(self) -> ScheduleSnapshot: ...
    def restore(self, kept: ScheduleSnapshot) -> None: ...
    def close(self) -> None: ...

    async def run(self) -> None:
        """Tick until closed."""


class Gate(Protocol):
    """What a process has to wait for before each start; ``supervisor.dependencies.Gate`` is one."""

    def look(self) -> Hold | None:
        """What holds it back now; None: it may start."""

    def statuses(self) -> list[DependencyStatus]:
        """What it waits for, one by one, as the status of the process shows it."""


@dataclass(frozen=True)
class Handed:
    """What one start of a process gets: variables, and descriptors by their number in the child. ``ours`` is closed once it has them."""

    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: Mapping[int, int] = field(default_factory=dict)
    ours: tuple[int, ...] = ()

    def close(self) -> None:
        for fd in self.ours:
            os.close(fd)


class Handing(Protocol):
    """What has something to hand to each start of a process."""

    def handles(self) -> Handed:
        """For the next start. Raises OSError and OcelotError."""

    def close(self) -> None:
        """The process is no longer supervised."""


class Sockets(Handing, Protocol):
    """Listening sockets, held over all lives of a process; ``supervisor.process.sockets.Listening`` is one."""

    def renew(self, sockets: Sequence[structs.Socket]) -> None:
        """These from the next start on."""

    def snapshot(self) -> list[SocketSnapshot]: ...
    def restore(self, kept: Sequence[SocketSnapshot]) -> None: ...


class Health(Protocol):
    """Who finds out whether a process is ready and alive, over all its lives; ``supervisor.health.process_health.Health`` is one."""

    @property
    def ready(self) -> bool:
        """What the last probe or notification said."""

    @property
    def extended_to(self) -> float:
        """Until when, on trio's clock, the process asked not to be killed; 0 if it never did."""

    def waits_for(self) -> str:
        """What it still has to do to be ready, in words."""

    def handles(self) -> Handed:
        """For the next start."""

    def expect_reload(self) -> bool:
        """It is about to be told to reload; whether it will say when that is done."""

    async def until_ready(self, child: Child) -> Verdict | None:
        """Run from the spawn on; None when it is ready. Cancelled when the child ends or is to stop."""

    async def watch(self, child: Child) -> Verdict:
        """Run while it is up; returns only when the process must go."""

    def status(self) -> Any:
        """What is known, as the status of the process shows it."""

    def snapshot(self) -> HealthSnapshot: ...
    def restore(self, kept: HealthSnapshot) -> None: ...

    def close(self) -> None:
        """The process is no longer supervised."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes of a set share. ``slow``: whether the file of a program may not answer (a network root).
    ``terminal``: the path of the console, if it is ours to give away."""

    spawner: Spawner
    inherited: Inherited
    environment: Mapping[str, str]
    slow: Callable[[SpawnSpec], bool] = lambda spec: False
    terminal: str | None = None
    jitter: restart.Jitter = lambda: random.uniform(0.8, 1.2)
