"""The control socket: HTTP/1.1 and JSON on a unix socket, and the listener for metrics on TCP.

The sockets are bound at once, but h11 and the endpoints are imported when the first client connects: on the boot path
they would cost more than the whole of the listening (20 ms on a desk, half a second in an emulated machine).

The socket's file appears whole: it is bound under another name, gets its mode and group, and is renamed into place. A
file that is there already is replaced only if nobody answers behind it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import ControlError, OcelotError, describe
from ocelot.states import PowerVerb
from ocelot.wire.protocol import BootTimeline, ProcessStatus, ReloadReply, Role, Status
from supervisor.door import NOBODY, Door, receive

if TYPE_CHECKING:
    from supervisor.connection import Answer
    from supervisor.journal import Journal
    from supervisor.lifecycle import Change
    from supervisor.output import OutputLine
    from supervisor.ring import Line
    from supervisor.stream import Counters
    from supervisor.surroundings import Surroundings

BACKLOG = 128

_PATH_LIMIT = 107
"""Bytes of a path in sockaddr_un (unix(7)), without the final zero."""


class Supervised(Protocol):
    """The processes as the control socket needs them; ``manager.Supervisor`` is one. Names are always known ones."""

    @property
    def names(self) -> Sequence[str]: ...

    def status(self, name: str) -> ProcessStatus: ...

    async def start(self, names: Sequence[str]) -> None:
        """Ask for it; when this returns, what ``status`` says comes after the request."""

    async def stop(self, names: Sequence[str]) -> None: ...

    async def restart(self, names: Sequence[str]) -> None: ...

    def signal(self, names: Sequence[str], number: int) -> None: ...

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
    """What ``supervisor.metrics`` remembers between two scrapes; None until the first."""


async def open_control(
    machine: Controlled, config: structs.Control, nursery: trio.Nursery, *, door: Door, required: bool
) -> None:
    """Open the control socket and answer on it in a task of ``nursery``, whatever becomes of that task.

    ``required``: raise ControlError or OSError if it cannot be opened; else that is told, and all goes on without it.
    """
    opened = False

    async def answer(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await serve(machine, config, door=door, task_status=task_status)
        except Exception as error:
            if not opened:
                raise
            log.error(f"the control socket: {describe(error)}; going on without it")

    try:
        await nursery.start(answer)
        opened = True
    except (OcelotError, OSError) as error:
        if required:
            raise
        log.error(f"the control socket: {describe(error)}; going on without it")


async def serve(
    machine: Controlled,
    config: structs.Control,
    *,
    door: Door | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on the control socket until cancelled. Raises ControlError if it cannot be opened.

    ``door``: to close it for a while, or with the socket that the image before this one has opened. ``config`` says where the
    socket is and who may open it; the roles are those of the machine's configuration at the time of each request.
    """
    from supervisor.permissions import socket_group

    door = door or Door()
    sock = door.sock = door.sock or listen_unix(config.socket, config.mode, socket_group(config.group))
    mine = door.file = _identity(config.socket)

    def welcome(stream: trio.SocketStream) -> tuple[int, Answer]:
        from supervisor.endpoints import control_answer
        from supervisor.permissions import peer_of, role_of

        peer = peer_of(stream.socket)

        def role() -> Role | None:
            return role_of(peer, machine.config.control.roles, own_uid=os.geteuid())

        return peer.uid, control_answer(machine, role, descriptor=stream.socket.fileno())

    try:
        task_status.started()
        await receive(door, sock, welcome)
    finally:
        sock.close()
        with suppress(OSError):  # unless another instance has taken the name since
            if _identity(config.socket) == mine:
                os.unlink(config.socket)


async def serve_metrics(
    machine: Controlled,
    config: structs.Metrics,
    *,
    door: Door | None = None,
    task_status: trio.TaskStatus[tuple[str, int] | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer /metrics and /health on TCP until cancelled; return at once if no listener is configured.

    ``task_status`` gets the address, with the port that the kernel chose for port 0. Raises ControlError if the address
    is wrong or taken.
    """
    if config.listen is None:
        task_status.started(None)
        return
    door = door or Door()
    sock = door.sock = door.sock or listen_tcp(config.listen)

    def welcome(_stream: trio.SocketStream) -> tuple[int, Answer]:
        from supervisor.endpoints import metrics_answer

        return NOBODY, metrics_answer(machine)

    with sock:
        task_status.started(sock.getsockname()[:2])
        await receive(door, sock, welcome)


# -- sockets


def listen_unix(path: str, mode: int, gid: int = -1) -> socket.socket:
    """A listening unix socket at ``path``, whose folder is made if need be (0755). Raises ControlError."""
    if len(os.fsencode(path)) > _PATH_LIMIT - len(_SUFFIX):
        raise ControlError(
            f'cannot listen on "{path}": the path of a unix socket has at most {_PATH_LIMIT - len(_SUFFIX)} bytes here',
            hint="choose a shorter control.socket",
            kind="socket",
        )
    try:
        _make_folder(os.path.dirname(path))
        _refuse_taken(path)
        return _bind_unix(path, mode, gid)
    except OSError as error:
        raise ControlError(f'cannot listen on "{path}": {describe(error)}', kind="socket") from None


_SUFFIX = ".new"


def _bind_unix(path: str, mode: int, gid: int) -> socket.socket:
    temporary = path + _SUFFIX
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        old_mask = os.umask(0o777)  # nobody gets in before the mode and the group are right
        try:
            sock.bind(temporary)
        finally:
            os.umask(old_mask)
        if gid != -1:
            os.chown(temporary, -1, gid)
        os.chmod(temporary, mode)
        sock.listen(BACKLOG)
        os.rename(temporary, path)
    except BaseException:
        sock.close()
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return sock


def restrict(path: str, mode: int, gid: int, mine: tuple[int, int]) -> None:
    """Let others open the socket at ``path``, if that still is ``mine`` (device and inode). Raises OSError, and then all is as before."""
    found = os.lstat(path)
    if (found.st_dev, found.st_ino) != mine:
        raise FileNotFoundError(errno.ENOENT, "it is not the socket of this ocelot any more", path)
    before = stat.S_IMODE(found.st_mode)
    try:
        if gid != found.st_gid:
            os.chmod(path, mode & before)  # the new group is not to get what only the old one may
            os.chown(path, -1, gid)
        os.chmod(path, mode)
    except OSError:
        os.chmod(path, before)
        raise


def _make_folder(folder: str) -> None:
    if folder and not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder)
            os.chmod(folder, 0o755)  # whatever the umask is


def _refuse_taken(path: str) -> None:
    """Raise ControlError if somebody answers at ``path``, or if it is no socket at all."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ControlError(
            f'cannot listen on "{path}": there is something else, and it is not a socket',
            hint="choose another control.socket, or remove it",
            kind="socket",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        result = probe.connect_ex(path)
    if result in (errno.ECONNREFUSED, errno.ENOENT):
        return  # the instance that made it is gone
    raise ControlError(
        f'cannot listen on "{path}": another instance answers there',
        hint="stop that one first, or give this one another control.socket",
        kind="socket",
    )


def listen_tcp(address: str, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket for ``HOST:PORT`` or ``[V6]:PORT`` with a numeric host. Raises ControlError.

    ``shared``: also where another one listens that allows it at this moment (SO_REUSEPORT, socket(7)).
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(port)
    except (OSError, ValueError):
        raise ControlError(
            f'cannot listen on "{address}": it is not a numeric address and a port',
            hint='write metrics.listen as "0.0.0.0:9464" or "[::1]:9464"',
            kind="socket",
        ) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except OSError as error:
        sock.close()
        raise ControlError(f'cannot listen on "{address}": {describe(error)}', kind="socket") from None
    return sock


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
