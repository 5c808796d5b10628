"""The state of a set of processes, for its manager and for those parts of it that are imported when they are asked for."""

from __future__ import annotations

import trio

from ocelot.errors import ControlError
from supervisor.assembly import Assembly
from supervisor.ending import Reckoning
from supervisor.journal import Journal
from supervisor.process.supervised import Process
from supervisor.process.surroundings import Surroundings
from supervisor.roster import Roster


class ProcessSet:
    """``nursery``: where they live, None before and after. ``stopping``: everything is. ``kept``: it goes on from where another image was.

    ``going``: those that are stopped to be forgotten. ``asking``: how many requests are not through, to be stopped in order or to be taken
    away. ``scaled``: entries whose replicas are not those of the file.
    """

    def __init__(
        self,
        around: Surroundings,
        assembly: Assembly,
        roster: Roster,
        reckoning: Reckoning,
        shutdown_timeout: float | None,
    ) -> None:
        self.around = around
        self.assembly = assembly
        self.roster = roster
        self.reckoning = reckoning
        self.shutdown_timeout = shutdown_timeout
        self.journal = Journal()
        self.scaled: set[str] = set()
        self.under_way: dict[str, dict[str, float | None]] = {}
        self.going: set[Process] = set()
        self.asking = 0
        self.stopping = False
        self.kept = False
        self.nursery: trio.Nursery | None = None
        self.change = trio.Event()

    def tell(self) -> None:
        """Wake those who wait for a change."""
        before, self.change = self.change, trio.Event()
        before.set()

    def refuse_late_starts(self) -> None:
        """Raise ControlError when everything is being stopped."""
        if self.stopping:
            raise ControlError("cannot start anything: everything is being stopped", status=409, kind="shutting-down")
