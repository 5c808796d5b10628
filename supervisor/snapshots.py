"""What a running ocelot is made of, as records that go through a memory file to the image that replaces it.

Each class of the supervisor has a ``snapshot`` and a ``restore`` for its own record. Numbers of descriptors and pids stay what
they are across execve(2); times are those of the monotonic clock, since trio's own begins anew in each run.

To add a field is compatible in both directions when its default is what an image without it would have done: unknown fields are
ignored, missing ones get their default. Whatever else changes needs a new :data:`VERSION`.

Imported only when a process is replaced.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

import msgspec
import trio
from msgspec import Struct

from ocelot import __version__
from ocelot.config import structs
from ocelot.errors import OcelotError
from ocelot.states import Cause, ExitStatus, Goal, PowerVerb, State
from ocelot.wire.protocol import BootTimeline, ExitInfo
from supervisor import restart
from supervisor.counted import Account
from supervisor.lifecycle import Change

VERSION = 1


class NotNow(Exception):
    """Something is in a state that only this image can bring to an end; it says what. Soon it will be over: ask again."""


class Snapshot(Struct, kw_only=True, omit_defaults=True):
    """What all of these records have in common."""


class ChildSnapshot(Snapshot, kw_only=True):
    """A child of ours. ``status``: it has ended and was reaped, but its owner has not taken note yet.

    ``heir``, ``heir_fd``: the process that it goes on as when it ends, and a pidfd of that.
    """

    pid: int
    kill_group: bool
    group: int = 0
    status: ExitStatus | None = None
    heir: int = 0
    heir_fd: int = -1


class RingSnapshot(Snapshot, kw_only=True):
    data: bytes
    start: int = 0
    cut: bool = False
    positions: list[int] = []
    times: list[float] = []


class LogFileSnapshot(Snapshot, kw_only=True):
    """What is known of an open log file. ``line``: bytes of this stream's unfinished line at its end.

    ``last``: the time and the number in the last name that an old file got.
    """

    size: int
    device: int
    inode: int
    line: int = 0
    last: tuple[str, int] | None = None


class StreamSnapshot(Snapshot, kw_only=True):
    """``fd``: our end of the pipe, -1 for none. ``rest``, ``waiting``, ``pending``: read from it, but not yet written."""

    fd: int
    ring: RingSnapshot
    read: int = 0
    dropped: int = 0
    rest: bytes = b""
    waiting: bytes = b""
    gap: int = 0
    mid_line: bool = False
    broken: bool = False
    problem: str = ""
    rotations: int = 0
    wide: bool = False
    pending: bytes = b""
    file: LogFileSnapshot | None = None


class HistorySnapshot(Snapshot, kw_only=True):
    last_end: restart.End | None = None
    last_exit: ExitInfo | None = None
    restarts: dict[str, int] = {}
    in_a_row: int = 0


class ResultSnapshot(Snapshot, kw_only=True):
    """``at``: seconds since the epoch. ``latency``: seconds."""

    ok: bool
    at: float
    latency: float
    output: str


class ProbeSnapshot(Snapshot, kw_only=True):
    """``due``: the time of the next check."""

    due: float
    successes: int = 0
    failures: int = 0
    runs: int = 0
    misses: int = 0
    seconds: float = 0.0
    last: ResultSnapshot | None = None


class NotifySnapshot(Snapshot, kw_only=True):
    """What a process has said. ``fd``: the socket, or the pipe for a newline; -1 for none."""

    fd: int = -1
    ready: bool = False
    path: str | None = None
    address: str = ""
    state: str = "silent"
    text: str = ""
    errno: int | None = None
    main_pid: int | None = None
    watchdog: float | None = None
    pinged: float = 0.0
    extended_to: float = 0.0
    triggered: bool = False
    reload: tuple[int, str] | None = None


class HealthSnapshot(Snapshot, kw_only=True):
    """``leader``: the pid whose health it is, 0 while there is none. ``lines``: those of the log that were found."""

    ready: bool = False
    leader: int = 0
    probes: dict[str, ProbeSnapshot] = {}
    said: NotifySnapshot | None = None
    lines: list[str | None] = []
    looking: bool = False


class SocketSnapshot(Snapshot, kw_only=True):
    """A socket that a process is handed. ``device``, ``inode``: of the file that is ours, if it has one."""

    fd: int
    listen: str
    device: int | None = None
    inode: int = 0


class ScheduleSnapshot(Snapshot, kw_only=True):
    """``next_run``: on the real clock."""

    next_run: float | None = None
    due: bool = False
    queued: bool = False
    skipped: int = 0


class ProcessSnapshot(Snapshot, kw_only=True):
    """``config`` is what it runs with, whatever the file says by now. ``told``: when the signal of a stop was sent."""

    name: str
    config: structs.Process
    state: State
    goal: Goal
    reason: str
    history: HistorySnapshot
    child: ChildSnapshot | None = None
    began: float = 0.0
    began_at: float | None = None
    next_start: float = 0.0
    told: float | None = None
    verdict: tuple[Cause, str] | None = None
    why: Cause = Cause.OPERATOR
    again: Cause | None = None
    start_wanted: bool = False
    stop_wanted: bool = False
    grace_limit: float | None = None
    kill_wanted: bool = False
    streams: dict[str, StreamSnapshot] = {}
    health: HealthSnapshot | None = None
    sockets: list[SocketSnapshot] = []
    schedule: ScheduleSnapshot | None = None

    def descriptors(self) -> list[int]:
        fds = [stream.fd for stream in self.streams.values()] + [each.fd for each in self.sockets]
        fds += [self.child.heir_fd] if self.child is not None else []
        return fds + ([self.health.said.fd] if self.health is not None and self.health.said is not None else [])


class JournalSnapshot(Snapshot, kw_only=True):
    origin: int
    latest: int
    entries: list[tuple[float, Change]] = []


class SupervisorSnapshot(Snapshot, kw_only=True):
    """``configs``: the entries of the configuration as they hold now. ``going_on``: those that have not ended by themselves.

    ``idle_sockets``: those of entries that have no process now, by the name of the entry. ``scaled``: entries whose replicas are not
    those of the file. ``under_way``: requests that wait for what they have led to, see ``controlled.Supervised``.
    ``over``: how it has come to its end, while that was under way.
    """

    configs: dict[str, structs.Process]
    processes: list[ProcessSnapshot]
    journal: JournalSnapshot | None = None
    shutdown_timeout: float | None = None
    going_on: list[str] = []
    idle_sockets: dict[str, list[SocketSnapshot]] = {}
    scaled: list[str] = []
    first_failure: str | None = None
    over: tuple[int, str | None, str] | None = None
    under_way: dict[str, dict[str, float | None]] = {}


class ReaperSnapshot(Snapshot, kw_only=True):
    """``passing``: children whose end nobody will ask for any more: checks, which the next image makes anew.

    ``oom_score_adjust``: what children are to have; None if ours is no other.
    """

    passing: list[int] = []
    children_reaped: int = 0
    orphans_reaped: int = 0
    oom_score_adjust: int | None = None


class MeasuresSnapshot(Snapshot, kw_only=True):
    """What is remembered between two scrapes. ``busy``: the loop's stretches, by length; ``seconds`` and ``longest`` of them."""

    accounts: dict[str, Account] = {}
    busy: list[int] = []
    seconds: float = 0.0
    longest: float = 0.0


class InheritedSnapshot(Snapshot, kw_only=True):
    """What whoever started the first image gave it; see ``linux.inherited``."""

    limits: dict[int, tuple[int, int]]
    environment: list[bytes]
    mask: list[int] = []


class LifeSnapshot(Snapshot, kw_only=True):
    """Everything. ``bootstrap`` or ``supervise``: the configuration, by its kind. ``mask``: our own, when all is normal.

    ``sockets``: listening ones, by what they are for. ``answer``: the connection that waits to hear how it went.
    ``stdout``, ``stderr``: what was taken for them, but not yet written. ``turn``: how many images there were before.
    ``measures``: None if nobody has asked for figures yet. ``requested``: the end that was asked for, and why.
    ``breaks``: when the event loop broke lately.
    """

    pid: int
    kind: str
    file: bytes | None
    born: float
    inherited: InheritedSnapshot
    environment: list[bytes]
    supervisor: SupervisorSnapshot
    reaper: ReaperSnapshot
    timeline: BootTimeline
    bootstrap: structs.Bootstrap | None = None
    supervise: structs.SuperviseFile | None = None
    socket: str | None = None
    mask: list[int] = []
    sockets: dict[str, int] = {}
    answer: int = -1
    stdout: bytes = b""
    stderr: bytes = b""
    turn: int = 0
    left: float = 0.0
    colour: str = "auto"
    requested: tuple[PowerVerb | None, str] | None = None
    breaks: list[float] = []
    measures: MeasuresSnapshot | None = None

    def descriptors(self) -> list[int]:
        """Every descriptor that has to stay open across execve(2)."""
        fds = [*self.sockets.values(), self.answer]
        for process in self.supervisor.processes:
            fds += process.descriptors()
        fds += [each.fd for sockets in self.supervisor.idle_sockets.values() for each in sockets]
        return sorted({fd for fd in fds if fd >= 0})


def encode(life: LifeSnapshot) -> bytes:
    """As MessagePack, for :func:`understand` in another image."""
    return msgspec.msgpack.encode(life)


def understand(version: int, body: bytes) -> LifeSnapshot:
    """What another image has written. Raises OcelotError if this ocelot does not know what to make of it."""
    if version != VERSION:
        raise OcelotError(
            f"cannot take over: the state has version {version}, ocelot {__version__} reads {VERSION}",
            hint="use a runtime that is nearer to the one that runs, or reboot",
        )
    try:
        kept = msgspec.msgpack.decode(body, type=LifeSnapshot)
    except msgspec.DecodeError as error:
        raise OcelotError(f"cannot take over: the state is not understood: {error}") from error
    if kept.bootstrap is None and kept.supervise is None:
        raise OcelotError("cannot take over: the state has no configuration")
    return kept


def pack_environment(environment: Mapping[str, str]) -> list[bytes]:
    """Variables need not be UTF-8."""
    return [os.fsencode(f"{name}={value}") for name, value in environment.items()]


def unpack_environment(packed: Iterable[bytes]) -> dict[str, str]:
    """What :func:`pack_environment` has packed: names and values need not be UTF-8 (os.fsdecode)."""
    pairs = (os.fsdecode(entry).partition("=") for entry in packed)
    return {name: value for name, _, value in pairs}


def monotonic(at: float) -> float:
    """A time of trio's clock as one that the next image understands."""
    return at - trio.current_time() + time.monotonic()


def trio_time(at: float) -> float:
    """The reverse of :func:`monotonic`, in the next image."""
    return at - time.monotonic() + trio.current_time()
