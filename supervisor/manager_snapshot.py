"""The set of processes across images: the part of it that only a replacement of ocelot needs, and so is imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.snapshots import NotNow, SupervisorSnapshot

if TYPE_CHECKING:
    from supervisor.manager import Supervisor

_UNDER_WAY = 256
"""Requests that are remembered: nobody may ever come back for some of them."""


def snapshot(supervisor: Supervisor) -> SupervisorSnapshot:
    """For an image that replaces this one. Raises NotNow while a process is being spawned or all are being stopped."""
    reckoning, roster = supervisor._reckoning, supervisor._roster
    if supervisor._stopping or reckoning.over.is_set():
        raise NotNow("everything is being stopped")
    if supervisor._asking:
        raise NotNow("processes are being stopped one after the other")
    if going := next((name for name in roster.processes if not roster.wants(name)), None):
        raise NotNow(f"{going} is being taken away")
    return SupervisorSnapshot(
        configs=dict(roster.configs),
        journal=supervisor.journal.snapshot(),
        processes=[process.snapshot() for process in roster.processes.values()],
        scaled=sorted(supervisor.scaled),
        idle_sockets=supervisor._assembly.idle_sockets(),
        shutdown_timeout=supervisor.shutdown_timeout,
        going_on=[name for name in roster.processes if name in reckoning.going_on],
        first_failure=reckoning.first_failure,
        under_way=dict(list(supervisor.under_way.items())[-_UNDER_WAY:]),
    )


def restore(supervisor: Supervisor, kept: SupervisorSnapshot) -> None:
    """Before it runs, and before the reaper runs: go on from where the image before this one was."""
    supervisor._kept = True
    supervisor.scaled = set(kept.scaled)
    supervisor.under_way = dict(kept.under_way)
    if kept.journal is not None:
        supervisor.journal.restore(kept.journal)
    for each in kept.processes:
        supervisor._roster.processes[each.name].restore(each, supervisor.surroundings.spawner.adopt)
    supervisor._assembly.restore_idle(kept.idle_sockets, supervisor.configs)
    supervisor._reckoning.going_on = set(kept.going_on)
    supervisor._reckoning.first_failure = kept.first_failure
