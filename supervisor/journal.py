"""The last changes of all processes, numbered, for whoever wants to know what happened: it is buffer and history in one.

A follower holds nothing here: it remembers the number it has seen, and asks for what came after it. So a thousand slow
followers cost no memory, and one that comes back too late is told how much it missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from supervisor.output.ring import real_time

if TYPE_CHECKING:
    from supervisor.lifecycle import Change
    from supervisor.snapshots import JournalSnapshot

LIMIT = 512
"""Changes that are kept: about 100 KB when all of them are there."""


class Journal:
    """Keeps the last ``limit`` changes.

    Numbers begin at the milliseconds since the epoch and grow by one with each change: so those of a later ocelot, after a restart, are
    higher, and a follower that comes back to it is told of the gap.
    """

    def __init__(self, limit: int = LIMIT, *, now: Callable[[], float] = real_time) -> None:
        self._now = now
        self._entries: deque[tuple[float, Change]] = deque(maxlen=limit)
        self._origin = int(now() * 1000)
        self.latest = self._origin
        """The number of the last change; before the first one, a number that no change has."""

    def note(self, change: Change) -> None:
        """Write down what has just happened."""
        self._entries.append((self._now(), change))
        self.latest += 1

    def snapshot(self) -> JournalSnapshot:
        from supervisor.snapshots import JournalSnapshot

        return JournalSnapshot(origin=self._origin, latest=self.latest, entries=list(self._entries))

    def restore(self, kept: JournalSnapshot) -> None:
        """Go on with the numbers of the image before this one: its followers miss nothing."""
        self._origin, self.latest = kept.origin, kept.latest
        self._entries.extend(kept.entries)

    def after(self, number: int | None) -> tuple[int | None, list[tuple[int, float, Change]]]:
        """What is kept of the changes after ``number`` (None: all that is kept), as number, epoch seconds and change.

        Before it how many are lost: 0, or None when nobody can tell since ``number`` is not one of ours.
        """
        first = self.latest - len(self._entries) + 1
        skip, missed = 0, None if number is not None else 0
        if number is not None and self._origin <= number <= self.latest:
            skip, missed = max(0, number + 1 - first), max(0, first - number - 1)
        kept = islice(self._entries, skip, None)
        return missed, [(first + skip + index, at, change) for index, (at, change) in enumerate(kept)]
