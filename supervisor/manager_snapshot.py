"""The set of processes across images: the part of it that only a replacement of ocelot needs, and so is imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.ending import Ending
from supervisor.snapshots import NotNow, ProcessSnapshot, SupervisorSnapshot

if TYPE_CHECKING:
    from supervisor.process_set import ProcessSet

_UNDER_WAY = 256
"""Requests that are remembered: nobody may ever come back for some of them."""


def snapshot(processes: ProcessSet) -> SupervisorSnapshot:
    """For an image that replaces this one. Raises NotNow while a process is being spawned or all are being stopped."""
    reckoning, roster = processes.reckoning, processes.roster
    if processes.stopping or reckoning.over.is_set():
        raise NotNow("everything is being stopped")
    if processes.asking:
        raise NotNow("processes are being stopped one after the other")
    if going := next((name for name in roster.processes if not roster.wants(name)), None):
        raise NotNow(f"{going} is being taken away")
    return describe_set(processes, [process.snapshot() for process in roster.processes.values()])


def describe_set(processes: ProcessSet, members: list[ProcessSnapshot]) -> SupervisorSnapshot:
    """As it is, with these members."""
    reckoning, roster = processes.reckoning, processes.roster
    return SupervisorSnapshot(
        configs=dict(roster.configs),
        journal=processes.journal.snapshot(),
        processes=members,
        scaled=sorted(processes.scaled),
        idle_sockets=processes.assembly.idle_sockets(),
        shutdown_timeout=processes.shutdown_timeout,
        going_on=[name for name in roster.processes if name in reckoning.going_on],
        first_failure=reckoning.first_failure,
        under_way=dict(list(processes.under_way.items())[-_UNDER_WAY:]),
    )


def restore(processes: ProcessSet, kept: SupervisorSnapshot) -> None:
    """Before it runs, and before the reaper runs: go on from where the image before this one was."""
    processes.kept = True
    processes.scaled = set(kept.scaled)
    processes.under_way = dict(kept.under_way)
    if kept.journal is not None:
        processes.journal.restore(kept.journal)
    for each in kept.processes:
        processes.roster.processes[each.name].restore(each, processes.around.spawner.adopt)
    processes.assembly.restore_idle(kept.idle_sockets, processes.roster.configs)
    processes.reckoning.going_on = set(kept.going_on)
    processes.reckoning.first_failure = kept.first_failure
    if kept.over is not None:
        processes.reckoning.end(Ending(*kept.over))
