"""The records of health: probes, notification and the sockets that ocelot holds for a process.

Annotations are real objects, not strings, since ``converting`` and ``schema`` read them.
"""

from typing import Literal

from ocelot.config.base import Base, Duration, Mode, Text


class HttpGet(Base, frozen=True, kw_only=True, tag_field="type", tag="httpGet"):
    """A GET request. ``expected_status``: ``204``, ``200-299`` or ``200,404``; None is 200-399."""

    host: Text = "127.0.0.1"
    path: Text = "/"
    port: int
    scheme: Literal["http", "https"] = "http"
    headers: dict[str, Text] = {}  # noqa: RUF012 (msgspec copies defaults)
    expected_status: Text | None = None


class TcpSocket(Base, frozen=True, kw_only=True, tag_field="type", tag="tcpSocket"):
    """A TCP connection that is accepted."""

    host: Text = "127.0.0.1"
    port: int


class ExecCommand(Base, frozen=True, kw_only=True, tag_field="type", tag="exec"):
    """A program that exits with 0, run with the user, environment and cgroup of the process."""

    command: tuple[Text, ...]


class UnixSocket(Base, frozen=True, kw_only=True, tag_field="type", tag="unixSocket"):
    """A connection to a unix socket that is accepted."""

    path: Text


class Grpc(Base, frozen=True, kw_only=True, tag_field="type", tag="grpc"):
    """grpc.health.v1 answers SERVING. ``service``: empty for the server as a whole."""

    host: Text = "127.0.0.1"
    port: int
    service: Text = ""


class LogPattern(Base, frozen=True, kw_only=True, tag_field="type", tag="log"):
    """A line of its output that matches ``pattern``, a regular expression, once in each life."""

    pattern: Text


Handler = HttpGet | TcpSocket | ExecCommand | UnixSocket | Grpc | LogPattern


class Probe(Base, frozen=True, kw_only=True):
    """How to find out whether a process is ready or alive, and how often. A probe that takes ``timeout`` has failed.

    Until it is ready for the first time, a process is asked sooner than after a ``period``: after 100ms, 200ms, 400ms...
    """

    handler: Handler
    initial_delay: Duration = 0.0
    period: Duration = 10.0
    timeout: Duration = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1


class Notify(Base, frozen=True, kw_only=True):
    """How the process says that it is ready: sd_notify(3), or a newline on descriptor ``fd``.

    In the file also as a word (``notify: systemd``), and without the type where ``fd`` is given. ``watchdog``: it must send
    WATCHDOG=1 that often. ``timeout``: how long it may take to be ready. ``reload``: it says RELOADING=1 and READY=1 when it reloads.
    """

    type: Literal["none", "systemd", "fd"] | None = None
    fd: int | None = None
    watchdog: Duration | None = None
    timeout: Duration = 90.0
    reload: bool = True

    @property
    def kind(self) -> str:
        """``none``, ``systemd`` or ``fd``."""
        return self.type or ("none" if self.fd is None else "fd")


class Socket(Base, frozen=True, kw_only=True):
    """A socket that is opened once and passed to every life of the process, and to every replica (sd_listen_fds(3)).

    ``listen``: ``tcp://HOST:PORT``, ``udp://HOST:PORT``, ``unix:///PATH``; ``HOST:PORT`` is TCP, ``/PATH`` a unix socket.
    ``mode``, ``user`` and ``group`` are those of a unix socket's file.
    """

    name: Text
    listen: Text
    mode: Mode | None = None
    user: Text | None = None
    group: Text | None = None
    backlog: int = 4096
