"""The processes of a session: all that was begun on a terminal, in whatever process groups a shell has put it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def signal_session(session: int, number: int, *, reaped: bool) -> None:
    """Send a signal to every process of a session.

    ``reaped``: its leader has ended and was reaped. Until then the number is the leader's, dead or alive; from then on it stays
    taken only while the session has other members, so whatever bears it as its pid by now is a stranger, and so is its session.
    """
    if reaped and session_of(str(session)) is not None:
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and session_of(name) == session:
            with suppress(OSError):
                pidfd = os.pidfd_open(int(name))
                try:
                    if session_of(name) == session:  # still: the number could have been used again
                        signal.pidfd_send_signal(pidfd, number)
                finally:
                    os.close(pidfd)


def session_of(pid: str) -> int | None:
    """proc_pid_stat(5), field 6; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split(b" ", 5)[3])
    except OSError:
        return None
