"""The records of what comes before and after a process, and when it runs: dependencies, commands, schedules.

Annotations are real objects, not strings, since ``converting`` and ``schema`` read them.
"""

import enum
from typing import Literal

from ocelot.config.base import Base, Duration, Text

MAX_REPLICAS = 1000
"""Of one entry."""


class Condition(enum.StrEnum):
    """What must be true of a process before those that depend on it start."""

    STARTED = "Started"  # its program was executed
    HEALTHY = "Healthy"  # it is ready, as its readiness probe or notification says
    COMPLETED = "Completed"  # it has ended, however, and will not be started again
    COMPLETED_SUCCESSFULLY = "CompletedSuccessfully"  # it has ended with success
    LOG_READY = "LogReady"  # its readiness probe is a log pattern, which has been seen


class Dependency(Base, frozen=True, kw_only=True):
    """What must hold of another process before this one starts. In the file also a word: the condition.

    ``condition`` None: CompletedSuccessfully for a oneshot, Healthy for what can say that it is ready, else Started.
    ``restart``: when the other is started again, so is this one. ``required`` false: if the other fails, go on without.
    """

    condition: Condition | None = None
    restart: bool = False
    required: bool = True


class Command(Base, frozen=True, kw_only=True):
    """A program that is run before each start or after each end of a process, as its user and with its environment."""

    command: Text
    arguments: tuple[Text, ...] = ()
    timeout: Duration = 300.0


class Schedule(Base, frozen=True, kw_only=True):
    """When a process runs: ``every`` so often (first after one interval), or at the times of ``cron`` (crontab(5)).

    ``timezone`` None: that of the machine. ``overlap``: what happens when it is time and the run before has not ended.
    """

    every: Duration | None = None
    cron: Text | None = None
    timezone: Text | None = None
    overlap: Literal["skip", "queue", "replace"] = "skip"
