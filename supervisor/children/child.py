"""A process that we have started, from its start to its end, as its owner sees it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from ocelot.states import ExitStatus

if TYPE_CHECKING:
    from supervisor.snapshots import ChildSnapshot


class Child:
    """A process of ours. ``status`` is None while it lives.

    ``kill_group``: when it has died and before it is reaped, its process group ``group`` (which it leads) gets SIGKILL.
    ``passing``: an image that replaces this one may kill it, and start another in its place.
    ``heir``: the pid of the process that it goes on as when this one ends, as daemons do (MAINPID= of sd_notify(3)); 0 for none.
    """

    __slots__ = ("_event", "_heir_fd", "_on_exit", "group", "heir", "kill_group", "passing", "pid", "status")

    def __init__(self, pid: int, *, kill_group: bool, on_exit: Callable[[], None] | None) -> None:
        self.pid = pid
        self.group = pid
        self.status: ExitStatus | None = None
        self.heir = 0
        self._heir_fd = -1
        self.kill_group = kill_group
        self.passing = False
        self._on_exit = on_exit
        self._event: trio.Event | None = None

    @classmethod
    def of(cls, kept: ChildSnapshot, on_exit: Callable[[], None]) -> Child:
        """One that the image before this one has started."""
        child = cls(kept.pid, kill_group=kept.kill_group, on_exit=on_exit)
        child.group = kept.group or kept.pid
        child.status, child.heir, child._heir_fd = kept.status, kept.heir, kept.heir_fd
        return child

    async def wait(self) -> ExitStatus:
        """Wait until it has ended."""
        if self.status is None:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        assert self.status is not None
        return self.status

    def signal(self, number: int) -> None:
        """kill(2), its heir rather than itself; nothing happens when it has ended.

        The number is ours until the reaper has set ``status``.
        """
        if self.status is None and not self._signal_heir(number):
            os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """killpg(2) on its group; nothing happens when the leader has ended. Raises PermissionError."""
        if self.status is None:
            try:
                os.killpg(self.group, number)
            except ProcessLookupError:
                # It leads no group (it was started without one), or moved into another: then it alone is meant
                os.kill(self.pid, number)
            self._signal_heir(number, group=True)

    def name_heir(self, pid: int) -> None:
        """It goes on as ``pid`` when it ends. Raises OSError if there is no such process."""
        if pid not in (self.pid, self.heir) and self.status is None:
            self.forget_heir()
            self._heir_fd = os.pidfd_open(pid)  # not our child yet: its number alone proves nothing later
            self.heir = pid

    def _signal_heir(self, number: int, *, group: bool = False) -> bool:
        """Send ``number`` to the heir, and with ``group`` to the group that it may lead; False if there is none alive."""
        if self._heir_fd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._heir_fd, number)
            if group and os.getpgid(self.heir) == self.heir:
                os.killpg(self.heir, number)
        except ProcessLookupError:
            return False
        return True

    def forget_heir(self) -> None:
        """It goes on as nobody."""
        if self._heir_fd >= 0:
            os.close(self._heir_fd)
        self._heir_fd, self.heir = -1, 0

    def snapshot(self) -> ChildSnapshot:
        from supervisor.snapshots import ChildSnapshot

        return ChildSnapshot(
            pid=self.pid,
            group=self.group,
            kill_group=self.kill_group,
            status=self.status,
            heir=self.heir,
            heir_fd=self._heir_fd,
        )

    def ended(self, status: ExitStatus) -> None:
        """The reaper says so; whoever waits is told."""
        self.status = status
        self.forget_heir()
        if self._event is not None:
            self._event.set()
        if self._on_exit is not None:
            self._on_exit()
