"""Commands that last outlive a reexec: it cuts their connection, and a moment later another ocelot answers on the same socket."""

from __future__ import annotations

import sys
import time

from ocelot.errors import ControlError
from ocelot.wire.client import Cut, call

_DELAYS = (0.1, 0.3, 0.9)
"""Seconds. An ocelot that is being replaced still has its socket: whoever connects waits there until the next one answers."""

_told = False


def await_answer(socket: str, cut: Cut, *, quiet: bool = False) -> None:
    """Return when ocelot answers again; say once on standard error that there was a cut. Raises ControlError if it does not."""
    error: ControlError = cut
    for delay in _DELAYS:
        time.sleep(delay)
        try:
            call(socket, "GET", "/v1/version")
        except ControlError as problem:
            error = problem
            continue
        if not quiet:
            _tell()
        return
    raise error


def _tell() -> None:
    global _told
    if not _told:
        _told = True
        end = "\r\n" if sys.stderr.isatty() else "\n"  # the terminal may be in raw mode
        sys.stderr.write(
            f"ocelotctl: the connection was cut (ocelot was replaced?); it answers again, and this goes on{end}"
        )
        sys.stderr.flush()
