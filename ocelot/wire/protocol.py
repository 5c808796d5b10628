"""What goes over the control socket as JSON, and its version. The server, the client and the OpenAPI document share it.

Times are seconds: ``*At`` on the real clock since the epoch (for people), the others durations.
"""

from typing import Literal

from msgspec import Struct

API = "/v1"


class Wire(Struct, kw_only=True, rename="camel", omit_defaults=False):
    """What every message has in common; unknown fields are ignored so that an older client reads a newer server."""


class ExitInfo(Wire, kw_only=True):
    """How a process last ended. ``status`` is what a shell would show (128 + n for a signal)."""

    status: int
    code: int | None = None
    signal: str | None = None
    cause: str
    detail: str = ""
    at: float


class ProcessStatus(Wire, kw_only=True):
    name: str
    state: str
    goal: str
    ready: bool
    pid: int | None = None
    type: str = "service"
    essential: bool = False
    started_at: float | None = None
    uptime: float | None = None
    restarts: int = 0
    restarts_by_cause: dict[str, int] = {}
    next_start_in: float | None = None
    last_exit: ExitInfo | None = None
    reason: str = ""
    """Why it is in this state, in words."""
    program: str = ""


class Status(Wire, kw_only=True):
    version: str
    hostname: str
    identity: str
    phase: Literal["boot", "running", "shutdown", "failed"]
    pid: int
    uptime: float
    processes: list[ProcessStatus] = []


class ActionReply(Wire, kw_only=True):
    """What start, stop, restart and signal did, one entry a process."""

    processes: list[ProcessStatus]


class LogLine(Wire, kw_only=True):
    at: float
    name: str
    stream: Literal["stdout", "stderr"]
    text: str


class Span(Wire, kw_only=True):
    """One piece of the boot. ``start`` and ``end`` are seconds since PID 1 started; ``end`` None: still going on."""

    name: str
    phase: str
    start: float
    end: float | None = None
    outcome: Literal["running", "ok", "skipped", "warned", "failed"] = "running"
    detail: str = ""


class BootTimeline(Wire, kw_only=True):
    """``before`` is the time between the kernel's start and PID 1's first instruction (seconds), if it is known."""

    spans: list[Span]
    before: float | None = None
    finished: bool = False


class Problem(Wire, kw_only=True):
    """The body of every answer that is not a success."""

    kind: str
    message: str
    hint: str = ""


class ExitReport(Wire, kw_only=True):
    """What the host is told, one JSON line on the exit port and on the console, before the machine goes down."""

    status: int
    reason: str
    verb: str
    process: str | None = None
    phase: str = "running"
    hint: str = ""
    uptime: float = 0.0
