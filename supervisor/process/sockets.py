"""Socket activation: the sockets that a process listens on are ours, opened once, so that no restart refuses a connection.

The kernel queues connections (up to the backlog) while nobody accepts, as long as the listening socket itself is open, and it is
open here. The child gets them from descriptor 3 on, with LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID (sd_listen_fds(3)).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.config.addresses import Address, parse_address
from ocelot.errors import OcelotError
from ocelot.linux.links import held_socket
from supervisor.process.surroundings import Handed

if TYPE_CHECKING:
    from supervisor.snapshots import SocketSnapshot

FIRST = 3
"""The number of the first descriptor in the child, SD_LISTEN_FDS_START."""

UNIX_MODE = 0o666
"""Of the file of a unix socket, if the configuration does not say: whoever may reach its folder may connect, as in systemd."""

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "unix": socket.SOCK_STREAM}


class _Open:
    """One socket that is open. ``inode`` proves at the end that the file is still ours."""

    __slots__ = ("address", "inode", "sock")

    def __init__(self, address: Address, sock: socket.socket, inode: tuple[int, int] | None = None) -> None:
        self.address = address
        self.sock = sock
        self.inode = inode

    def close(self) -> None:
        self.sock.close()
        if self.inode is not None:
            with suppress(OSError):
                found = os.lstat(self.address.path)
                if (found.st_dev, found.st_ino) == self.inode:
                    os.unlink(self.address.path)


_Key = tuple[object, ...]


def _key(config: structs.Socket) -> _Key:
    """What makes it this socket, and not another one on the same address."""
    return (parse_address(config.listen).shown, config.mode, config.user, config.group)


class Listening:
    """The sockets of one entry, over all lives of its process, or of all its replicas: these have the same ones.

    Opened before the first start and held until :meth:`close`.
    """

    def __init__(self, sockets: Sequence[structs.Socket]) -> None:
        self._sockets = tuple(sockets)
        self._open: dict[_Key, _Open] = {}
        self._restored = False

    def handles(self) -> Handed:
        """What each start gets; the descriptors stay ours. Raises OcelotError if a socket cannot be opened."""
        self._open_all()
        environment = {
            "LISTEN_FDS": str(len(self._sockets)),
            "LISTEN_FDNAMES": ":".join(each.name for each in self._sockets),
        }
        fds = [self._open[_key(each)].sock.fileno() for each in self._sockets]
        return Handed(environment, {FIRST + index: fd for index, fd in enumerate(fds)})

    def renew(self, sockets: Sequence[structs.Socket]) -> None:
        """These from the next start on. What is listened on before and after stays open all the time."""
        self._sockets = tuple(sockets)
        wanted = {_key(each): each for each in sockets}
        for key, opened in tuple(self._open.items()):
            if key not in wanted:
                self._open.pop(key).close()
            elif opened.address.kind != "udp":
                opened.sock.listen(wanted[key].backlog)

    def _open_all(self) -> None:
        """Open those that are not open yet: all, or none of them."""
        opened: dict[_Key, _Open] = {}
        try:
            for config in self._sockets:
                if _key(config) not in self._open:
                    opened[_key(config)] = _listen(config)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        self._open.update(opened)

    def snapshot(self) -> list[SocketSnapshot]:
        from supervisor.snapshots import SocketSnapshot

        return [
            SocketSnapshot(
                fd=each.sock.fileno(),
                listen=config.listen,
                device=each.inode[0] if each.inode is not None else None,
                inode=each.inode[1] if each.inode is not None else 0,
            )
            for config in self._sockets
            if (each := self._open.get(_key(config))) is not None
        ]

    def restore(self, kept: Sequence[SocketSnapshot]) -> None:
        """Hold the sockets of the image before this one, if they are those of the configuration.

        Each replica tells of the same ones: whoever comes first brings them.
        """
        if self._restored or not kept:
            return
        self._restored = True
        taken = [
            _Open(
                parse_address(each.listen),
                socket.socket(fileno=each.fd),
                (each.device, each.inode) if each.device is not None else None,
            )
            for each in kept
        ]
        if [each.listen for each in kept] == [config.listen for config in self._sockets]:
            self._open = {_key(config): each for config, each in zip(self._sockets, taken, strict=True)}
            return
        for each in taken:
            each.close()

    def close(self) -> None:
        """Nobody will be started with them again: close them and remove their files."""
        opened, self._open = self._open, {}
        for each in opened.values():
            each.close()


def _listen(config: structs.Socket) -> _Open:
    address = parse_address(config.listen)
    try:
        return _listen_unix(config, address) if address.kind == "unix" else _listen_internet(config, address)
    except OSError as error:
        hint = "see who does with `ss -lnp`" if error.errno == errno.EADDRINUSE else ""
        reason = error.strerror or os.strerror(error.errno or 0)
        raise OcelotError(f'cannot listen on "{address.shown}": {reason}', hint=hint) from error


def _listen_internet(config: structs.Socket, address: Address) -> _Open:
    host, family = address.host, socket.AF_INET6 if ":" in address.host else socket.AF_INET
    if host == "*":
        host, family = ("::", socket.AF_INET6) if _has_ipv6() else ("0.0.0.0", socket.AF_INET)
    sock = socket.socket(family, _KINDS[address.kind] | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            # "*" is every address, of both kinds; an IPv6 address is only itself, whatever the machine's default is
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "*"))
        if address.kind == "tcp":
            # Else connections of a former life in TIME_WAIT would keep us off for a minute
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, address.port))
        if address.kind == "tcp":
            sock.listen(config.backlog)
    except BaseException:
        sock.close()
        raise
    return _Open(address, sock)


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC).close()
    except OSError:
        return False
    return True


def _listen_unix(config: structs.Socket, address: Address) -> _Open:
    path = address.path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    opened = _Open(address, sock)
    try:
        if path.startswith("@"):
            sock.bind(f"\0{path[1:]}")
        else:
            remove_dead_socket(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            sock.bind(path)
            with held_socket(path) as (same, about):
                opened.inode = (about.st_dev, about.st_ino)
                _own(config, same)
        sock.listen(config.backlog)  # only now can anybody connect: nobody met it with other permissions
    except BaseException:
        opened.close()
        raise
    return opened


def _own(config: structs.Socket, path: str) -> None:
    """Owner and mode of the file. Raises OSError, and OcelotError for a user that does not exist."""
    if config.user is not None or config.group is not None:
        from ocelot.linux import accounts

        known = accounts.read()
        user = known.uid(config.user) if config.user is not None else -1
        group = known.gid(config.group) if config.group is not None else -1
        os.chown(path, user, group)
    os.chmod(path, UNIX_MODE if config.mode is None else config.mode)


def remove_dead_socket(path: str) -> None:
    """Remove the file of a socket that nobody listens on any more. Raises OSError (EADDRINUSE: somebody does, or it is no socket)."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        answer = probe.connect_ex(path)
    if answer == errno.ECONNREFUSED:
        os.unlink(path)
    elif answer != errno.ENOENT:
        # 0, EAGAIN (its queue is full), EPROTOTYPE (datagrams): it lives; EACCES: who knows
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
