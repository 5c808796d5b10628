"""Whether a process that ended is started again, and when. Pure: no clock, no randomness of its own.

Every end that the operator did not ask for comes here, be it an exit, a signal or a program that could not be executed:
all count against ``maxRetries``, successes too, so that a process that ends at once cannot be restarted for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from ocelot.config.structs import RestartPolicy, RestartType
from ocelot.states import Cause, ExitStatus
from supervisor.lifecycle import Event

Jitter = Callable[[], float]
"""A factor around 1 that spreads the restarts of processes that failed together."""


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended. ``status`` None: it never ran. ``uptime``: seconds from its start, 0 if it never ran."""

    status: ExitStatus | None
    cause: Cause
    uptime: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """``event`` is RETRY (after ``delay`` seconds), DONE or GIVE_UP. ``restarts``: the new number in a row."""

    event: Event
    reason: str
    delay: float = 0.0
    restarts: int = 0


def succeeded(policy: RestartPolicy, end: End) -> bool:
    """Whether it ended as it should: by itself, with one of ``successExitCodes``."""
    return end.cause is Cause.EXIT and end.status is not None and end.status.code in policy.success_exit_codes


def decide(policy: RestartPolicy, restarts: int, end: End, *, oneshot: bool, jitter: Jitter) -> Decision:
    """What becomes of a process that has been restarted ``restarts`` times in a row and now ended as ``end``.

    A oneshot that succeeded is done under every policy. UnlessStopped differs from Always in what a reload does with a process
    that an operator has stopped (see ``Supervisor.stays_down``); in what follows an end they are the same.
    """
    success = succeeded(policy, end)
    if policy.type is RestartType.NEVER or (success and (oneshot or policy.type is RestartType.ON_FAILURE)):
        if end.status is None:
            return Decision(Event.GIVE_UP, "it never ran, and restartPolicy is Never")
        return Decision(Event.DONE, "it is done" if success else "restartPolicy is Never")
    if end.status is not None and end.uptime >= policy.reset_after:
        restarts = 0
    if policy.max_retries is not None and restarts >= policy.max_retries:
        times = "1 restart" if restarts == 1 else f"{restarts} restarts"
        return Decision(Event.GIVE_UP, f"gave up after {times} in a row (maxRetries)", restarts=restarts)
    delay = backoff(policy, restarts, jitter)
    when = "at once" if delay == 0 else f"in {delay:.3g}s"
    return Decision(Event.RETRY, f"starting again {when}", delay, restarts + 1)


def backoff(policy: RestartPolicy, restarts: int, jitter: Jitter) -> float:
    """Seconds before restart number ``restarts`` (from 0): grows by ``multiplier`` up to ``maxBackoff``; 0 stays 0."""
    try:
        growth = policy.multiplier**restarts
    except OverflowError:  # 2.0 ** 1024
        growth = sys.float_info.max
    factor = 1.0 if policy.multiplier == 1 else jitter()
    return min(policy.backoff * growth * factor, policy.max_backoff)
