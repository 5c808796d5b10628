"""How a life as PID 1 ended, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass

from ocelot.config import structs
from ocelot.states import PowerVerb


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended and what comes next. ``status`` is reported to the host; ``verb`` is for machines.

    ``program`` set: the process is to become that program (the exec hand-off).
    """

    status: int
    reason: str
    process: str | None = None
    verb: PowerVerb = PowerVerb.POWEROFF
    phase: str = "running"
    hint: str = ""
    program: structs.Exec | None = None


def only_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in a group of one, else the group."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner
