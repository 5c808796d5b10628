"""Where output ends: a console that others write to as well, a file, syslog, the kernel log.

Files have a module of their own, ``logfile``; ``formats`` has what is made of lines before they get here.

A sink takes blocks without waiting, or says that it is full. It is opened when first needed, after a failure at most once
a second, and never by a timer: a log that cannot be written is one warning and a count, not a reason to stop a service.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity, identity
from supervisor.ring import real_time

if TYPE_CHECKING:
    from supervisor.formats import Labels
    from supervisor.logfile import LogFile, LogFiles
    from supervisor.relay import Counters

BLOCK = 64 * 1024
"""Bytes a read: the size of a pipe."""

RETRY = 1.0
"""Seconds between attempts to open or fill a sink that failed."""

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


class Sink(Protocol):
    """``whole_lines``: wants blocks that end with a newline, where possible. ``framed``: each line becomes a record."""

    @property
    def whole_lines(self) -> bool: ...

    @property
    def framed(self) -> bool: ...

    @property
    def backlog(self) -> int:
        """Bytes that it has accepted and not passed on yet; while there are any, it is full."""

    @property
    def inner(self) -> Sink:
        """What it hands everything to in the end, itself if there is nothing behind it."""

    @property
    def portion(self) -> int:
        """Bytes that it would best get next: about :data:`BLOCK`, never much less."""

    def open(self) -> None:
        """Open it now, to show a mistake early. Raises OSError."""

    def offer(self, data: bytes) -> int:
        """Take bytes from the front of ``data`` without waiting; how many. Less than all: it is full.

        Raises OSError when it is broken: then nothing was taken.
        """

    async def ready(self, stall: float | None) -> bool:
        """After it was full: wait until another try is worth it. False: it stays full (``stall`` seconds, None: for ever)."""

    def close(self) -> None: ...


class Shared:
    """A writer that belongs to everybody: ocelot's standard output or error."""

    whole_lines = True
    framed = False
    portion = BLOCK

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    @property
    def inner(self) -> Sink:
        return self

    @property
    def backlog(self) -> int:
        return self.writer.backlog

    def open(self) -> None:
        """The writer is open."""

    def offer(self, data: bytes) -> int:
        return len(data) if self.writer.offer(data, owner=self) else 0

    async def ready(self, stall: float | None) -> bool:
        return await self.writer.ready(stall)

    def close(self) -> None:
        """The writer is not ours."""


class Late:
    """What file, syslog and kmsg have in common: they are opened late, and nobody tells when they have space again."""

    backlog = 0

    @property
    def inner(self: Sink) -> Sink:
        return self

    @property
    def portion(self) -> int:
        return BLOCK

    async def ready(self, stall: float | None) -> bool:
        """Whoever has chosen to block looks again every second."""
        if stall is not None:
            await trio.lowlevel.checkpoint()
            return False
        await trio.sleep(RETRY)
        return True


class FileSink(Late):
    """One stream's part in a log file, which it may share with others; see ``logfile``."""

    framed = False

    def __init__(self, file: LogFile, counters: Counters) -> None:
        self.file = file
        self.counters = counters
        file.sharers += 1

    def leave(self) -> None:
        """It is not one of the file's streams any more."""
        self.file.close(self)
        self.file.sharers -= 1

    @property
    def whole_lines(self) -> bool:
        """So that the streams that share it do not cut each other's lines."""
        return self.file.sharers > 1

    @property
    def portion(self) -> int:
        """Up to a multiple of the block in the file: its pages are then filled at one go, which takes half the time.

        Each rotation cuts a block at a line, and without this all that follows would be written across the pages.
        """
        left = BLOCK - self.file.size % BLOCK
        return left if left > BLOCK // 8 else left + BLOCK

    def open(self) -> None:
        self.file.open(self)

    def offer(self, data: bytes) -> int:
        return self.file.write(data, self)

    def close(self) -> None:
        self.file.close(self)


class Opened(Late):
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

    def _open(self) -> int:
        raise NotImplementedError

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
                return False
            raise
        return True

    def format(self, text: bytes) -> bytes:
        now = self._now()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        host = os.uname().nodename or "-"
        return f"<{self._priority}>1 {stamp} {host} {self._name} - - - ".encode() + text

    def close(self) -> None:
        self._fd = -1
        if self._socket is not None:
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


def pieces(data: bytes, limit: int) -> Iterator[tuple[bytes, int, bool]]:
    """The lines of ``data`` without newlines, each with the bytes it stands for and whether its end is missing.

    Long lines come in pieces of at most ``limit`` bytes, which do not cut a character of UTF-8.
    """
    start = 0
    while start < len(data):
        end = data.find(b"\n", start, start + limit + 1)
        if end >= 0:
            yield data[start:end], end + 1 - start, False
            start = end + 1
            continue
        end = min(start + limit, len(data))
        if end < len(data):
            back = end
            while back > max(start + 1, end - 3) and data[back] & 0xC0 == 0x80:
                back -= 1
            if data[back] & 0xC0 != 0x80:
                end = back
        yield data[start:end], end - start, True
        start = end


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


class Surroundings(Protocol):
    """What the sinks of a set share; ``relay.Relay`` is it. Each is made when the first stream needs it."""

    @property
    def files(self) -> LogFiles: ...

    def labels(self, *, colour: bool) -> Labels: ...


def make(
    config: structs.Stream,
    *,
    name: str,
    stream: str,
    inherit: Writer,
    around: Surroundings,
    counters: Counters,
    label: bool = False,
) -> Sink | None:
    """The sink for one stream of the process ``name``; None where nothing is relayed (direct, null).

    ``label``: name the process in front of its lines where people read them. Raises OcelotError for a destination that cannot be, or a format or compression that this ocelot cannot do.
    """
    sink: Sink
    match config.destination:
        case structs.Inherit():
            if label and config.format == "text" and log.for_people(inherit.fileno()):
                from supervisor.formats import Labelled

                colour = log.wants_colour(inherit.fileno())
                return Labelled(inherit, name, stream, around.labels(colour=colour))
            sink = Shared(inherit)
        case structs.File(path=path):
            if config.rotation is not None and config.rotation.compression != "none":
                from supervisor.rotation import compressor

                compressor(config.rotation.compression)
            sink = FileSink(around.files.join(path, config.rotation), counters)
        case structs.Syslog(address=address):
            if address.startswith("udp://"):
                udp_address(address)
            return SyslogSink(address, name, stream)
        case structs.Kmsg():
            return KmsgSink(name, stream)
        case _:
            return None
    if config.format == "json":
        from supervisor.formats import JsonLines

        return JsonLines(sink, name, stream)
    return sink
