"""A set of processes whose loop is broken, across images: as a snapshot, but nothing is waited for.

What was half done goes back to where the next image does it anew. Nothing of it is lost or done for good twice: a start that had no
process yet is made again, commands before a start and after an end that were under way are killed with those who waited for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocelot.states import Goal, State
from supervisor.lifecycle import TABLE, Event
from supervisor.manager_snapshot import describe_set
from supervisor.process.snapshot import describe_process

if TYPE_CHECKING:
    from supervisor.process.supervised import Process
    from supervisor.process_set import ProcessSet
    from supervisor.snapshots import ProcessSnapshot, SupervisorSnapshot


def salvage(processes: ProcessSet) -> SupervisorSnapshot:
    """What the next image goes on from. A process that was being taken away is not part of it, and is killed there."""
    roster, ending = processes.roster, processes.reckoning.ending
    kept = describe_set(processes, [_salvage(each) for name, each in roster.processes.items() if roster.wants(name)])
    if processes.asking:
        kept.under_way = {}  # who asks again means all of it
    if processes.reckoning.over.is_set() and ending is not None:
        kept.over = (ending.status, ending.process, ending.reason)
    return kept


def _salvage(process: Process) -> ProcessSnapshot:
    kept = describe_process(process)
    if kept.child is not None or kept.state not in (State.STARTING, State.STOPPING):
        return kept
    kept.told = None
    kept.next_start = 0.0
    if kept.state is State.STARTING:
        kept.state, kept.reason = State.BACKOFF, "its start was interrupted"
        return kept
    event = process._decide()  # what runs after its end was under way
    if event is Event.RETRY and (kept.goal is Goal.DOWN or kept.start_wanted):
        event = Event.GONE
    kept.state = TABLE[State.STOPPING][event]
    kept.history, kept.reason = process.history.snapshot(), process.reason
    return kept
