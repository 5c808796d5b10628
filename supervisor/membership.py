"""Who belongs to a set of processes, changed while it lives: by a reload, and by whoever scales an entry.

What is new is started, and what is no longer wanted is stopped and then forgotten. Imported when that is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.errors import ControlError
from ocelot.states import Cause
from supervisor.assembly import schedule_of
from supervisor.process.supervised import Process
from supervisor.replicas import base_of, scaled
from supervisor.roster import no_such_process

if TYPE_CHECKING:
    from supervisor.process_set import ProcessSet


def add(processes: ProcessSet, name: str, config: structs.Process) -> None:
    """Take up the entry ``name`` (with its replicas) and start it. Raises ControlError if there is one."""
    processes.refuse_late_starts()
    if name in processes.roster.configs:
        raise ControlError(f'cannot add "{name}": there is one already', status=409, kind="exists")
    _apply(processes, name, config, up=True)


async def remove(processes: ProcessSet, name: str) -> None:
    """Stop the entry ``name`` and forget it; returns when nothing is left of it. Raises ControlError."""
    if name not in processes.roster.configs:
        raise no_such_process(name)
    processes.scaled.discard(name)
    going = processes.roster.forget(name)
    processes.going.update(going)
    await _dismiss(processes, going)


def replace(processes: ProcessSet, name: str, config: structs.Process) -> None:
    """Let the entry ``name`` mean ``config``; see ``Supervisor.replace``. Raises ControlError."""
    down = name in processes.roster.configs and processes.roster.stays_down(name, config)
    _replace(processes, name, config, up=not down)


def _replace(processes: ProcessSet, name: str, config: structs.Process, *, up: bool) -> None:
    processes.refuse_late_starts()
    if name not in processes.roster.configs:
        raise no_such_process(name)
    if config.replicas != processes.roster.configs[name].replicas:
        processes.scaled.discard(name)
    _apply(processes, name, config, up=up)


async def scale(processes: ProcessSet, name: str, replicas: int) -> None:
    """Let the entry ``name`` have so many replicas; returns when the states of the new ones show it. Raises ControlError."""
    config = processes.roster.configs.get(name)
    if config is None:
        raise no_such_process(name)
    wanted = scaled(name, config, replicas)
    _replace(processes, name, wanted, up=True)
    if wanted != config:
        processes.scaled.add(name)
    for process in processes.roster.members(name):
        await process.accepted()


def _apply(processes: ProcessSet, name: str, config: structs.Process, *, up: bool) -> None:
    """``up``: processes that are new are started."""
    before = processes.roster.configs.get(name)
    added, staying, going = processes.roster.set(name, config)
    processes.assembly.settle(name, config)
    if before is not None and before.sockets != config.sockets:
        processes.assembly.release(name, config)
    for process, own in staying:
        rescheduled = own.schedule != process.config.schedule
        process.replace(own, partial(processes.assembly.renew, process))
        if rescheduled:
            _reschedule(processes, process)
        if process in processes.going:
            processes.going.remove(process)
            process.start()
    for process in added:
        _begin(processes, process, up=up)
    if going and processes.nursery is not None:
        processes.going.update(going)
        processes.nursery.start_soon(_dismiss, processes, going)


def _reschedule(processes: ProcessSet, process: Process) -> None:
    if process.schedule is not None:
        process.schedule.close()
    process.schedule = schedule_of(process)
    if process.schedule is not None and processes.nursery is not None:
        processes.nursery.start_soon(process.schedule.run)
    process.look_again()


def _begin(processes: ProcessSet, process: Process, *, up: bool) -> None:
    processes.reckoning.goes_on(process.name)
    if processes.nursery is not None:
        if up:
            process.start()
        processes.nursery.start_soon(process.run, name=process.name)
        if process.schedule is not None:
            processes.nursery.start_soon(process.schedule.run)
        processes.tell()


async def _dismiss(processes: ProcessSet, going: Sequence[Process]) -> None:
    """Stop them, and forget them once they are down."""
    processes.asking += 1
    try:
        for process in going:
            if process in processes.going:  # else it was taken back already
                process.stop(Cause.OPERATOR)
        for process in going:
            await _take_away(processes, process)
    finally:
        processes.asking -= 1


async def _take_away(processes: ProcessSet, process: Process) -> None:
    await process.down(unless=lambda: process not in processes.going)
    if process not in processes.going:
        return  # it was taken back meanwhile, or another request has taken it away
    processes.going.remove(process)
    process.dismiss()
    processes.assembly.discard(process, processes.roster.configs.get(base_of(process.name)))
    processes.roster.drop(process)
    processes.reckoning.forget(process.name)
    processes.tell()
