"""Lines handed on to a syslog daemon or to the kernel log, one record each.

Imported when a process forwards its output.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

import trio

from ocelot.errors import OcelotError
from ocelot.linux.identity import Identity, identity
from supervisor.output.ring import real_time
from supervisor.output.sinks import RETRY, Late, pieces

FACILITY_DAEMON = 3
SEVERITY = {"stdout": 6, "stderr": 3}
"""RFC 5424, 6.2.1: informational, error."""

SYSLOG_MAX = 8000
"""Bytes a message to a local daemon: rsyslogd cuts at 8096."""

UDP_MAX = 2048
"""The same over UDP: what every receiver should take in one datagram (RFC 5426, 3.2)."""

KMSG_MAX = 976
"""Bytes a record: the kernel refuses more than 1024, older ones cut at 992 (printk's LOG_LINE_MAX)."""

_GONE = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE, errno.EDESTADDRREQ)


class Opened(Late, ABC):
    """What syslog and kmsg have in common: a descriptor of their own that is opened again after a failure."""

    whole_lines = True
    framed = True

    def __init__(self) -> None:
        self._fd = -1
        self._not_before = 0.0
        self._reason = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def open(self) -> None:
        if self._fd >= 0:
            return
        if time.monotonic() < self._not_before:
            raise self._reason
        try:
            self._fd = self._open()
        except OSError as error:
            self._failed(error)
            raise

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @abstractmethod
    def _open(self) -> int:
        """A descriptor to write to. Raises OSError."""

    def _failed(self, error: OSError) -> None:
        self.close()
        self._reason = error
        self._not_before = time.monotonic() + RETRY


class SyslogSink(Opened):
    """RFC 5424 to a unix datagram socket, or over UDP (RFC 5426) to a numeric address. One message a line."""

    def __init__(self, address: str, name: str, stream: str, *, now: Callable[[], float] | None = None) -> None:
        super().__init__()
        self.address = address
        self._socket: socket.socket | None = None
        self._priority = FACILITY_DAEMON * 8 + SEVERITY[stream]
        self._name = "".join(c if 33 <= ord(c) < 127 else "_" for c in name)[:48] or "-"
        self._now = now or real_time
        self._waits = False
        self._stuck = False  # it has taken nothing for as long as anybody waits for it
        self._pollable = True  # whether the kernel tells when there is space again
        self._limit = (UDP_MAX if address.startswith("udp://") else SYSLOG_MAX) - len(self.format(b""))

    def offer(self, data: bytes) -> int:
        self.open()
        taken = 0
        for piece, length, _ in pieces(data, self._limit):
            try:
                if piece and not self._send(self.format(piece)):
                    return taken
            except OSError:
                if taken:
                    return taken  # the next one meets it again
                raise
            taken += length
        return taken

    async def ready(self, stall: float | None) -> bool:
        """Until the daemon has read something, which poll(2) tells of a connected socket: it queues but ten messages.

        Once it has read nothing for ``stall`` seconds, nobody who drops waits for it until it has taken something again.
        """
        if self._socket is None:  # what waits is of an image of ocelot before this one
            await trio.lowlevel.checkpoint()
            return True
        if not self._pollable:
            return await super().ready(stall)
        if self._stuck and stall is not None:
            await trio.lowlevel.checkpoint()
            return False
        self._waits = True
        try:
            with trio.move_on_after(math.inf if stall is None else stall):
                await trio.lowlevel.wait_writable(self._socket)
                return True
            self._stuck = True
        except trio.ClosedResourceError:
            pass
        finally:
            self._waits = False
        return False

    def _send(self, message: bytes) -> bool:
        """False when it has no space now. A daemon that was restarted has another socket at the same path."""
        try:
            return self._try_send(message)
        except OSError as error:
            if error.errno not in _GONE:
                self._failed(error)
                raise
        self.close()
        self._not_before = 0.0
        self.open()
        try:
            return self._try_send(message)
        except OSError as error:
            self._failed(error)
            raise

    def _try_send(self, message: bytes) -> bool:
        assert self._socket is not None
        try:
            self._socket.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                self._pollable = error.errno == errno.EAGAIN
                return False
            raise
        self._stuck = False
        return True

    def format(self, text: bytes) -> bytes:
        now = self._now()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        host = os.uname().nodename or "-"
        return f"<{self._priority}>1 {stamp} {host} {self._name} - - - ".encode() + text

    def close(self) -> None:
        self._fd = -1
        if self._socket is not None:
            if self._waits:
                trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self) -> int:
        if self.address.startswith("udp://"):
            host, port = udp_address(self.address)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            target: str | tuple[str, int] = (host, port)
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            target = self.address
        self._socket.connect(target)
        return self._socket.fileno()


class KmsgSink(Opened):
    """The kernel log, one record a line, marked with the process's name."""

    def __init__(self, name: str, stream: str, *, path: str = "/dev/kmsg") -> None:
        super().__init__()
        self._path = path
        self._prefix = f"<{FACILITY_DAEMON * 8 + SEVERITY[stream]}>{name}: ".encode()

    def offer(self, data: bytes) -> int:
        self.open()
        taken = 0
        for piece, length, _ in pieces(data, KMSG_MAX - len(self._prefix) - 1):
            if piece:
                try:
                    # Without its newline the kernel shows a record only when the next one comes
                    os.write(self._fd, self._prefix + piece + b"\n")
                except BlockingIOError:
                    return taken
                except OSError as error:
                    if taken:
                        return taken  # the next one meets it again
                    self._failed(error)
                    raise
            taken += length
        return taken

    def _open(self) -> int:
        if identity() is Identity.MACHINE:
            # By default the kernel drops silently what one opener writes above ten records in five seconds.
            with suppress(OSError):
                fd = os.open("/proc/sys/kernel/printk_devkmsg", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, b"on\n")
                finally:
                    os.close(fd)
        return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def udp_address(address: str) -> tuple[str, int]:
    """``udp://192.0.2.1:514`` or ``udp://[2001:db8::1]:514`` as host and port (default 514). Raises OcelotError."""
    rest = address.removeprefix("udp://")
    if rest.startswith("["):
        host, closed, port = rest[1:].partition("]")
        host = host if closed and port[:1] in ("", ":") else ""
        port = port[1:]
    else:
        host, _, port = rest.partition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
        number = int(port) if port else 514
    except (OSError, ValueError):
        raise OcelotError(
            f'cannot use the syslog address "{address}": not a numeric host and port',
            hint="write it as udp://192.0.2.1:514 or udp://[2001:db8::1]:514",
        ) from None
    if not 0 < number < 65536:
        raise OcelotError(f'cannot use the syslog address "{address}": port {number} is out of range')
    return host, number
