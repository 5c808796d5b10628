"""A process as its status shows it. Imported when somebody asks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from ocelot.states import Cause, Goal, State
from ocelot.wire.protocol import OutputStatus, ProcessStatus
from supervisor.lifecycle import ALIVE
from supervisor.replicas import base_of

if TYPE_CHECKING:
    from supervisor.process.life import Life


def status_of(process: Life, *, pid: int | None, ready: bool) -> ProcessStatus:
    """What is known of ``process`` now."""
    running = process.state in ALIVE and process.began_at is not None
    next_start_in = max(0.0, process.next_start - trio.current_time()) if process.state is State.BACKOFF else None
    if process.schedule is not None and pid is None and process.schedule.next_run is not None:
        next_start_in = max(0.0, process.schedule.next_run - time.clock_gettime(time.CLOCK_REALTIME))
    history = process.history
    return ProcessStatus(
        name=process.name,
        state=process.state.value,
        goal=process.goal.value,
        ready=ready,
        pid=pid,
        type=process.config.type,
        essential=process.config.essential,
        started_at=process.began_at if running else None,
        uptime=trio.current_time() - process.began if running else None,
        restarts=sum(history.restarts.values()),
        restarts_by_cause=dict(history.restarts),
        next_start_in=next_start_in,
        last_exit=history.last_exit,
        reason=_reason(process),
        program=process.config.program,
        group=base_of(process.name) if process.config.replicas is not None else None,
        schedule=process.schedule.status() if process.schedule is not None else None,
        depends_on=process.gate.statuses() if process.gate is not None else [],
        health=process.health.status() if process.health is not None else None,
        output=[
            OutputStatus(stream=stream, dropped=count.dropped, problem=count.problem)
            for stream, count in process.output.counters.items()
            if count.dropped or count.problem
        ],
        failed=process.state is State.FATAL or _ended_badly(process),
    )


def _ended_badly(process: Life) -> bool:
    """Whether it is done, but not as it should be. One with a schedule gets another chance."""
    last = process.history.last_exit
    if process.state is not State.EXITED or process.goal is not Goal.UP or process.schedule is not None or last is None:
        return False
    return last.cause != Cause.EXIT.value or last.code not in process.config.restart_policy.success_exit_codes


def _reason(process: Life) -> str:
    """Why it is in this state; while it becomes ready, what is missing."""
    if process.state is not State.STARTING or process.health is None:
        return process.reason
    return "; ".join(each for each in (process.reason, process.health.waits_for()) if each)
