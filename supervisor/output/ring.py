"""The last bytes of a stream, with the time each line began.

Output arrives in large blocks, and nobody may ever look at it: appending copies the block and notes one time, and lines
are split when somebody asks. Content lives in one bytearray (cutting its front is cheap in CPython), times in two arrays,
so a thousand rings of short lines do not become millions of small objects. An unused ring owns no buffer at all.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from supervisor.snapshots import RingSnapshot

RESOLUTION = 0.001
"""Blocks that arrive within this many seconds share one time."""

MAX_MARKS = 4096


class Line(NamedTuple):
    """``at``: seconds since the epoch; ``text`` without its newline, bytes that are not UTF-8 replaced."""

    at: float
    text: str


def real_time() -> float:
    """Seconds since the epoch, for people; durations never use it."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Ring:
    """Keeps the last ``limit`` bytes."""

    def __init__(self, limit: int, *, now: Callable[[], float] = real_time) -> None:
        self.limit = limit
        self._now = now
        self._data: bytearray | bytes | None = None  # a large block is kept as it came
        self._start = 0  # the stream position of the first byte kept
        self._cut = False  # whether that byte is not the first of its line
        self._positions = array("Q")
        self._times = array("d")

    def append(self, block: bytes) -> None:
        if not block or self.limit <= 0:
            return
        if self._data is None:
            self._data = bytearray()
        data = self._data
        self._mark(block)
        excess = len(data) + len(block) - self.limit
        if excess > 0:
            self._cut = (data[excess - 1] if excess <= len(data) else block[excess - len(data) - 1]) != 0x0A
            self._start += excess
        if excess >= len(data):
            self._data = block[max(0, len(block) - self.limit) :]
        else:
            if isinstance(data, bytes):
                data = self._data = bytearray(data)
            if excess > 0:
                del data[:excess]
            data += block
        self._forget()

    def lines(self, last: int | None = None, since: float | None = None) -> list[Line]:
        """The lines kept, oldest first: the ``last`` ones, those that began at ``since`` (epoch seconds) or later, or all.

        A line whose beginning is lost is left out, unless it is all there is.
        """
        if not self._data:
            return []
        position = self._start
        pieces = bytes(self._data).split(b"\n")
        if pieces[-1] == b"":
            pieces.pop()
        if self._cut and len(pieces) > 1:
            position += len(pieces.pop(0)) + 1
        found = []
        for piece in pieces:
            found.append(Line(self._time_of(position), piece.decode("utf-8", "replace")))
            position += len(piece) + 1
        if since is not None:
            found = [line for line in found if line.at >= since]
        return found if last is None else found[max(0, len(found) - last) :]

    @property
    def end(self) -> int:
        """The place in the stream behind the last byte kept."""
        return self._start + len(self)

    def after(self, place: int) -> bytes:
        """What is kept of the stream from ``place`` on."""
        return bytes(self._data or b"")[max(0, place - self._start) :]

    def tail(self, last: int) -> bytes:
        """The ``last`` lines as they came, the one that has no end yet among them."""
        data = bytes(self._data or b"")
        begin = len(data) - data.endswith(b"\n")
        for _ in range(last):
            begin = data.rfind(b"\n", 0, begin)
            if begin < 0:
                break
        if begin < 0 and self._cut:
            begin = data.find(b"\n", 0, len(data) - 1)  # the first one lacks its beginning, unless it is all there is
        return data[begin + 1 :] if last > 0 else b""

    def snapshot(self) -> RingSnapshot:
        from supervisor.snapshots import RingSnapshot

        return RingSnapshot(
            data=bytes(self._data or b""),
            start=self._start,
            cut=self._cut,
            positions=self._positions.tolist(),
            times=self._times.tolist(),
        )

    def restore(self, kept: RingSnapshot) -> None:
        self._data = bytearray(kept.data) if kept.data else None
        self._start, self._cut = kept.start, kept.cut
        self._positions, self._times = array("Q", kept.positions), array("d", kept.times)

    def __len__(self) -> int:
        return len(self._data) if self._data is not None else 0

    def _mark(self, block: bytes) -> None:
        """Note the time of the first line that begins in ``block``, if one does."""
        data = self._data
        position = self._start + len(data or b"")
        if data and data[-1] != 0x0A:
            begin = block.find(b"\n") + 1
            if begin in (0, len(block)):
                return
            position += begin
        now = self._now()
        if self._times and now - self._times[-1] < RESOLUTION:
            return
        self._positions.append(position)
        self._times.append(now)
        if len(self._times) > MAX_MARKS:
            self._positions = self._positions[::2]
            self._times = self._times[::2]

    def _time_of(self, position: int) -> float:
        return self._times[max(0, bisect_right(self._positions, position) - 1)]

    def _forget(self) -> None:
        """Drop the times of lines that are gone; now and then, since cutting an array's front copies it."""
        passed = bisect_right(self._positions, self._start) - 1
        if passed > 256:
            del self._positions[:passed]
            del self._times[:passed]
