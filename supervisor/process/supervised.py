"""One supervised process as others see it: what may be asked of it, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.states import State, signal_name
from ocelot.wire.protocol import ProcessStatus
from supervisor.children.child import Child
from supervisor.lifecycle import Event
from supervisor.process.life import Life

if TYPE_CHECKING:
    from supervisor.snapshots import ChildSnapshot, ProcessSnapshot


class Process(Life):
    """A configured process and its life. ``run`` is its task; everything else may be called from any task.

    ``start``, ``stop``, ``restart`` and ``kill`` only ask; :meth:`accepted` and :meth:`settled` wait.
    """

    __slots__ = ()

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, not its group; nothing happens if it does not run."""
        if self._child is not None:
            self._child.signal(number)

    def reload(self) -> None:
        """Send it its ``reloadSignal``, if it has one."""
        number = self.config.reload_signal
        if number is not None and self._child is not None:
            if self.health is not None and self.health.expect_reload():
                self.readiness_changed(f"told to reload ({signal_name(number)})")
            self._child.signal(number)

    def replace(self, config: structs.Process, renew: Callable[[structs.Process], None]) -> None:
        """Go by ``config`` from now on. ``renew`` is called before the next start, with the configuration of now."""
        before, self.config = self.config, config
        if self._renew is None:
            self._renew = lambda: renew(before)  # else it knows the configuration that things were made from

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.status is None else None

    @property
    def ready(self) -> bool:
        """Whether it runs, and serves as far as anybody can tell."""
        return self.state is State.RUNNING and (self.health is None or self.health.ready)

    def readiness_changed(self, news: str = "") -> None:
        """Its health calls this when its ``ready`` has changed, or with ``news`` of another kind."""
        if self.state is State.RUNNING and self.health is not None:
            self.reason = news or ("ready again" if self.health.ready else "runs, but is not ready")
            self._enter(Event.READY if self.health.ready else Event.UNREADY)

    def status(self) -> ProcessStatus:
        from supervisor.process.status import status_of

        return status_of(self, pid=self.pid, ready=self.ready)

    def let_go(self) -> None:
        """It is down and no longer supervised: close what was kept for its next start."""
        if self.health is not None:
            self.health.close()

    # -- across images

    def snapshot(self) -> ProcessSnapshot:
        """For an image that replaces this one. Raises NotNow while it is being spawned."""
        from supervisor.process.snapshot import snapshot

        return snapshot(self)

    def restore(self, kept: ProcessSnapshot, adopt: Callable[[ChildSnapshot, Callable[[], None]], Child]) -> None:
        """Before ``run``: be what ``kept`` says. ``adopt``: takes over the child of the image before this one."""
        from supervisor.process.snapshot import restore

        restore(self, kept, adopt)
