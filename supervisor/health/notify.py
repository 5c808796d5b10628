"""What a process says about itself: sd_notify(3) on a socket of its own, or a newline on a descriptor (s6).

One datagram socket a process, over all its lives, so that a message needs no name. Everybody may send to it (a program that
has given up its privileges must be able to), so who sent is looked at, the rest is read with suspicion, and nothing that comes
can make this raise: it is called by the relay, which moves everybody's output. No task waits: the relay's epoll does.

A message is taken only once the child is known; until then it waits in the socket.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot.config import structs
from ocelot.errors import describe
from ocelot.linux.folders import make_open
from ocelot.wire.protocol import NotifyStatus
from supervisor.children.senders import Membership, may_speak_once_gone, membership
from supervisor.health.said import Reload, Said, parse
from supervisor.process.surroundings import Handed

if TYPE_CHECKING:
    from supervisor.snapshots import NotifySnapshot

FOLDER = "/run/ocelot/notify"
"""Where the sockets are, if we may write there; else they are abstract."""

MESSAGE_MAX = 4096
"""Bytes of a message, as in systemd (PIPE_BUF); longer ones are refused."""

BURST, PAUSE = 256, 0.25
"""So many messages are read in a row; whoever sends more in this many seconds waits for the rest of them."""

_FDS_MAX = 253  # SCM_MAX_FD: a message cannot carry more
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_FDS_MAX * 4)


class Ears(Protocol):
    """Calls back when a descriptor can be read; ``supervisor.output.relay.Relay`` is one."""

    def add(self, fd: int, ready: Callable[[], None]) -> None: ...
    def add_again(self, fd: int, ready: Callable[[], None]) -> None: ...
    def remove(self, fd: int) -> None: ...
    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None: ...


class Notifications(Said):
    """The socket of a process with ``notify: systemd``, over all its lives, and what it has said there in this one."""

    def __init__(
        self,
        name: str,
        config: structs.Notify,
        relay: Ears,
        changed: Callable[[], None],
        *,
        belongs: Callable[[int, int], Membership] = membership,
        folder: str = FOLDER,
    ) -> None:
        super().__init__(name, config, changed, belongs)
        self._relay = relay
        self._folder = folder
        self._socket: socket.socket | None = None
        self._path: str | None = None
        self._address = ""
        self._life: object = None
        self._read = 0
        self._since = 0.0

    @property
    def word(self) -> str:
        return "READY=1"

    # -- what a life begins and goes on with

    def handles(self) -> Handed:
        """The variables for the next start. Raises OSError when there is no socket to be had."""
        if self._socket is None:
            self._socket = self._open()
        self._relay.remove(self._socket.fileno())
        self._discard(self._socket)
        self._leader, self._life = 0, None
        self._forget()
        environment = {"NOTIFY_SOCKET": self._address}
        if self.config.watchdog is not None:
            # Without WATCHDOG_PID, which only a child itself could know, it means whoever reads it, sd_watchdog_enabled(3)
            environment["WATCHDOG_USEC"] = str(round(self.config.watchdog * 1e6))
        return Handed(environment)

    def begin(self, leader: int) -> None:
        """The process has started with the pid ``leader``: listen to it."""
        self._leader = leader
        self._life = object()
        self.pinged = trio.current_time()
        if self._socket is not None:
            self._relay.add_again(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """It is no longer supervised."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._relay.remove(sock.fileno())
        sock.close()
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)

    def catch_up(self) -> None:
        """Take what has come. Before a deadline counts: it may be we who had no time, and not the process."""
        with suppress(OSError):
            if self._socket is not None and self._leader:
                for _ in range(4 * BURST):
                    if not self._receive(self._socket):
                        break

    async def until_silent_too_long(self) -> str:
        """Wait until it has missed its watchdog, or asked for that; why, in words."""
        while not self.triggered:
            if self.watchdog is None:
                await self.events.park()
                continue
            if trio.current_time() >= self.pinged + self.watchdog:
                self.catch_up()
            due = self.pinged + self.watchdog
            if trio.current_time() >= due:
                return f"it sent no WATCHDOG=1 for {self.watchdog:g}s"
            # A sign of life only moves the time that is looked at next: nobody is woken for it
            with trio.move_on_at(due):
                await self.events.park()
        return "it sent WATCHDOG=trigger"

    def status(self) -> NotifyStatus:
        watched = self.watchdog is not None and self._leader
        return NotifyStatus(
            state=self.state,  # type: ignore[arg-type]
            text=self.text,
            errno=self.errno,
            main_pid=self.main_pid,
            watchdog=self.watchdog,
            pinged=trio.current_time() - self.pinged if watched else None,
            reload=self.reload.state if self.reload is not None else None,  # type: ignore[arg-type]
        )

    # -- across images

    def snapshot(self) -> NotifySnapshot:
        from supervisor.snapshots import NotifySnapshot, monotonic

        return NotifySnapshot(
            fd=self._socket.fileno() if self._socket is not None else -1,
            ready=self.ready.is_set(),
            path=self._path,
            address=self._address,
            state=self.state,
            text=self.text,
            errno=self.errno,
            main_pid=self.main_pid,
            watchdog=self.watchdog,
            pinged=monotonic(self.pinged),
            extended_to=monotonic(self.extended_to),
            triggered=self.triggered,
            reload=(self.reload.asked, self.reload.state) if self.reload is not None else None,
        )

    def restore(self, kept: NotifySnapshot) -> None:
        """Go on with the socket of the image before this one; what has come meanwhile waits in it."""
        from supervisor.snapshots import trio_time

        if kept.fd >= 0:
            self._socket = socket.socket(fileno=kept.fd)
        self._path, self._address = kept.path, kept.address
        if kept.ready:
            self.ready.set()
        self.state, self.text, self.errno, self.main_pid = kept.state, kept.text, kept.errno, kept.main_pid
        self.watchdog, self.triggered = kept.watchdog, kept.triggered
        self.pinged, self.extended_to = trio_time(kept.pinged), trio_time(kept.extended_to)
        self.reload = Reload(*kept.reload) if kept.reload is not None else None

    # -- the socket

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            word = "".join(c for c in self.name if c.isascii() and (c.isalnum() or c in "-_."))[:40]
            own = f"{word}.{os.urandom(6).hex()}"
            try:
                make_open(self._folder)
                sock.bind(f"{self._folder}/{own}")
                self._path = self._address = f"{self._folder}/{own}"
                os.chmod(self._path, 0o666)  # whoever the process may have become; see who sent instead
            except OSError:
                self._path = None
                sock.bind(f"\0ocelot/notify/{own}")
                self._address = f"@ocelot/notify/{own}"
        except OSError:
            sock.close()
            raise
        return sock

    def _discard(self, sock: socket.socket) -> None:
        """What the life before has left unread: its senders may have ended, and would be taken for those of the next one."""
        with suppress(OSError):
            for _ in range(4 * BURST):  # it may come faster than it is read
                for fd in _unpack(sock.recvmsg(1, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)[1])[2]:
                    os.close(fd)

    def _readable(self) -> None:
        try:
            self._hear()
        except Exception as error:  # noqa: BLE001 (a bug here must not end the relay of everybody's output)
            self._once("bug", f"a message could not be taken: {describe(error)}")

    def _hear(self) -> None:
        if self._socket is None:
            return
        now = trio.current_time()
        if now - self._since >= PAUSE:
            self._since, self._read = now, 0
        for _ in range(16):  # a few at a time: the relay has others to serve
            if self._read >= BURST:
                self._pause(self._socket)
                self._once(
                    "flood", f"sends more than {BURST} messages in {PAUSE:g}s: they are read slower than they come"
                )
                return
            try:
                if not self._receive(self._socket):
                    return
            except OSError as error:  # no memory; what cannot be read now would only wake us again
                self._once("receive", f"its messages cannot be read: {describe(error)}")
                self._pause(self._socket)
                return
            self._read += 1

    def _pause(self, sock: socket.socket) -> None:
        """Whoever floods us is to wait, and not everybody else."""
        life = self._life

        async def resume() -> None:
            await trio.sleep(PAUSE)
            if self._life is life and self._socket is not None:
                self._relay.add_again(sock.fileno(), self._readable)

        self._relay.remove(sock.fileno())
        self._relay.start_soon(resume)

    def _receive(self, sock: socket.socket) -> bool:
        """Read one message; False when there is none. Raises OSError."""
        try:
            data, ancillary, flags, _ = sock.recvmsg(MESSAGE_MAX, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        pid, uid, descriptors = _unpack(ancillary)
        try:
            if not self._may_speak(pid, uid):
                self._once("stranger", f"a message from pid {pid} (uid {uid}), which does not belong to it, is ignored")
            elif flags & socket.MSG_TRUNC:
                self._once("size", f"a message of more than {MESSAGE_MAX} bytes is ignored")
            else:
                self.take(parse(data), descriptors=bool(descriptors))
        finally:
            # For BARRIER=1 this is the answer: everything before it has been read, sd_notify_barrier(3)
            for fd in descriptors:
                os.close(fd)
        return True

    def _may_speak(self, pid: int, uid: int) -> bool:
        for leader in (self._leader, self.main_pid):  # the latter may have outlived the former
            if leader is not None:
                found = self._belongs(pid, leader)
                if found is Membership.MEMBER or (found is Membership.GONE and may_speak_once_gone(uid, leader)):
                    return True
        return False


def _unpack(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, list[int]]:
    """Pid and uid of the sender, and the descriptors that came along."""
    pid, uid = 0, 0xFFFFFFFF
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid, uid, _gid = _CREDENTIALS.unpack_from(data)
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    return pid, uid, descriptors
