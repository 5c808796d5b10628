"""The words everybody uses for processes and machines: states, exit statuses, causes, verbs; and how loud a line is.

The states are Supervisor's, since operators know them, with WAITING added for dependencies.
"""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass


class LogLevel(enum.StrEnum):
    """How much is said, from the most to the least."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class State(enum.StrEnum):
    """What a supervised process is doing now. What the operator wants is a :class:`Goal`."""

    STOPPED = "stopped"  # not started yet, or stopped on request
    WAITING = "waiting"  # wanted up, held back by a dependency or by its schedule
    STARTING = "starting"  # spawned, not yet ready (a probe or a notification is awaited)
    RUNNING = "running"  # spawned, and ready as far as anybody can tell
    STOPPING = "stopping"  # shutdown signal sent, within the grace period
    BACKOFF = "backoff"  # ended, waiting to be started again
    EXITED = "exited"  # ended by itself and not to be started again; for a oneshot: done
    FATAL = "fatal"  # failed for good: retries exhausted, or it could never start


class Goal(enum.StrEnum):
    """What the operator (or the configuration) wants."""

    UP = "up"
    DOWN = "down"


class Cause(enum.StrEnum):
    """Why a process ended or was started again. Used as a metric label: keep it a small closed set."""

    EXIT = "exit"  # it exited
    SIGNAL = "signal"  # a signal killed it
    SPAWN_FAILED = "spawn-failed"  # it never ran
    LIVENESS = "liveness"  # its liveness probe failed
    STARTUP = "startup"  # its startup or readiness deadline passed
    WATCHDOG = "watchdog"  # it missed its own watchdog
    OOM_KILLED = "oom-killed"  # the kernel killed it for memory
    OPERATOR = "operator"  # somebody asked
    DEPENDENCY = "dependency"  # a process it depends on failed or restarted
    SHUTDOWN = "shutdown"  # the machine goes down
    SCHEDULE = "schedule"  # its time came


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a child ended, as waitid(2) tells it: exactly one of ``code`` and ``signal`` is set."""

    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False

    @property
    def shell_status(self) -> int:
        """The number a shell would show: the exit code, or 128 + the signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    @property
    def success(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.code is not None:
            return f"exited with status {self.code}"
        return f"was killed by {signal_name(self.signal or 0)}" + (" (core dumped)" if self.core_dumped else "")


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; real-time signals as ``SIGRTMIN+n`` (signal(7))."""
    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number <= signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return f"signal {number}"


class PowerVerb(enum.StrEnum):
    """How the machine ends (reboot(2))."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    HALT = "halt"
