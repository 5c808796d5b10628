"""What goes over the control socket as JSON, and its version. The server, the client and the OpenAPI document share it.

Times are seconds: ``*At`` on the real clock since the epoch (for people), the others durations.
"""

import enum
from typing import Annotated, Literal

from msgspec import Meta, Struct

API = "/v1"


class Role(enum.StrEnum):
    """What a peer of the control socket may do; each role includes the ones before it."""

    READ = "read"  # look: status, logs, the boot, metrics
    OPERATE = "operate"  # start, stop, restart and signal processes
    ADMIN = "admin"  # end the machine


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


class ProbeStatus(Wire, kw_only=True):
    """A probe and its last result. ``successes`` and ``failures`` are those in a row; ``runs``, ``misses`` and ``seconds``
    (the sum of the latencies) count over all lives of the process."""

    role: Literal["readiness", "liveness", "startup"]
    type: str
    ok: bool | None = None
    at: float | None = None
    latency: float | None = None
    output: str = ""
    successes: int = 0
    failures: int = 0
    runs: int = 0
    misses: int = 0
    seconds: float = 0.0


class NotifyStatus(Wire, kw_only=True):
    """What the process has said about itself. ``watchdog``: seconds that it may be silent; ``pinged``: since it was last heard.

    ``reload``: how far the reload is that was asked for last; None if none was in this life of it.
    """

    state: Literal["silent", "ready", "reloading", "stopping"] = "silent"
    text: str = ""
    errno: int | None = None
    main_pid: int | None = None
    watchdog: float | None = None
    pinged: float | None = None
    reload: Literal["asked", "reloading", "done"] | None = None


class HealthStatus(Wire, kw_only=True):
    probes: list[ProbeStatus] = []
    notify: NotifyStatus | None = None


class DependencyStatus(Wire, kw_only=True):
    """What a process depends on, by the name of the configuration. ``met``: the condition holds now."""

    name: str
    condition: str
    required: bool = True
    restart: bool = False
    met: bool


class ScheduleStatus(Wire, kw_only=True):
    """``next_run``: on the real clock; None while it is stopped. ``skipped``: times at which the run before still went on."""

    when: str
    overlap: str
    next_run: float | None = None
    skipped: int = 0
    queued: bool = False


class OutputStatus(Wire, kw_only=True):
    """An output stream of a process that did not all reach its destination. ``dropped``: bytes. ``problem``: why none does now, or ""."""

    stream: str
    dropped: int = 0
    problem: str = ""


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
    health: HealthStatus | None = None
    group: str | None = None
    """The entry of the configuration that it is a replica of."""
    depends_on: list[DependencyStatus] = []
    schedule: ScheduleStatus | None = None
    output: list[OutputStatus] = []
    """Only streams of which something was lost."""
    failed: bool = False
    """It has failed for good: it does not run, though it should, did not end with success, and nothing starts it again."""


class Status(Wire, kw_only=True):
    version: str
    hostname: str
    identity: str
    phase: Literal["boot", "running", "shutdown", "failed"]
    pid: int
    uptime: float
    processes: list[ProcessStatus] = []


class ProcessList(Wire, kw_only=True):
    processes: list[ProcessStatus]


class ActionRequest(Wire, kw_only=True):
    """What to start, stop, restart, signal or reload. Every field may be left out.

    ``names``: names or glob patterns, added to the name in the path. ``wait``: answer when it has taken effect, or after
    ``timeout`` seconds. ``signal``: SIGHUP, HUP or 1; only for signal, where it is needed. ``token``: any text that is this request's
    own. When the connection is cut while it waits, send it again: what was asked for already is not asked for twice.
    """

    names: list[str] = []
    wait: bool = True
    timeout: float = 90.0
    signal: str | int | None = None
    token: str = ""


class ScaleRequest(Wire, kw_only=True):
    """How many replicas there are to be. ``wait``: answer when the new ones are up and the others gone."""

    replicas: int
    wait: bool = True
    timeout: float = 90.0


class ActionReply(Wire, kw_only=True):
    """What start, stop, restart, signal and reload led to, one entry a process.

    ``settled``: each process has arrived where the action leads; false after ``wait: false`` or when the time was up.
    ``failed``: names of the processes that have arrived somewhere else (a start that ended in ``fatal``).
    """

    processes: list[ProcessStatus]
    settled: bool = True
    failed: list[str] = []


class WaitRequest(Wire, kw_only=True):
    """What to wait for. ``names``: names or glob patterns, added to the name in the path. ``timeout`` in seconds.

    ``condition``: ready (it serves, as far as its probes tell), running (it runs), exited (it has ended, however), completed (it has
    ended with success), stopped (nothing of it runs, and nothing is about to).
    """

    names: list[str] = []
    condition: Literal["ready", "running", "exited", "completed", "stopped"] = "ready"
    timeout: float = 90.0


class StateChange(Wire, kw_only=True, tag_field="kind", tag="change"):
    """A process has gone from one state to another, or has become ready or not while it runs.

    ``number`` grows by one with each change, and is what ``after`` takes. ``cause``: why it ended, if it did.
    """

    number: int
    at: float
    name: str
    before: str
    state: str
    event: str
    reason: str
    cause: str | None = None


class Gap(Wire, kw_only=True, tag_field="kind", tag="gap"):
    """Changes are missing here: so many, or nobody knows how many. The reader was too slow, or away for too long."""

    missed: int | None = None


class SessionRequest(Wire, kw_only=True):
    """A command to run beside a process, as it would run: with its environment, user, limits, folder and cgroup.

    ``argv`` empty: a shell (SHELL, else /bin/sh). ``environment`` is added. ``terminal``: standard input is a terminal, and becomes the
    controlling one. After the answer 101 the client sends one message with three descriptors (SCM_RIGHTS): the command's
    standard input, output and error. Then both sides send JSON, one object a line. Whoever hangs up ends the session.
    """

    argv: list[str] = []
    environment: dict[str, str] = {}
    working_directory: str | None = None
    terminal: bool = False


class SessionSignal(Wire, kw_only=True, tag_field="kind", tag="signal"):
    """From the client: send ``signal`` (a number) to the process group of the command."""

    signal: int


class SessionStarted(Wire, kw_only=True, tag_field="kind", tag="started"):
    pid: int


class SessionEnded(Wire, kw_only=True, tag_field="kind", tag="ended"):
    """The last message. ``status`` is what a shell would show; ``message``: why the command never ran, else empty.

    Of a process, not a command: how it ended; it may be started again.
    """

    status: int
    code: int | None = None
    signal: str | None = None
    message: str = ""
    hint: str = ""


Cells = Annotated[int, Meta(ge=1, le=65535)]


class TerminalRequest(Wire, kw_only=True):
    """To be connected with the terminal of a process (``stdin: pty``), from the last ``lines`` lines on, or from a place on.

    ``after``: the ``at`` of the last message, to go on after a cut without losing anything that is still kept; ``pid``: that of
    :class:`TerminalAttached` then: if it has ended since, that is the answer. ``rows`` and ``columns``: the size of a terminal
    that shows it. After the answer 101 both sides send JSON, one object a line (and blank lines, which mean nothing); ``data`` is base64.
    """

    lines: int = 10
    after: int | None = None
    pid: int | None = None
    rows: Cells | None = None
    columns: Cells | None = None


class TerminalInput(Wire, kw_only=True, tag_field="kind", tag="input"):
    """From the client: what was typed, up to 64 KiB at once. More is not read while the process does not read this."""

    data: bytes


class TerminalSize(Wire, kw_only=True, tag_field="kind", tag="size"):
    """From the client: its terminal has another size now. The size that came last is that of the process."""

    rows: Cells
    columns: Cells


class TerminalAttached(Wire, kw_only=True, tag_field="kind", tag="attached"):
    """The first message. ``at``: the place in the output that is met now."""

    pid: int | None
    at: int


class TerminalWritten(Wire, kw_only=True, tag_field="kind", tag="output"):
    """What the process has written to its terminal, byte by byte, and the place behind it."""

    data: bytes
    at: int


class PowerReply(Wire, kw_only=True):
    """The machine is going down. The connection may end at any moment from now on.

    ``identity``: of ocelot, as in a status. Where that is not ``machine``, only ocelot ends.
    """

    verb: str
    identity: str


class ReloadRequest(Wire, kw_only=True):
    """``file``: another file than the one that ocelot was started with. ``dry_run``: only tell what would be done.

    ``keep_scale``: entries that were scaled keep their number of replicas, whatever the file says.
    """

    file: str | None = None
    dry_run: bool = False
    keep_scale: bool = False


class Difference(Wire, kw_only=True):
    """One field whose value is another one in the file; None: it is not set there.

    ``effect``: live (it holds at once), restart (the process is started again for it), reboot (it takes the next start of ocelot).
    ``scaled``: the value before does not come from a file: somebody has scaled it.
    """

    path: str
    before: str | None
    after: str | None
    scaled: bool = False
    effect: Literal["live", "restart", "reboot"] = "live"


class EntryChange(Wire, kw_only=True):
    """An entry of ``processes`` that is new, gone or different."""

    name: str
    change: Literal["added", "removed", "changed"]
    effect: Literal["live", "restart"]
    fields: list[Difference] = []


class ReloadReply(Wire, kw_only=True):
    """What a reload did, or would do. ``problems``: why the file cannot be used, in which case nothing was changed.

    ``restarted``: the processes that are started again. ``failed``: what could not be done, in words.
    """

    file: str
    applied: bool
    problems: list[str] = []
    warnings: list[str] = []
    entries: list[EntryChange] = []
    sections: list[Difference] = []
    restarted: list[str] = []
    failed: list[str] = []


class ReexecRequest(Wire, kw_only=True):
    """``runtime``: the absolute path of a folder with ``bin/ocelot`` in it; None: what runs now, read anew."""

    runtime: str | None = None


class ReexecReply(Wire, kw_only=True):
    """Another image of ocelot runs now, as the same process; it is the one that answers.

    ``turn``: how often that has happened since the first one started. ``away``: seconds in which nobody supervised.
    """

    version: str
    python: str
    turn: int
    processes: int
    away: float


class Version(Wire, kw_only=True):
    version: str
    api: str = API
    python: str


class Health(Wire, kw_only=True):
    """``healthy``: ocelot answers, and no supervised process has failed for good (``failed`` of its status)."""

    healthy: bool
    phase: str
    failed: list[str] = []


class ProcessFigures(Wire, kw_only=True):
    """What a process uses, with its children. ``cpuSeconds`` and the bytes read and written only grow; null: not ours to see."""

    name: str
    cpu_seconds: float
    resident_memory: int
    proportional_memory: int | None = None
    processes: int
    threads: int
    open_fds: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


class FiguresReply(Wire, kw_only=True):
    """``at``: when they were read, seconds of a clock that only goes forward: the difference of two replies gives rates."""

    at: float
    processes: list[ProcessFigures]


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
