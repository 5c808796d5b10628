"""The health of one process, over all its lives: whether it is ready, whether it is alive, and what says so.

In STARTING a startup probe comes first and holds the others back; then what the process says itself (``notify``), then its
readiness probe. From the startup on liveness is looked after, in STARTING too. A readiness that is lost ends nothing: it only shows. One
miss never kills: ``failureThreshold`` of them in a row do, and then the process is stopped gracefully.

Imported only when a process is configured with something of this. While a process runs each of its probes is a task; what the
process says comes through the relay, and needs none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.states import Cause
from ocelot.wire.protocol import HealthStatus
from supervisor.children.child import Child
from supervisor.health.notify import Ears, Notifications
from supervisor.health.probe_log import LogWatch, Watched
from supervisor.health.probes import Check, Probe, Role
from supervisor.health.readiness_fd import Newline
from supervisor.process import launch
from supervisor.process.environment_file import read_environment_file
from supervisor.process.starting import OPEN_TIMEOUT
from supervisor.process.surroundings import Ends, Handed, Surroundings, Verdict

if TYPE_CHECKING:
    from supervisor.snapshots import HealthSnapshot, NotifySnapshot

T = TypeVar("T")


class Said(Protocol):
    """How a process says that it is ready: :class:`Notifications` or :class:`Newline`."""

    ready: trio.Event
    extended_to: float

    @property
    def word(self) -> str:
        """What the process is to send."""

    def handles(self) -> Handed: ...
    def begin(self, leader: int) -> None: ...
    def catch_up(self) -> None: ...
    def close(self) -> None: ...
    def snapshot(self) -> NotifySnapshot: ...
    def restore(self, kept: NotifySnapshot) -> None: ...


def attend(
    name: str,
    config: structs.Process,
    around: Surroundings,
    *,
    output: Watched,
    relay: Ears,
    changed: Callable[[str], None],
) -> Health | None:
    """Who looks after the health of ``name``; None if nothing says how.

    ``changed`` is called with "" when ``ready`` changes, and with words when a reload that was asked for begins or is done.
    """
    probes: dict[Role, Probe] = {}
    watches: list[LogWatch] = []
    for role, probe in _configured(config).items():
        if isinstance(probe.handler, structs.LogPattern):
            watch = LogWatch(output, probe.handler.pattern, name=name)
            watches.append(watch)
            probes[role] = Probe(role, probe, watch.check, wait=True, name=name)
        else:
            probes[role] = Probe(role, probe, _check(probe, name, config, around), name=name)
    said: Said | None = None
    health = Health(name, config, probes, watches, changed)
    if config.notify is not None and config.notify.kind == "systemd":
        said = health.notifications = Notifications(name, config.notify, relay, health.heard)
    elif config.notify is not None and config.notify.fd is not None:
        said = Newline(name, config.notify.fd, relay)
    health.said = said
    return health if probes or said is not None else None


def _configured(config: structs.Process) -> dict[Role, structs.Probe]:
    found: dict[Role, structs.Probe | None] = {
        "startup": config.startup_probe,
        "readiness": config.readiness_probe,
        "liveness": config.liveness_probe,
    }
    return {role: probe for role, probe in found.items() if probe is not None}


def _check(probe: structs.Probe, name: str, config: structs.Process, around: Surroundings) -> Check:
    """What makes the check of ``probe``; what it needs is imported when it is first made."""
    match probe.handler:
        case structs.ExecCommand():
            from supervisor.health.probe_exec import ExecCheck

            return ExecCheck(partial(_start_command, probe.handler.command, name, config, around))
        case structs.Grpc():
            from supervisor.health.probe_grpc import check_grpc

            return partial(check_grpc, probe.handler, min(probe.timeout, probe.period))
        case _:
            return _network_check(probe.handler)


def _network_check(handler: structs.Handler) -> Check:
    from supervisor.health import probe_network

    match handler:
        case structs.HttpGet():
            return partial(probe_network.check_http, handler)
        case structs.TcpSocket():
            return partial(probe_network.check_tcp, handler)
        case structs.UnixSocket():
            return partial(probe_network.check_unix, handler)
        case _:
            raise AssertionError(f"{handler} has no check")


async def _start_command(
    command: Sequence[str], name: str, config: structs.Process, around: Surroundings, ends: Ends
) -> Child:
    """Start a command as the process itself would be started. Raises SpawnError."""
    path = config.environment_file
    from_file = {} if path is None else await read_environment_file(path)
    environment = launch.environment(config, around.inherited, around.environment, from_file)
    cgroup = launch.joined(name, config)
    spec = launch.specification(config, environment, ends, around.inherited, argv=command, cgroup=cgroup)
    if around.slow(spec):
        return await around.spawner.spawn_in_thread(spec, timeout=OPEN_TIMEOUT, on_exit=_nobody_else)
    return around.spawner.spawn(spec, on_exit=_nobody_else)


def _nobody_else() -> None:
    """The check waits for its child itself."""


class Health:
    """See :class:`supervisor.process.surroundings.Health`. ``probes`` by role."""

    def __init__(
        self,
        name: str,
        config: structs.Process,
        probes: Mapping[Role, Probe],
        watches: Sequence[LogWatch],
        changed: Callable[[str], None],
    ) -> None:
        self.name = name
        self.probes = probes
        self.said: Said | None = None
        self.notifications: Notifications | None = None
        self._config = config
        self._watches = watches
        self._changed = changed
        self._serves = False  # by its readiness probe, or since it has become ready
        self._shown = False  # what ``ready`` was when ``changed`` was last called
        self._reload = ""  # how far a reload was then
        self._leader = 0
        self._child: Child | None = None

    # -- looking

    @property
    def ready(self) -> bool:
        """Whether it serves. One that says STOPPING=1 does not any more."""
        return self._serves and (self.notifications is None or self.notifications.state != "stopping")

    @property
    def main_pid(self) -> int | None:
        """What the process said with MAINPID=, and what was found to belong to it."""
        return self.notifications.main_pid if self.notifications is not None else None

    @property
    def extended_to(self) -> float:
        """Until when the process asked to be left in peace with EXTEND_TIMEOUT_USEC=; trio's clock, 0 if it never did."""
        return self.notifications.extended_to if self.notifications is not None else 0.0

    def waits_for(self) -> str:
        """What it still has to do to be ready, in words, with what was found last."""
        startup, readiness = self.probes.get("startup"), self.probes.get("readiness")
        probe = readiness
        if startup is not None and not startup.passed:
            probe = startup
        elif self.said is not None and not self.said.ready.is_set():
            return f"waits for {self.said.word}"
        if probe is None or probe.passed:
            return ""
        last = f": {probe.last.output}" if probe.last is not None and not probe.last.ok else ""
        return f"waits for its {probe.role} probe{last}"

    def status(self) -> HealthStatus:
        notify = self.notifications
        return HealthStatus(
            probes=[probe.status() for probe in self.probes.values()],
            notify=notify.status() if notify is not None else None,
        )

    # -- its life

    def handles(self) -> Handed:
        """What the next start gets. Raises OSError. What was known of the life before is forgotten."""
        self._serves = self._shown = False
        self._leader, self._child = 0, None
        for probe in self.probes.values():
            probe.forget()
        for watch in self._watches:
            watch.begin()
        return Handed() if self.said is None else self.said.handles()

    async def until_ready(self, child: Child) -> Verdict | None:
        """None when it is ready; else why it is to go. Cancelled when the child ends or is to stop."""
        self._begin(child)
        startup = self.probes.get("startup")
        if startup is not None:
            startup.begin()
            while not startup.passed:
                await startup.step()
                if startup.missed:
                    return Verdict(Cause.STARTUP, startup.verdict())
        self._begin_probes()
        verdict = await _first(self._become_ready, *self._alive())
        self._serves = self._shown = verdict is None
        return verdict

    async def watch(self, child: Child) -> Verdict:
        """Look after it until it must go."""
        if self._leader != child.pid:  # it was ready before an image of ocelot made way for this one
            self._begin(child)
            self._begin_probes()
            self._serves = self._shown = True
        self._child = child
        self._name_heir()
        if self.notifications is not None:
            self.notifications.pinged = trio.current_time()
        return await _first(*self._alive(), *self._serving(), *self._wary(), trio.sleep_forever)

    def expect_reload(self) -> bool:
        """It is about to be told to reload; whether it will say when that is done."""
        if self.notifications is None or not self.notifications.config.reload:
            return False
        self.notifications.expect_reload()
        self._reload = "asked"
        return True

    def heard(self) -> None:
        """The process has said something."""
        self._name_heir()
        self._tell()
        reload = self.notifications.reload if self.notifications is not None else None
        if reload is not None and reload.state != self._reload:
            self._reload = reload.state
            self._changed("reloads" if reload.state == "reloading" else "has reloaded")

    def close(self) -> None:
        """It is no longer supervised."""
        for watch in self._watches:
            watch.end()
        if self.said is not None:
            self.said.close()

    # -- across images

    def snapshot(self) -> HealthSnapshot:
        from supervisor.snapshots import HealthSnapshot

        return HealthSnapshot(
            ready=self._serves,
            leader=self._child.pid if self._child is not None else self._leader,  # it may go on as its heir
            probes={role: probe.snapshot() for role, probe in self.probes.items()},
            said=self.said.snapshot() if self.said is not None else None,
            lines=[watch.line for watch in self._watches],
            looking=any(watch.looking for watch in self._watches),
        )

    def restore(self, kept: HealthSnapshot) -> None:
        """Be what ``kept`` says: a process that is ready stays it, and its probes are due when they were."""
        self._serves = kept.ready
        self._shown = self.ready
        self._leader = kept.leader
        for role, probe in self.probes.items():
            if role in kept.probes:
                probe.restore(kept.probes[role])
        if self.said is not None and kept.said is not None:
            self.said.restore(kept.said)
            self._shown = self.ready
            if self.notifications is not None and self.notifications.reload is not None:
                self._reload = self.notifications.reload.state
            if kept.leader:
                self.said.begin(kept.leader)
        for watch, line in zip(self._watches, kept.lines, strict=False):
            watch.restore(line, kept.looking)

    # -- inside

    def _name_heir(self) -> None:
        if self._child is not None and self.main_pid is not None:
            with suppress(OSError):  # it has ended already
                self._child.name_heir(self.main_pid)

    def _begin(self, child: Child) -> None:
        self._leader = child.pid
        self._child = child
        if self.said is not None:
            self.said.begin(child.pid)

    def _begin_probes(self) -> None:
        """Their delays count from here: from the start, or from the success of the startup probe."""
        for role in ("readiness", "liveness"):
            probe = self.probes.get(role)
            if probe is not None:
                probe.begin()

    async def _become_ready(self) -> Verdict | None:
        if self.said is not None and not await self._say_ready(self.said):
            assert self._config.notify is not None
            return Verdict(Cause.STARTUP, f"it did not say that it is ready within {self._config.notify.timeout:g}s")
        probe = self.probes.get("readiness")
        while probe is not None and not probe.passed:
            await probe.step()
        return None

    async def _say_ready(self, said: Said) -> bool:
        assert self._config.notify is not None
        deadline = trio.current_time() + self._config.notify.timeout
        while not said.ready.is_set():
            due = max(deadline, said.extended_to)
            if trio.current_time() >= due:
                said.catch_up()
                return said.ready.is_set()
            with trio.move_on_at(due):
                await said.ready.wait()
        return True

    def _alive(self) -> list[Callable[[], Awaitable[Verdict]]]:
        probe = self.probes.get("liveness")
        return [] if probe is None else [partial(self._live, probe)]

    async def _live(self, probe: Probe) -> Verdict:
        while not probe.missed:
            if not await probe.step() and not probe.missed:
                count = f"{probe.failures} of {probe.config.failure_threshold}"
                log.warn(f"{self.name}: liveness probe failed ({count}): {probe.last.output if probe.last else ''}")
        return Verdict(Cause.LIVENESS, probe.verdict())

    def _serving(self) -> list[Callable[[], Awaitable[Verdict]]]:
        probe = self.probes.get("readiness")
        # A line of the log stays where it is: there is nothing to look at again
        return [] if probe is None or probe.wait else [partial(self._serve, probe)]

    async def _serve(self, probe: Probe) -> Verdict:
        while True:
            await probe.step()
            if probe.passed if not self._serves else probe.missed:
                self._serves = not self._serves
                if not self._serves:
                    log.warn(f"{self.name}: not ready: {probe.verdict()}")
                self._tell()

    def _wary(self) -> list[Callable[[], Awaitable[Verdict]]]:
        return [] if self.notifications is None else [self._await_watchdog]

    async def _await_watchdog(self) -> Verdict:
        assert self.notifications is not None
        return Verdict(Cause.WATCHDOG, await self.notifications.until_silent_too_long())

    def _tell(self) -> None:
        if self.ready is not self._shown:
            self._shown = self.ready
            self._changed("")


async def _first(*contestants: Callable[[], Awaitable[T]]) -> T:
    """What the first of them to end returns; the others are cancelled. One alone needs no task of its own."""
    if len(contestants) == 1:
        return await contestants[0]()
    results: list[T] = []
    async with trio.open_nursery() as nursery:

        async def run(contestant: Callable[[], Awaitable[T]]) -> None:
            results.append(await contestant())
            nursery.cancel_scope.cancel()

        for contestant in contestants:
            nursery.start_soon(run, contestant)
    return results[0]
