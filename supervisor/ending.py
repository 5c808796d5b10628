"""When a supervised set is over, and with which status.

It is over when every process has ended by itself, or an essential one has; never because an operator stopped the last one. A
process with a schedule never has ended as long as there is a next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import trio

from supervisor.process.supervised import Process


@dataclass(frozen=True, slots=True)
class Ending:
    """How a supervised set came to its end. ``status`` is the exit status that ocelot reports; ``process`` decided it."""

    status: int
    process: str | None
    reason: str


class Reckoning:
    """Who has not ended by itself (``going_on``), who failed first, and what follows. ``over`` is set once and for all."""

    def __init__(self, processes: Mapping[str, Process]) -> None:
        self.over = trio.Event()
        self.ending: Ending | None = None
        self.going_on = set(processes)
        self._processes = processes
        self.first_failure: str | None = None
        self._first_ending: Ending | None = None

    def ended(self, process: Process) -> None:
        """It has ended by itself, and will not be started again."""
        if process.schedule is not None and process.schedule.next_run is not None:
            return
        self.going_on.discard(process.name)
        if self.first_failure is None and not process.succeeded:
            self.first_failure = process.name
            self._first_ending = _ending_of(process, "every process has ended; the first failure was")
        if process.config.essential:
            self.end(_ending_of(process, "the essential process"))
        elif not self.going_on and not any(each.about_to_start for each in self._processes.values()):
            self.end(self._first_ending or Ending(0, None, "every process has ended"))

    def goes_on(self, name: str) -> None:
        """It is started, or held back, or was stopped on request."""
        self.going_on.add(name)

    def forget(self, name: str) -> None:
        """It is no longer part of the set; that ends nothing."""
        self.going_on.discard(name)

    def end(self, ending: Ending) -> None:
        """It is over, for this reason if for none before."""
        if self.ending is None:
            self.ending = ending
            self.over.set()


def _ending_of(process: Process, words: str) -> Ending:
    last = process.history.last_exit
    status = last.status if last is not None else 0
    if status == 0 and not process.succeeded:
        status = 1  # a probe condemned it, and it took its leave with 0
    return Ending(status, process.name, f"{words} {process.name}: {process.reason}")
