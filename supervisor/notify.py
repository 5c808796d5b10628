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
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import describe
from ocelot.wire.protocol import NotifyStatus
from supervisor.senders import Membership, may_speak_once_gone, membership

if TYPE_CHECKING:
    from supervisor.snapshots import NotifySnapshot

FOLDER = "/run/ocelot/notify"
"""Where the sockets are, if we may write there; else they are abstract."""

MESSAGE_MAX = 4096
"""Bytes of a message, as in systemd (PIPE_BUF); longer ones are refused."""

TEXT_MAX = 512
"""Characters that are kept of STATUS=."""

BURST, PAUSE = 256, 0.25
"""So many messages are read in a row; whoever sends more in this many seconds waits for the rest of them."""

_FDS_MAX = 253  # SCM_MAX_FD: a message cannot carry more
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_FDS_MAX * 4)
_REFUSED = {
    "FDSTORE": "ocelot keeps no descriptors for it; `sockets` are kept over restarts",
    "FDSTOREREMOVE": "ocelot keeps no descriptors for it",
}


class Ears(Protocol):
    """Calls back when a descriptor can be read; ``supervisor.relay.Relay`` is one."""

    def add(self, fd: int, ready: Callable[[], None]) -> None: ...
    def add_again(self, fd: int, ready: Callable[[], None]) -> None: ...
    def remove(self, fd: int) -> None: ...
    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None: ...


@dataclass(frozen=True)
class Handed:
    """What a child is given. ``ours`` is closed once it has it."""

    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: Mapping[int, int] = field(default_factory=dict)
    ours: tuple[int, ...] = ()

    def close(self) -> None:
        for fd in self.ours:
            os.close(fd)


@dataclass(slots=True)
class Reload:
    """A reload that was asked for. ``asked``: when, in microseconds of CLOCK_MONOTONIC; a process tells of its own in the same."""

    asked: int
    state: str = "asked"


class Notifications:
    """``notify: systemd`` of the process ``name``. ``changed`` is called after a message that may change what is known."""

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
        self.name = name
        self.config = config
        self.ready = trio.Event()
        self._relay = relay
        self._changed = changed
        self._belongs = belongs
        self._folder = folder
        self._socket: socket.socket | None = None
        self._path: str | None = None
        self._address = ""
        self._leader = 0
        self._life: object = None
        self._told: set[str] = set()
        self._read = 0
        self._since = 0.0
        self._forget()

    def _forget(self) -> None:
        self.ready = trio.Event()
        self.state: str = "silent"
        self.text = ""
        self.errno: int | None = None
        self.main_pid: int | None = None
        self.watchdog = self.config.watchdog
        self.pinged = trio.current_time()
        self.triggered = False
        self.extended_to = 0.0
        self.events = trio.lowlevel.ParkingLot()
        self.reload: Reload | None = None
        self._told.clear()

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

    def expect_reload(self) -> None:
        """It is about to be told to reload: what it says of reloads that began before means nothing any more."""
        self.reload = Reload(_microseconds())

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
                os.makedirs(self._folder, exist_ok=True)
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

    # -- what it says

    def take(self, message: Mapping[str, str], *, descriptors: bool = False) -> None:
        """A message from somebody who may speak for it. ``descriptors``: whether some came along."""
        if message.get("RELOADING") == "1":  # before a READY=1 of the same message, which ends it
            self._say_reloading(message.get("MONOTONIC_USEC", ""))
        for key, value in message.items():
            deed = _DEEDS.get(key)
            if deed is not None:
                deed(self, value)
            elif key in _REFUSED and (key != "FDSTORE" or descriptors or value == "1"):
                self._once(key, f"{key} is refused: {_REFUSED[key]}")
        self._changed()

    def _say_ready(self, value: str) -> None:
        if value == "1":
            self.state = "ready"
            self.extended_to = 0.0  # that was for the start; what comes now is for the stop
            self.ready.set()
            if self.reload is not None and self.reload.state == "reloading":
                self.reload.state = "done"

    def _say_reloading(self, began: str) -> None:
        """``began``: MONOTONIC_USEC. Without it nobody knows whether the reload began after somebody asked for it: sd_notify(3)."""
        self.state = "reloading"
        if self.reload is None or self.reload.state == "done":
            return
        at = _number(began)
        if at is None:
            self._once("MONOTONIC_USEC", "RELOADING=1 without MONOTONIC_USEC= is no answer to a reload")
        elif at >= self.reload.asked:
            self.reload.state = "reloading"

    def _say_stopping(self, value: str) -> None:
        if value == "1":
            self.state = "stopping"

    def _say_status(self, value: str) -> None:
        self.text = "".join(c if c.isprintable() else " " for c in value[:TEXT_MAX])

    def _say_errno(self, value: str) -> None:
        number = _number(value)
        self.errno = number if number is not None and 0 <= number < 4096 else None

    def _say_main_pid(self, value: str) -> None:
        pid = _number(value)
        if pid is None or pid < 1 or self._belongs(pid, self._leader) is not Membership.MEMBER:
            self._once("MAINPID", f"MAINPID={value[:20]} is refused: it does not belong to it")
        else:
            self.main_pid = pid

    def _say_watchdog(self, value: str) -> None:
        if value == "1":
            self.pinged = trio.current_time()
        elif value == "trigger":
            self.triggered = True
            self.events.unpark_all()

    def _say_watchdog_interval(self, value: str) -> None:
        microseconds = _number(value)
        if microseconds is None or not 0 <= microseconds < 1e15:
            return
        self.watchdog = microseconds / 1e6 or None
        self.pinged = trio.current_time()
        self.events.unpark_all()

    def _say_extend(self, value: str) -> None:
        microseconds = _number(value)
        if microseconds is not None and 0 < microseconds < 1e15:
            self.extended_to = max(self.extended_to, trio.current_time() + microseconds / 1e6)
            self.events.unpark_all()

    def _once(self, kind: str, text: str) -> None:
        """Each kind of complaint once in a life: what comes may come a thousand times a second."""
        if kind not in self._told:
            self._told.add(kind)
            log.warn(f"{self.name}: notify: {text}")


_DEEDS: Mapping[str, Callable[[Notifications, str], None]] = {
    "READY": Notifications._say_ready,
    "STOPPING": Notifications._say_stopping,
    "STATUS": Notifications._say_status,
    "ERRNO": Notifications._say_errno,
    "MAINPID": Notifications._say_main_pid,
    "WATCHDOG": Notifications._say_watchdog,
    "WATCHDOG_USEC": Notifications._say_watchdog_interval,
    "EXTEND_TIMEOUT_USEC": Notifications._say_extend,
}


def parse(data: bytes) -> dict[str, str]:
    """The assignments of a message, one a line; of equal keys the last. Lines that are none are passed over."""
    found = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        key, equals, value = line.partition("=")
        if equals and key:
            found[key] = value
    return found


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


def _microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
