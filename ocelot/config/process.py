"""The records of one process entry and what it contains; ``structs`` has them too, under the same names.

Annotations are real objects, not strings, since ``loading`` and ``schema`` read them.
"""

import enum
from typing import Literal

from ocelot.config.base import Base, Duration, Mode, SignalNumber, Size, Text
from ocelot.config.ordering import Command, Dependency, Schedule
from ocelot.config.privileges import Capabilities, IoPriority, Limits, Resources
from ocelot.config.probes import Notify, Probe, Socket


class RestartType(enum.StrEnum):
    NEVER = "Never"
    ON_FAILURE = "OnFailure"
    ALWAYS = "Always"
    UNLESS_STOPPED = "UnlessStopped"


class RestartPolicy(Base, frozen=True, kw_only=True):
    """When and how fast to start a process again. ``max_retries`` None: without limit. ``backoff`` 0: at once."""

    type: RestartType = RestartType.NEVER
    max_retries: int | None = None
    backoff: Duration = 2.0
    max_backoff: Duration = 60.0
    multiplier: float = 2.0
    reset_after: Duration = 60.0
    success_exit_codes: tuple[int, ...] = (0,)


class Inherit(Base, frozen=True, kw_only=True, tag_field="type", tag="inherit"):
    """Relayed through ocelot onto its own output."""


class Direct(Base, frozen=True, kw_only=True, tag_field="type", tag="direct"):
    """ocelot's own descriptor itself, without a relay."""


class Null(Base, frozen=True, kw_only=True, tag_field="type", tag="null"):
    """Thrown away."""


class File(Base, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """Appended to ``path``; missing folders are made. Streams that name the same file share it, line by line.

    A file that somebody moves away or removes is made again within a second.
    """

    path: Text


class Syslog(Base, frozen=True, kw_only=True, tag_field="type", tag="syslog"):
    """RFC 5424. ``address``: a unix datagram socket's path, or ``udp://HOST:PORT`` (numeric host)."""

    address: Text = "/dev/log"


class Kmsg(Base, frozen=True, kw_only=True, tag_field="type", tag="kmsg"):
    """The kernel log, one record a line."""


Destination = Inherit | Direct | Null | File | Syslog | Kmsg


class Rotation(Base, frozen=True, kw_only=True):
    """When a log file makes way for a new one, and how many old ones stay: ``PATH.20261123T094500Z-1``, then ``.gz``.

    At least one of ``max_size_bytes`` and ``rotation_interval``. The interval counts from the epoch (1h: on the hour, 1d: at
    midnight UTC) and takes effect with the first line after it. ``max_files`` and ``max_age_days`` None: no limit; what they
    say is done at the start and after each rotation. ``mode`` None: that of the file before, at first 0640.
    """

    max_size_bytes: Size | None = None
    rotation_interval: Duration | None = None
    max_files: int | None = None
    max_age_days: int | None = None
    mode: Mode | None = None
    compression: Literal["none", "gzip", "lz4"] = "none"


class Stream(Base, frozen=True, kw_only=True):
    """Where one output stream of a process goes. ``ring`` bytes of it are kept in memory for ``ocelotctl logs``.

    ``format`` json: one object a line with time, name, stream and message, for ``inherit`` and ``file``.
    """

    destination: Destination = Inherit()
    format: Literal["text", "json"] = "text"
    rotation: Rotation | None = None
    on_full: Literal["drop", "block"] = "drop"
    ring: Size = 65536


class Log(Base, frozen=True, kw_only=True):
    stdout: Stream = Stream()
    stderr: Stream = Stream()


class Process(Base, frozen=True, kw_only=True):
    """A supervised process.

    ``user``: by name or number; it comes with its groups and with HOME, USER, LOGNAME and SHELL. ``group`` takes the place of its own
    group, and is needed for a number that /etc/passwd does not know; ``supplementary_groups`` are added. Without a user the
    groups are exactly those named. ``nice`` and ``oom_score_adjust`` are absolute, not added to ocelot's.

    ``stdin`` tty: the console becomes its controlling terminal, its input, and each output whose destination is ``inherit``, which then
    has no log. Only one process can have it. When ocelot is not the init of a machine, that is the terminal it was started on.
    ``stdin`` pty: a terminal of its own, which ocelotctl attach connects with yours. What it writes there is its standard output, and
    its standard error too, unless ``log.stderr`` says something else than ``log.stdout``; TERM is xterm if nothing else is said.
    For a program that draws on the whole screen, let ``log.stdout`` go to ``null``: who is attached sees it all the same. A shell that is
    not to wait out its grace period wants SIGHUP as ``shutdownSignal``.

    What the machine refuses (an unknown user, a limit, a capability) is a failed start that names the step.
    """

    program: Text
    arguments: tuple[Text, ...] = ()
    working_directory: Text | None = None
    environment_variables: dict[str, Text] = {}
    environment_file: Text | None = None
    type: Literal["service", "oneshot"] = "service"
    essential: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    shutdown_signal: SignalNumber = 15
    termination_grace_period: Duration = 60.0
    log: Log = Log()
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    notify: Notify | None = None
    sockets: tuple[Socket, ...] = ()
    user: Text | None = None
    group: Text | None = None
    supplementary_groups: tuple[Text, ...] = ()
    umask: Mode | None = None
    limits: Limits | None = None
    nice: int | None = None
    ioprio: IoPriority | None = None
    oom_score_adjust: int | None = None
    no_new_privileges: bool = False
    capabilities: Capabilities | None = None
    resources: Resources | None = None
    stdin: Literal["null", "tty", "pty"] = "null"
    depends_on: dict[str, Dependency] = {}
    replicas: int | None = None
    schedule: Schedule | None = None
    reload_signal: SignalNumber | None = None
    pre_start: tuple[Command, ...] = ()
    post_stop: tuple[Command, ...] = ()
