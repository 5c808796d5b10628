"""Whoever waits at a terminal is told for what, when it takes a while."""

from __future__ import annotations

import sys
from contextlib import contextmanager

TYPE_CHECKING = False  # typing itself would cost as much as all of this
if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 2.0
"""Seconds of silence."""


@contextmanager
def explained(names: list[str], verb: str) -> Iterator[None]:
    """Around the wait for ``names`` to ``verb``. A signal and not a thread: the wait is one blocking read."""
    if not sys.stderr.isatty():
        yield
        return
    import os
    import signal

    which = ", ".join(names) if len(names) <= 3 else f"{len(names)} processes"
    text = f"ocelotctl: waiting for {which} to {verb}; Ctrl-C ends only this waiting\n".encode()
    before = signal.signal(signal.SIGALRM, lambda *_: os.write(2, text))
    signal.setitimer(signal.ITIMER_REAL, SOON)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
