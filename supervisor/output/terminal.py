"""``stdin: pty``: a process on a pseudo-terminal of its own, and ocelot at the other side of it (pty(7)).

Its output is relayed like any other, as lines: the terminal puts a carriage return before each newline, and these are taken away on
the way to the log. To have the terminal not do that was rejected: programs that draw on the whole screen rely on what a newline
does, and who is attached gets every byte as it comes.

Nobody but the process and its children has the other side open. So the master says EIO when the last of them has closed it, and not
one byte is lost when the leader of the session ends: the kernel then hangs the terminal up, and would throw away what is under way
to us if we still had it open. A process may also close all of it and go on: then nothing comes until it opens /dev/tty again, and
the master stays open as long as it lives, since closing it means SIGHUP.

A new one is made for each start. Imported when a process is configured so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ocelot.wire.newlines import Newlines
from supervisor.output.relay import Relay
from supervisor.output.ring import Ring
from supervisor.output.sinks import BLOCK, Counters, Sink
from supervisor.output.stream import TURN, Stream

if TYPE_CHECKING:
    from supervisor.snapshots import StreamSnapshot

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
"""ioctl_tty(2); not in Python's termios. openpty(3) would look the group up by its name (NSS) in some versions of glibc."""

SIZE = (24, 80)
"""Rows and columns until somebody with a terminal is attached."""

LEFT = 256 * 1024
"""Bytes that are read at most after the end of a process: more than the kernel keeps, unless somebody else goes on writing."""

AGAIN = 0.05
"""Seconds until another try, should a terminal say that it has room and then take nothing."""

Size = tuple[int, int]


def open_pair(size: Size) -> tuple[int, int]:
    """A new pseudo-terminal: its master, which does not block, and the other side, which does. Raises OSError."""
    try:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        set_size(master, size)
        return master, fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise


def set_size(fd: int, size: Size) -> None:
    """Rows and columns; a change of them is a SIGWINCH to the foreground process group. Raises OSError."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))


def size_of(fd: int) -> Size:
    """Rows and columns. Raises OSError."""
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return rows, columns


class TerminalStream(Stream):
    """What comes out of the terminal of one process, and what is typed into it. ``viewers`` get every block as it comes.

    ``size``: rows and columns, also of the next start.
    """

    __slots__ = ("_asleep", "_newlines", "_start", "_turn", "size", "viewers")

    def __init__(
        self, name: str, kind: str, sink: Sink, *, ring: Ring, counters: Counters, block: bool, relay: Relay
    ) -> None:
        super().__init__(name, kind, sink, ring=ring, counters=counters, block=block, relay=relay)
        self.viewers: list[Callable[[bytes], None]] = []
        self.size = SIZE
        self._asleep = False  # nobody has the other side open now
        self._start = 0
        self._newlines = Newlines()
        self._turn: trio.StrictFIFOLock | None = None  # of those who type

    def open(self) -> int:
        """A new terminal; the child's side of it, which the caller closes. Raises OSError."""
        master, slave = open_pair(self.size)
        try:
            self._relay.add(master, self._pump)
        except OSError:
            os.close(master)
            os.close(slave)
            raise
        self._fd = master
        self._start += 1
        self._finishing = self._asleep = False
        self._newlines = Newlines()
        return slave

    def type_now(self, data: bytes) -> bytes:
        """Send ``data`` as if it came from a keyboard; what there is no room for now is returned, for :meth:`type`.

        What nobody can get is dropped: the process has closed its terminal, or does not run.
        """
        if self._turn is not None and self._turn.locked():
            return data
        try:
            return data[os.write(self._fd, data) :] if self._fd >= 0 else b""
        except BlockingIOError:
            return data
        except OSError:  # EIO: nobody has the other side open
            return b""

    async def type(self, data: bytes) -> None:
        """As :meth:`type_now`, but wait while the process reads nothing, and behind others who type. Ends with the process."""
        if self._turn is None:
            self._turn = trio.StrictFIFOLock()
        start, waited = self._start, False
        async with self._turn:
            while self._fd >= 0 and self._start == start:
                try:
                    count = os.write(self._fd, data)
                except BlockingIOError:
                    count = 0
                except OSError:
                    return
                data = data[count:]
                if not data:
                    return
                if waited and not count:  # it says that it has room, and takes nothing
                    await trio.sleep(AGAIN)
                waited = True
                with suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(self._fd)

    def resize(self, size: Size, *, redraw: bool = False) -> None:
        """The terminal of who is attached has this size now. ``redraw``: let the process know even if it has not changed."""
        rows, columns = size
        before, self.size = self.size, size
        if self._fd >= 0:
            with suppress(OSError):
                if redraw and before == size:
                    set_size(self._fd, (rows % 0xFFFF + 1, columns))
                set_size(self._fd, size)

    @property
    def drained(self) -> bool:
        if self._holding or self._rest or self._waiting or self._gap:
            return False
        return self._fd < 0 or (self._asleep and not _readable(self._fd))

    def end(self) -> None:
        self._shut()
        super().end()

    def restore(self, kept: StreamSnapshot) -> None:
        super().restore(kept)
        if self._fd >= 0:
            with suppress(OSError):
                self.size = size_of(self._fd)

    # -- inside ------------------------------------------------------------------------------------

    def _pump(self) -> None:
        for _ in range(TURN):
            block = self._next(BLOCK)
            if block is None:
                return
            if block:
                if self._asleep:
                    self._watch(asleep=False)
                settled = self._take(block)
            elif self._asleep:
                return
            else:
                self._watch(asleep=True)
                settled = self._send_rest()
            if not settled:
                self._hold()
                return

    def _next(self, portion: int) -> bytes | None:
        try:
            return os.read(self._fd, portion)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""

    def _left(self) -> int:
        """FIONREAD does not know of what is still under way in the kernel; a read does."""
        return LEFT

    def _watch(self, *, asleep: bool) -> None:
        """A master that nobody has the other side of is always ready, to say so: once is enough (epoll(7), EPOLLET)."""
        self._relay.remove(self._fd)
        self._relay.add(self._fd, self._pump, select.EPOLLET if asleep else 0)
        self._asleep = asleep

    def _hold(self) -> None:
        super()._hold()
        self._asleep = False  # it is to be found out anew

    def _take(self, block: bytes) -> bool:
        for show in tuple(self.viewers):
            show(block)
        lines = self._newlines.clean(block)
        return super()._take(lines) if lines else True

    def _shut(self) -> None:
        if self._fd >= 0:
            self._relay.remove(self._fd)
            if self._turn is not None:
                trio.lowlevel.notify_closing(self._fd)
        super()._shut()


def _readable(fd: int) -> bool:
    """Whether there is anything to read, more than that nobody has the other side open."""
    found = select.poll()
    found.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in found.poll(0))
