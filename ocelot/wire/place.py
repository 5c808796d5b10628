"""How far a stream of log lines was read, so that it can go on after a cut: nothing is lost, and nothing comes twice.

Lines have times, but no numbers; those that arrive within a millisecond share one time. So after a cut some that were seen are
asked for again, and left out by what they say.
"""

from __future__ import annotations

from collections import Counter

OVERLAP = 0.002
"""Seconds."""

BEGAN = "ocelot-at"
"""The header of an answer: when it was given, on ocelot's clock, in seconds since the epoch."""

LATEST = "ocelot-latest"
"""The header of an answer with events: the number of the last one that had happened by then."""


class Place:
    """How far a stream was read, by the times of its lines."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._at = 0.0
        self._recent: list[tuple[float, str]] = []
        self._again: Counter[str] = Counter()  # what may come a second time, up to the time ``_until``
        self._until = 0.0

    def begin(self, at: str | None) -> None:
        """An answer has begun; ``at`` is its header :data:`BEGAN`."""
        if self._began is None and at is not None:
            self._began = float(at)

    def is_new(self, at: float, line: str) -> bool:
        """Note ``line`` (who said what), unless it was there before the stream was cut."""
        if at <= self._until and self._again[line] > 0:
            self._again[line] -= 1
            return False
        self._at = max(self._at, at)
        self._recent = [each for each in self._recent if each[0] >= self._at - 2 * OVERLAP]
        self._recent.append((at, line))
        return True

    def cut(self) -> float | None:
        """The stream was cut: from which time on to ask for lines. None: as at first, since it had not begun."""
        if not self._at:
            return self._began
        since, self._until = self._at - OVERLAP, self._at
        self._again = Counter(line for at, line in self._recent if at >= since)
        return since
