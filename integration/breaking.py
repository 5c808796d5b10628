"""An ``ocelot`` whose event loop breaks when somebody asks for it: ``python -m integration.breaking ...``, for tests.

BREAK names a file: once it is there, it is taken away, and the loop ends with a MemoryError. If it is a folder, each loop ends so
that has anything to do.
"""

from __future__ import annotations

import os
import sys

import trio
from trio._core._io_epoll import EpollIOManager

from ocelot.cli import main

PATH = os.environ["BREAK"]
real = EpollIOManager.get_events


def get_events(self: EpollIOManager, timeout: float) -> object:
    events = real(self, timeout)
    try:
        os.unlink(PATH)
    except FileNotFoundError:
        return events
    except IsADirectoryError:
        if trio.lowlevel.current_statistics().tasks_living < 8:
            return events
    raise MemoryError


EpollIOManager.get_events = get_events  # type: ignore[method-assign, assignment]
sys.exit(main())
