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
from supervisor.process import Process
from supervisor.replicas import base_of, scaled
from supervisor.roster import no_such_process

if TYPE_CHECKING:
    from supervisor.manager import Supervisor


def add(supervisor: Supervisor, name: str, config: structs.Process) -> None:
    """Take up the entry ``name`` (with its replicas) and start it. Raises ControlError if there is one."""
    supervisor._refuse_late_starts()
    if name in supervisor.configs:
        raise ControlError(f'cannot add "{name}": there is one already', status=409, kind="exists")
    _apply(supervisor, name, config)


async def remove(supervisor: Supervisor, name: str) -> None:
    """Stop the entry ``name`` and forget it; returns when nothing is left of it. Raises ControlError."""
    if name not in supervisor.configs:
        raise no_such_process(name)
    supervisor.scaled.discard(name)
    going = supervisor._roster.forget(name)
    supervisor._going.update(going)
    await _dismiss(supervisor, going)


def replace(supervisor: Supervisor, name: str, config: structs.Process) -> None:
    """Let the entry ``name`` mean ``config``; see ``Supervisor.replace``. Raises ControlError."""
    supervisor._refuse_late_starts()
    if name not in supervisor.configs:
        raise no_such_process(name)
    if config.replicas != supervisor.configs[name].replicas:
        supervisor.scaled.discard(name)
    _apply(supervisor, name, config)


async def scale(supervisor: Supervisor, name: str, replicas: int) -> None:
    """Let the entry ``name`` have so many replicas; returns when the states of the new ones show it. Raises ControlError."""
    config = supervisor.configs.get(name)
    if config is None:
        raise no_such_process(name)
    wanted = scaled(name, config, replicas)
    replace(supervisor, name, wanted)
    if wanted != config:
        supervisor.scaled.add(name)
    for process in supervisor._roster.members(name):
        await process.accepted()


def _apply(supervisor: Supervisor, name: str, config: structs.Process) -> None:
    before = supervisor.configs.get(name)
    added, staying, going = supervisor._roster.set(name, config)
    supervisor._assembly.settle(name, config)
    if before is not None and before.sockets != config.sockets:
        supervisor._assembly.release(name, config)
    for process, own in staying:
        rescheduled = own.schedule != process.config.schedule
        process.replace(own, partial(supervisor._assembly.renew, process))
        if rescheduled:
            _reschedule(supervisor, process)
        if process in supervisor._going:
            supervisor._going.remove(process)
            process.start()
    for process in added:
        _begin(supervisor, process)
    if going and supervisor._nursery is not None:
        supervisor._going.update(going)
        supervisor._nursery.start_soon(_dismiss, supervisor, going)


def _reschedule(supervisor: Supervisor, process: Process) -> None:
    if process.schedule is not None:
        process.schedule.close()
    process.schedule = schedule_of(process)
    if process.schedule is not None and supervisor._nursery is not None:
        supervisor._nursery.start_soon(process.schedule.run)
    process.look_again()


def _begin(supervisor: Supervisor, process: Process) -> None:
    supervisor._reckoning.goes_on(process.name)
    if supervisor._nursery is not None:
        process.start()
        supervisor._nursery.start_soon(process.run, name=process.name)
        if process.schedule is not None:
            supervisor._nursery.start_soon(process.schedule.run)
        supervisor._tell()


async def _dismiss(supervisor: Supervisor, processes: Sequence[Process]) -> None:
    """Stop them, and forget them once they are down."""
    supervisor._asking += 1
    try:
        for process in processes:
            if process in supervisor._going:  # else it was taken back already
                process.stop(Cause.OPERATOR)
        for process in processes:
            await _take_away(supervisor, process)
    finally:
        supervisor._asking -= 1


async def _take_away(supervisor: Supervisor, process: Process) -> None:
    await process.down(unless=lambda: process not in supervisor._going)
    if process not in supervisor._going:
        return  # it was taken back meanwhile, or another request has taken it away
    supervisor._going.remove(process)
    process.dismiss()
    supervisor._assembly.discard(process, supervisor.configs.get(base_of(process.name)))
    supervisor._roster.drop(process)
    supervisor._reckoning.forget(process.name)
    supervisor._tell()
