"""How long the event loop is busy between two looks at what has happened: the time that an event may have to wait for us.

An instrument of trio, not a timer: an idle loop is not woken up by it. Installed when the first figures are asked for.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable

import trio

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: the upper ends of the histogram's buckets; one more takes the rest."""


class LoopLag(trio.abc.Instrument):
    """A histogram of the loop's busy stretches. ``counts`` has one entry more than :data:`BOUNDS`. Seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.longest = 0.0
        self._clock = clock
        self._began: float | None = None

    @classmethod
    def install(cls) -> LoopLag:
        """Measure the running loop from now on."""
        instrument = cls()
        trio.lowlevel.add_instrument(instrument)
        return instrument

    def restore(self, counts: list[int], total: float, longest: float) -> None:
        """Go on from there; an image with other buckets leaves it out, as one that nobody had asked before."""
        if len(counts) == len(self.counts):
            self.counts, self.total, self.longest = list(counts), total, longest

    def after_io_wait(self, timeout: float) -> None:
        self._began = self._clock()

    def before_io_wait(self, timeout: float) -> None:
        if self._began is None:
            return  # installed in the middle of a stretch
        busy = self._clock() - self._began
        self.counts[bisect_left(BOUNDS, busy)] += 1
        self.total += busy
        self.longest = max(self.longest, busy)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them: upper end and count, ``+Inf`` last."""
        found, running = [], 0
        for bound, count in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            running += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return found
