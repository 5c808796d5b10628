"""Where output ends: what a stream may ask of every sink, and the two usual ones, a shared writer and a file.

A sink takes blocks without waiting, or says that it is full. It is opened when first needed, after a failure at most once
a second, and never by a timer: a log that cannot be written is one warning and a count, not a reason to stop a service.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot.linux.descriptors import Writer

if TYPE_CHECKING:
    from supervisor.output.logfile import SharedFile

BLOCK = 64 * 1024
"""Bytes a read: the size of a pipe."""

RETRY = 1.0
"""Seconds between attempts to open or fill a sink that failed."""


@dataclass(slots=True)
class Counters:
    """Bytes read from one stream, how many of them did not reach their destination, and rotations that it caused.

    Lines are not counted: that takes as long as writing them. ``problem``: why nothing reaches it now, in words.
    """

    bytes: int = 0
    dropped: int = 0
    rotations: int = 0
    problem: str = ""

    def add(self, others: Counters) -> None:
        self.bytes += others.bytes
        self.dropped += others.dropped
        self.rotations += others.rotations


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

    def __init__(self, file: SharedFile, counters: Counters) -> None:
        self.file = file
        self.counters = counters
        file.sharers += 1

    def rotated(self) -> None:
        self.counters.rotations += 1

    def lost(self, count: int) -> None:
        self.counters.dropped += count

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

    @property
    def why(self) -> OSError | None:
        """Why it was full."""
        return self.file.why

    def offer(self, data: bytes) -> int:
        return self.file.write(data, self)

    def close(self) -> None:
        self.file.close(self)


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
