"""How one process has ended so far: its last end, for whoever decides and for whoever asks, and its restarts by cause."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ocelot.states import Cause, ExitStatus, signal_name
from ocelot.wire.protocol import ExitInfo
from supervisor import restart
from supervisor.restart import Decision, End, Jitter

if TYPE_CHECKING:
    from ocelot.config.structs import RestartPolicy
    from supervisor.snapshots import HistorySnapshot


class History:
    """``in_a_row``: restarts without a success that lasted (see ``restart``)."""

    __slots__ = ("in_a_row", "last_end", "last_exit", "restarts")

    def __init__(self) -> None:
        self.last_end: End | None = None
        self.last_exit: ExitInfo | None = None
        self.restarts: dict[str, int] = {}
        self.in_a_row = 0

    def ended(self, status: ExitStatus, cause: Cause, uptime: float, detail: str = "") -> None:
        """It ran for ``uptime`` seconds and ended. ``detail``: more about it than ``status`` says."""
        self.last_end = End(status, cause, uptime)
        self.last_exit = ExitInfo(
            status=status.shell_status,
            code=status.code,
            signal=signal_name(status.signal) if status.signal is not None else None,
            cause=cause.value,
            detail=f"{status}: {detail}" if detail else str(status),
            at=time.clock_gettime(time.CLOCK_REALTIME),
        )

    def never_ran(self, cause: Cause, detail: str, shell_status: int) -> None:
        """It could not be started. ``shell_status``: what a shell would show for that."""
        self.last_end = End(None, cause)
        self.last_exit = ExitInfo(
            status=shell_status, cause=cause.value, detail=detail, at=time.clock_gettime(time.CLOCK_REALTIME)
        )

    def decide(self, policy: RestartPolicy, *, oneshot: bool, jitter: Jitter) -> Decision:
        """What the policy makes of its last end, which counts from now on."""
        assert self.last_end is not None
        decision = restart.decide(policy, self.in_a_row, self.last_end, oneshot=oneshot, jitter=jitter)
        self.in_a_row = decision.restarts
        return decision

    def restarted(self, cause: Cause) -> None:
        """It is started again because of ``cause``."""
        self.restarts[cause.value] = self.restarts.get(cause.value, 0) + 1

    def snapshot(self) -> HistorySnapshot:
        from supervisor.snapshots import HistorySnapshot

        return HistorySnapshot(
            last_end=self.last_end, last_exit=self.last_exit, restarts=self.restarts, in_a_row=self.in_a_row
        )

    def restore(self, kept: HistorySnapshot) -> None:
        self.last_end, self.last_exit = kept.last_end, kept.last_exit
        self.restarts, self.in_a_row = dict(kept.restarts), kept.in_a_row
