"""Writing to descriptors that others hold too: the console, an inherited standard output, a pipe to a container engine.

O_NONBLOCK belongs to the open file description, which fork and exec share (open(2)): setting it on our standard output
would also set it on the shell's and on every child's, and programs fail with EAGAIN where they never expected it. Not
setting it lets one stopped terminal (Ctrl-S, a serial line without a listener) stop PID 1. So each kind of descriptor
is written in the way that cannot block:

- terminals, pipes, devices: through a description of our own, opened from /proc/self/fd/N with O_NONBLOCK;
- sockets, which cannot be opened that way: send(2) with MSG_DONTWAIT;
- what we may not open again (a container runs as another user): poll(2), then no more than surely fits;
- regular files: directly, they never answer EAGAIN, and a second description would have a file offset of its own.

Rejected: a thread that does blocking writes. It costs a thread a console and cannot be stopped when it hangs.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from _thread import get_ident
from contextlib import suppress

import trio

PIPE_BUF = select.PIPE_BUF
BACKLOG_LIMIT = 64 * 1024
"""What is kept of synchronous messages that the descriptor does not take at once (bytes)."""

STALL = 1.0
"""Seconds without any progress after which a descriptor counts as stuck."""

_PTMX = os.makedev(5, 2)
_OWN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Writer:
    """Writes to one descriptor without ever blocking the process or changing a flag that others see.

    What was begun is finished before anything else begins, so two users never cut each other's blocks: hand in whole
    lines. ``written`` and ``dropped`` count bytes. ``shared`` is the descriptor to hand to a child that is to have it
    itself, None if there is none. ``stuck`` is true while the other side has taken nothing for :data:`STALL` seconds.
    """

    def __init__(self, fd: int, *, shared: int | None = None, path: str | None = None, patient: bool = False) -> None:
        """Own ``fd``. ``path`` is opened again when the device was hung up. ``patient``: poll before each small write."""
        self.shared = shared
        self.path = path
        self.written = 0
        self.dropped = 0
        self.stuck = False
        self._fd = fd
        self._patient = patient
        self._socket: socket.socket | None = None
        if fd >= 0 and stat.S_ISSOCK(os.fstat(fd).st_mode):
            self._socket = socket.socket(fileno=fd)
        self._backlog = bytearray()
        self._mid_line = False
        self._owner: object = None
        self._work: trio.Event | None = None
        self._thread = 0
        self._driven = False
        self._lot = trio.lowlevel.ParkingLot()

    @classmethod
    def attach(cls, fd: int) -> Writer:
        """A writer for what ``fd`` refers to. A closed descriptor gives a writer that drops everything."""
        try:
            about = os.fstat(fd)
        except OSError:
            return cls.nowhere()
        kind = about.st_mode
        reopenable = stat.S_ISFIFO(kind) or (stat.S_ISCHR(kind) and about.st_rdev != _PTMX)
        if reopenable:
            with suppress(OSError):
                return cls(os.open(f"/proc/self/fd/{fd}", _OWN), shared=fd)
        return cls(_dup(fd), shared=fd, patient=not stat.S_ISREG(kind) and not stat.S_ISSOCK(kind))

    @classmethod
    def open(cls, path: str, *, shared: int | None = None) -> Writer:
        """A writer for the device or file at ``path``. Raises OSError."""
        return cls(os.open(path, _OWN), shared=shared, path=path)

    @classmethod
    def nowhere(cls) -> Writer:
        """A writer that drops everything, counted."""
        return cls(-1)

    def fileno(self) -> int:
        """Our own descriptor of it, -1 if there is none."""
        return self._fd

    @property
    def backlog(self) -> int:
        """Bytes accepted that the descriptor has not taken yet."""
        return len(self._backlog)

    def isatty(self) -> bool:
        return self._fd >= 0 and os.isatty(self._fd)

    def is_mid_line_of(self, owner: object) -> bool:
        """Whether the last that was accepted is a line of ``owner`` without its end."""
        return self._mid_line and self._owner is owner

    # -- without waiting ---------------------------------------------------------------------------

    def offer(self, data: bytes, *, owner: object = None) -> bool:
        """Take all of ``data``, or nothing (False) while earlier data is still waiting; never blocks.

        What the descriptor does not take at once is kept and goes out first. A line that another ``owner`` left
        unfinished is ended first. Raises OSError when it is broken for good.
        """
        if self._backlog and not self._push():
            return False
        if not data:
            return True
        if self._mid_line and owner is not self._owner:
            data = b"\n" + data
        taken = self._put(data)
        self._note(data, owner)
        if taken < len(data):
            self._backlog += memoryview(data)[taken:]
            self._wake()
        return True

    def write_now(self, data: bytes) -> None:
        """For a message that cannot wait, from code that cannot await. Never raises: what is not taken is counted."""
        try:
            if self.offer(data):
                return
        except OSError:
            self.dropped += len(data)
            return
        if len(self._backlog) + len(data) <= BACKLOG_LIMIT:
            self._backlog += b"\n" + data if self._mid_line and self._owner is not None else data
            self._note(data, None)
            self._wake()
        else:
            self.dropped += len(data)

    def snapshot(self) -> bytes:
        """What the descriptor has not taken yet, for :meth:`restore` in an image that replaces this one."""
        return bytes(self._backlog)

    def restore(self, backlog: bytes) -> None:
        """Before anything else is written."""
        self._backlog[:] = backlog
        self._mid_line = backlog[-1:] not in (b"", b"\n")

    def flush(self, timeout: float) -> bool:
        """Wait, blocking the whole process, until everything is out or ``timeout`` seconds have passed. For the end."""
        deadline = time.monotonic() + timeout
        try:
            while self._backlog and not self._push():
                left = deadline - time.monotonic()
                if left <= 0 or not _writable(self._fd, left):
                    return False
        except OSError:
            self._discard()
        return True

    # -- with waiting ------------------------------------------------------------------------------

    async def write(self, data: bytes, *, stall: float | None = STALL) -> int:
        """Write ``data``, waiting as long as the other side takes something every ``stall`` seconds (None: for ever).

        Returns how many bytes were dropped, 0 or all; never raises OSError.
        """
        try:
            while not self.offer(data):
                if not await self.ready(stall):
                    self.dropped += len(data)
                    return len(data)
        except OSError:
            self.dropped += len(data)
            return len(data)
        await trio.lowlevel.checkpoint()
        return 0

    async def ready(self, stall: float | None = STALL) -> bool:
        """Wait until nothing is ahead. False: nothing moved for ``stall`` seconds. At once while it is stuck already."""
        while self._backlog:
            if self.stuck and stall is not None:
                await trio.lowlevel.checkpoint()
                return False
            before = self.written
            with trio.move_on_after(float("inf") if stall is None else stall):
                await self._drain()
            if self._backlog and self.written == before and stall is not None:
                self.stuck = True
        return True

    async def run(self) -> None:
        """Deliver what :meth:`write_now` had to keep. Runs until cancelled; sleeps while there is nothing to do."""
        self._thread = get_ident()
        while True:
            self._work = trio.Event()
            if not self._backlog:
                await self._work.wait()
            await self._drain()

    def close(self) -> None:
        """Close our own descriptor; ``shared`` stays open."""
        fd, self._fd = self._fd, -1
        self._backlog.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        elif fd >= 0:
            os.close(fd)

    # -- inside ------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Push the backlog out as the descriptor takes it. One task waits on it, the others wait for that task."""
        while self._backlog:
            if self._driven:
                await self._lot.park()
                continue
            self._driven = True
            try:
                while self._backlog:
                    await trio.lowlevel.wait_writable(self._fd)
                    self._push()
            except OSError:
                self._discard()
            finally:
                self._driven = False
                self._lot.unpark_all()

    def _push(self) -> bool:
        """Try to write the backlog. True when it is empty. Raises OSError."""
        try:
            taken = self._put(bytes(self._backlog))
        except OSError:
            self._discard()
            raise
        del self._backlog[:taken]
        return not self._backlog

    def _put(self, data: bytes) -> int:
        """Write as much of ``data`` as is taken at once, and count it. Raises OSError for anything but "not now"."""
        total = 0
        view = memoryview(data)
        reopened = False
        while total < len(data):
            try:
                taken = self._write(view[total:])
            except BlockingIOError:
                break
            except OSError:
                if total:
                    break  # what was taken counts; the next call meets the error again
                if reopened or not self._reopen():
                    raise
                reopened = True
                continue
            if taken == 0:
                break
            total += taken
        if total:
            self.written += total
            self.stuck = False
        return total

    def _write(self, view: memoryview) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._socket is not None:
            return self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._patient:
            # A terminal that is ready takes at least this much; a pipe PIPE_BUF (pipe(7)).
            return os.write(self._fd, view[: 256 if os.isatty(self._fd) else PIPE_BUF]) if _writable(self._fd, 0) else 0
        return os.write(self._fd, view)

    def _reopen(self) -> bool:
        """After a hang-up (EIO for ever on the old description) the same path may lead to a living terminal again."""
        if self.path is None:
            return False
        try:
            fd = os.open(self.path, _OWN)
        except OSError:
            return False
        old, self._fd = self._fd, fd
        if old >= 0:
            os.close(old)
        return True

    def _note(self, data: bytes, owner: object) -> None:
        self._mid_line = data[-1:] != b"\n"
        self._owner = owner if self._mid_line else None

    def _discard(self) -> None:
        self.dropped += len(self._backlog)
        self._backlog.clear()

    def _wake(self) -> None:
        # A worker thread may log too, and must not touch trio's objects: its message goes out with the next one.
        if self._work is not None and get_ident() == self._thread:
            self._work.set()


def _dup(fd: int) -> int:
    return os.dup(fd)  # close-on-exec, as everything Python opens (PEP 446)


def _writable(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & (select.POLLOUT | select.POLLERR | select.POLLHUP) for _, events in poll.poll(timeout * 1000))
