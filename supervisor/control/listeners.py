"""Listening sockets: a unix socket whose file appears whole, and TCP at a numeric address.

The unix socket is bound under another name, gets its mode and group, and is renamed into place. A file that is there already is
replaced only if nobody answers behind it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from ocelot.errors import ControlError, describe
from ocelot.linux.folders import make_open
from ocelot.linux.links import held, held_socket

BACKLOG = 128

_PATH_LIMIT = 107
"""Bytes of a path in sockaddr_un (unix(7)), without the final zero."""


def listen_unix(path: str, mode: int, gid: int = -1) -> socket.socket:
    """A listening unix socket at ``path``, whose folder is made if need be (0755). Raises ControlError."""
    if len(os.fsencode(path)) > _PATH_LIMIT - len(_SUFFIX):
        raise ControlError(
            f'cannot listen on "{path}": the path of a unix socket has at most {_PATH_LIMIT - len(_SUFFIX)} bytes here',
            hint="choose a shorter control.socket",
            kind="socket",
        )
    try:
        make_open(os.path.dirname(path))
        _refuse_taken(path)
        return _bind_unix(path, mode, gid)
    except OSError as error:
        hint = "name another with control.socket or --socket PATH, and to ocelotctl with OCELOT_SOCKET"
        raise ControlError(f'cannot listen on "{path}": {describe(error)}', hint=hint, kind="socket") from None


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
        with held_socket(temporary) as (same, _):
            if gid != -1:
                os.chown(same, -1, gid)
            os.chmod(same, mode)
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
    with held(path) as (same, found):
        if (found.st_dev, found.st_ino) != mine:
            raise FileNotFoundError(errno.ENOENT, "it is not the socket of this ocelot any more", path)
        before = stat.S_IMODE(found.st_mode)
        try:
            if gid != found.st_gid:
                os.chmod(same, mode & before)  # the new group is not to get what only the old one may
                os.chown(same, -1, gid)
            os.chmod(same, mode)
        except OSError:
            os.chmod(same, before)
            raise


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


def identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
