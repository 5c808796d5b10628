"""One output stream of one process: what is read from its pipe, kept, shown to who is looking, and handed to its sink."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.errors import describe
from supervisor.output.ring import Line, Ring, real_time
from supervisor.output.sinks import BLOCK, Counters, FileSink, Sink

if TYPE_CHECKING:
    from supervisor.output.relay import Relay
    from supervisor.snapshots import StreamSnapshot

TURN = 16
"""Blocks that one stream may move before the others have their turn: going round costs as much as a block."""

WIDE = 256 * 1024
"""Bytes that the pipe of a busy writer holds."""

SMALL = 4096
"""Less than this in a read: there is hardly more in the pipe, and looking would cost more than to be told."""

STALL = 1.0
"""Seconds without progress after which a full sink drops (``onFull: drop``)."""

FINISH = 5.0
"""The same for ``onFull: block`` once the writer is dead and holding it up has no more use."""


class Stream:
    """One output stream of one process, over all its starts: pipe, ring, sink, counters, and who is looking."""

    __slots__ = (
        "_blocking",
        "_broken",
        "_fd",
        "_finishing",
        "_gap",
        "_holding",
        "_mid_line",
        "_relay",
        "_rest",
        "_resumed",
        "_scope",
        "_waiting",
        "_watched",
        "_wide",
        "counters",
        "kind",
        "name",
        "ring",
        "sink",
        "watchers",
    )

    def __init__(
        self, name: str, kind: str, sink: Sink, *, ring: Ring, counters: Counters, block: bool, relay: Relay
    ) -> None:
        self.name = name
        self.kind = kind
        self.sink = sink
        self.ring = ring
        self.counters = counters
        self.watchers: list[Callable[[str, Line], None]] = []
        self._blocking = block
        self._relay = relay
        self._fd = -1
        self._rest = b""  # the beginning of a line, not sent yet
        self._waiting = b""  # what the full sink has not taken
        self._gap = 0  # bytes dropped since the last that went out
        self._mid_line = False  # whether the last byte that went out was not a newline
        self._broken = False
        self._finishing = False
        self._holding = False  # a task waits for the sink
        self._resumed: trio.Event | None = None  # ... and sets this when it is done
        self._scope: trio.CancelScope | None = None
        self._watched = b""
        self._wide = False  # whether the pipe is a larger one

    def open(self) -> int:
        """A new pipe; the child's end of it, which the caller closes. Raises OSError."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        # The reading end's flags are its own: the child's end stays blocking, as programs expect.
        try:
            os.set_blocking(reader, False)
            self._relay.add(reader, self._pump)
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        self._fd = reader
        self._finishing = False
        self._wide = False
        return writer

    async def finish(self) -> None:
        """After the writer is dead: move what is left in the pipe and close it.

        Not until the end of file: a daemon that the process left behind may hold the pipe open for years.
        """
        self._finishing = True
        fd = self._fd
        self._relay.remove(fd)
        if self._holding and self._resumed is not None:
            if self._blocking and self._scope is not None:
                self._scope.cancel()
            await self._resumed.wait()
            await self._settle(FINISH)
        left = self._left() if fd >= 0 else 0
        while left > 0:
            block = self._next(BLOCK)
            if not block:
                break
            left -= len(block)
            if not self._take(block):
                await self._settle(FINISH if self._blocking else STALL)
        if not self._send_rest():
            await self._settle(FINISH if self._blocking else STALL)
        if self._gap and not self._broken:
            self._deliver(b"")
        self._shut()
        self.end()

    def cut(self) -> None:
        """There was no time for :meth:`finish`, or for all of it: what the sink does not take at once is lost. May come again."""
        self._finishing = True
        self._relay.remove(self._fd)
        if self._scope is not None:
            self._scope.cancel()
        self._drop()
        left = self._left() if self._fd >= 0 else 0
        while left > 0 and (block := self._next(BLOCK)):
            left -= len(block)
            if not self._take(block):
                self._drop()
        if not self._send_rest():
            self._drop()
        self._shut()
        self.end()

    @property
    def drained(self) -> bool:
        """Whether the end of the pipe was met and everything before it has gone where it goes."""
        return self._fd < 0 and not (self._holding or self._rest or self._waiting or self._gap)

    def end(self) -> None:
        """There is nothing more to come from this start of the process."""
        self._finishing = True
        self._tell_rest()
        # A log file on the root file system that stayed open would keep it from becoming read-only at shutdown.
        self.sink.close()

    def abandon(self) -> None:
        """Close the pipe without reading it: the child was never started."""
        self._relay.remove(self._fd)
        self._shut()

    def snapshot(self) -> StreamSnapshot:
        from supervisor.snapshots import StreamSnapshot

        return StreamSnapshot(
            fd=self._fd,
            ring=self.ring.snapshot(),
            read=self.counters.bytes,
            dropped=self.counters.dropped,
            rest=self._rest,
            waiting=self._waiting,
            gap=self._gap,
            mid_line=self._mid_line,
            broken=self._broken,
            problem=self.counters.problem,
            rotations=self.counters.rotations,
            wide=self._wide,
            pending=getattr(self.sink, "pending", b""),
            file=self.sink.file.snapshot(self.sink) if isinstance(self.sink, FileSink) else None,
        )

    def restore(self, kept: StreamSnapshot) -> None:
        """Go on with a pipe whose other end is held by a process of the image before this one. Raises OSError."""
        self._fd = kept.fd
        self.ring.restore(kept.ring)
        self.counters.bytes, self.counters.dropped, self.counters.rotations = kept.read, kept.dropped, kept.rotations
        self._rest, self._waiting, self._gap = kept.rest, kept.waiting, kept.gap
        self._mid_line, self._broken, self._wide = kept.mid_line, kept.broken, kept.wide
        self.counters.problem = kept.problem
        if isinstance(self.sink, FileSink) and kept.file is not None:
            self.sink.file.restore(kept.file, self.sink)
        elif kept.pending and hasattr(self.sink, "pending"):
            self.sink.pending = kept.pending
        if self._rest:
            self._relay.expire(self)
        if self._waiting:
            self._hold()
        elif self._fd >= 0:
            self._relay.add_again(self._fd, self._pump)

    def release(self) -> None:
        """The unfinished line has waited long enough; behind what the sink has yet to take, it waits on."""
        if not self._holding and not self._finishing and not self._send_rest():
            self._hold()

    async def wait(self) -> None:
        """The sink is full: wait for it, then read on. Runs in a task of the relay."""
        try:
            with trio.CancelScope() as self._scope:
                await self._settle(None if self._blocking else STALL)
        finally:
            self._scope = None
            self._holding = False
            if self._resumed is not None:
                self._resumed.set()
            if self._fd >= 0 and not self._finishing:
                self._relay.add_again(self._fd, self._pump)

    # -- inside ------------------------------------------------------------------------------------

    def _pump(self) -> None:
        for _ in range(TURN):
            portion = self.sink.portion
            block = _read(self._fd, portion)
            if block is None:
                return
            if not block:
                self._relay.remove(self._fd)
                settled = self._send_rest()
                self._shut()
            else:
                settled = self._take(block)
            if not settled:
                self._hold()
                return
            if len(block) == portion:
                if not self._wide:
                    self._widen()
            elif len(block) < SMALL:
                return

    def _next(self, portion: int) -> bytes | None:
        """A block, b"" at the end of file, None when there is nothing now."""
        return _read(self._fd, portion)

    def _left(self) -> int:
        """How many bytes there may be to read, once nobody writes any more."""
        return _unread(self._fd)

    def _widen(self) -> None:
        """A writer that fills its pipe gets a larger one, so that it need not wait while we write."""
        self._wide = True
        with suppress(OSError):  # more than its user may have (pipe(7), pipe-user-pages-soft)
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, WIDE)

    def _hold(self) -> None:
        self._holding = True
        self._resumed = trio.Event()
        self._relay.remove(self._fd)
        self._relay.start(self)

    def _shut(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _take(self, block: bytes) -> bool:
        """Keep, show and send one block. False: the sink is full, see :meth:`_settle`."""
        self.counters.bytes += len(block)
        self.ring.append(block)
        if self.watchers:
            self._tell(block)
        if not self.sink.whole_lines:
            return self._deliver(block)
        data = self._rest + block if self._rest else block
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) >= BLOCK:
            end = len(data)
        self._rest = data[end:] if end else data
        self._relay.settled(self)
        if self._rest:
            self._relay.expire(self)
        return self._deliver(data[:end] if self._rest else data) if end else True

    def _send_rest(self) -> bool:
        self._relay.settled(self)
        rest, self._rest = self._rest, b""
        return self._deliver(rest) if rest else True

    def _deliver(self, data: bytes) -> bool:
        """Offer ``data`` to the sink. False: it is full, and the rest waits."""
        mark = self._gap_mark() if self._gap else b""
        try:
            taken = self.sink.offer(mark + data)
        except OSError as error:
            self._lose(len(data), error)
            return True
        if taken >= len(mark):
            if self._broken and taken:
                self._recover()
            self._gap = 0
            taken -= len(mark)
            if taken:
                self._mid_line = data[taken - 1] != 0x0A
                data = data[taken:]
        if data:
            self._waiting = data
            return False
        return not self.sink.backlog

    def _gap_mark(self) -> bytes:
        start = "\n" if self._mid_line and not self.sink.framed else ""
        return f"{start}ocelot: {self._gap} bytes of {self.name}'s {self.kind} were dropped here\n".encode()

    async def _settle(self, stall: float | None) -> None:
        """Wait until the sink has taken what waits, or drop it."""
        while await self.sink.ready(stall):
            waiting, self._waiting = self._waiting, b""
            if not waiting or self._deliver(waiting):
                return
        self._drop()

    def _drop(self) -> None:
        """What waits for the sink waits no longer."""
        waiting, self._waiting = self._waiting, b""
        self._lose(len(waiting), getattr(self.sink.inner, "why", None))

    def unopened(self, error: OSError) -> None:
        """Its sink could not be opened when it was to begin; the first block tries again."""
        self._tell_problem(
            f'cannot open where the {self.kind} of "{self.name}" goes', describe(error), "tried again and again"
        )

    def _lose(self, count: int, error: OSError | None) -> None:
        self.counters.dropped += count
        self._gap += count
        if count:
            why = describe(error) if error is not None else "it takes nothing more"
            then = "it is dropped and counted until that changes"
            self._tell_problem(f'cannot write the {self.kind} of "{self.name}"', why, then)

    def _tell_problem(self, what: str, why: str, then: str) -> None:
        """Once, until it is over."""
        if not self._broken:
            self._broken = True
            self.counters.problem = why
            log.warn(f"{what}: {why}; {then}")

    def _recover(self) -> None:
        self._broken = False
        self.counters.problem = ""
        lost = f"; {self._gap} bytes of it were dropped" if self._gap else ""
        log.info(f'the {self.kind} of "{self.name}" is written again{lost}')

    def _tell(self, block: bytes) -> None:
        at = real_time()
        *lines, self._watched = (self._watched + block).split(b"\n")
        if len(self._watched) > BLOCK:
            lines.append(self._watched)
            self._watched = b""
        for line in lines:
            text = Line(at, line.decode("utf-8", "replace"))
            for watcher in tuple(self.watchers):
                watcher(self.kind, text)

    def _tell_rest(self) -> None:
        if self._watched and self.watchers:
            self._tell(b"\n")
        self._watched = b""


def _read(fd: int, portion: int = BLOCK) -> bytes | None:
    """A block, b"" at the end of file, None when there is nothing now."""
    try:
        return os.read(fd, portion)
    except BlockingIOError:
        return None


def _unread(fd: int) -> int:
    """How many bytes wait in a pipe (FIONREAD, pipe(7))."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
