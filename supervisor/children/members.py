"""The processes of a session: all that was begun on a terminal, in whatever process groups a shell has put it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from ocelot.linux.procstat import procstat


def signal_session(session: int, number: int, *, reaped: bool) -> None:
    """Send a signal to every process of a session.

    ``reaped``: its leader has ended and was reaped. Until then the number is the leader's, dead or alive; from then on it stays
    taken only while the session has other members, so whatever bears it as its pid by now is a stranger, and so is its session.
    """
    if reaped and procstat(session) is not None:
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and _is_in(name, session):
            with suppress(OSError):
                pidfd = os.pidfd_open(int(name))
                try:
                    if _is_in(name, session):  # still: the number could have been used again
                        signal.pidfd_send_signal(pidfd, number)
                finally:
                    os.close(pidfd)


def _is_in(pid: str, session: int) -> bool:
    found = procstat(pid)
    return found is not None and found.session == session
