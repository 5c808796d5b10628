"""Waiting for what becomes of processes: until they are ready, run, have ended, have stopped.

What will not come by itself any more is answered at once: a process that has failed for good is not waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from ocelot.errors import ControlError
from ocelot.states import Goal, State
from ocelot.wire.protocol import ActionReply, ProcessStatus, WaitRequest

if TYPE_CHECKING:
    from supervisor.controlled import Supervised

Arrived = Callable[[ProcessStatus], bool | None]
"""Whether a process is where it is awaited: True, False (it has ended up elsewhere), None (not yet)."""


async def wait_for(
    supervisor: Supervised, names: list[str], request: WaitRequest, patience: trio.CancelScope
) -> ActionReply:
    """Wait until all ``names`` have arrived where ``request`` says, one of them cannot any more, or the time is up."""
    arrived = dict.fromkeys(names, CONDITIONS[request.condition])
    with patience:
        return await settle(supervisor, arrived, request.timeout, hasty=True)
    raise gone()


def gone() -> ControlError:
    """What is said to a client that has hung up while it was waited for something: ``patience`` is cancelled then."""
    return ControlError("cannot tell how it went: nobody waits for it any more", kind="unreachable")


async def settle(
    supervisor: Supervised, arrived: Mapping[str, Arrived], timeout: float, *, hasty: bool = False
) -> ActionReply:
    """Wait until each process has arrived, well or not, or ``timeout`` seconds are over. ``hasty``: or one has not, for good."""
    settled = False
    with trio.move_on_after(max(timeout, 0.0)):
        await _settle(supervisor, arrived, hasty)
        settled = True
    states = [state for name in arrived if (state := _status(supervisor, name, arrived[name])) is not None]
    failed = [state.name for state in states if arrived[state.name](state) is False]
    return ActionReply(processes=states, settled=settled, failed=failed)


async def _settle(supervisor: Supervised, arrived: Mapping[str, Arrived], hasty: bool) -> None:
    waiting = set(arrived)
    while True:
        change = supervisor.changed()
        states = {name: _status(supervisor, name, arrived[name]) for name in waiting}
        verdicts = {name: True if state is None else arrived[name](state) for name, state in states.items()}
        waiting = {name for name, verdict in verdicts.items() if verdict is None}
        if not waiting or (hasty and False in verdicts.values()):
            return
        await change.wait()


def _status(supervisor: Supervised, name: str, arrived: Arrived) -> ProcessStatus | None:
    """None: it was taken away meanwhile, and so it has stopped. Raises ControlError if it was awaited elsewhere."""
    try:
        return supervisor.status(name)
    except ControlError:
        if arrived is not has_stopped:
            raise
        return None


def has_started(status: ProcessStatus) -> bool | None:
    """Running, or a program that is done with success; a program that ended otherwise has failed."""
    if status.state == State.RUNNING:
        return True
    if status.state == State.EXITED:
        return _ended_well(status)
    if status.state in (State.FATAL, State.BACKOFF, State.STOPPED):
        return False
    return None


def has_stopped(status: ProcessStatus) -> bool | None:
    """It has come to rest, however that came; None: not yet."""
    return True if status.state in (State.STOPPED, State.EXITED, State.FATAL) else None


def is_ready(status: ProcessStatus) -> bool | None:
    """As :func:`is_running`, and its probes are content."""
    return None if status.state == State.RUNNING and not status.ready else is_running(status)


def is_running(status: ProcessStatus) -> bool | None:
    """Runs, or was a oneshot and is done with success. One that will be tried again is waited for."""
    if status.state == State.RUNNING:
        return True
    if status.state == State.EXITED and status.type == "oneshot":
        return _ended_well(status)
    return False if _at_rest(status) else None


def has_exited(status: ProcessStatus) -> bool | None:
    """Has ended, however, and is not to be started again; what never ran has not."""
    return status.last_exit is not None if _at_rest(status) else None


def has_completed(status: ProcessStatus) -> bool | None:
    """Has ended by itself, with success."""
    if status.state == State.EXITED:
        return _ended_well(status)
    return False if _at_rest(status) else None


def _at_rest(status: ProcessStatus) -> bool:
    """Nothing but an operator brings it on from here."""
    if status.state == State.STOPPED:
        return status.goal == Goal.DOWN
    return status.state in (State.EXITED, State.FATAL)


def _ended_well(status: ProcessStatus) -> bool:
    return status.last_exit is None or status.last_exit.status == 0


CONDITIONS: Mapping[str, Arrived] = {
    "ready": is_ready,
    "running": is_running,
    "exited": has_exited,
    "completed": has_completed,
    "stopped": has_stopped,
}
