"""Whether there is room for one more thread.

``threading.Thread.start`` waits until the thread has said that it runs. One that finds no memory to say so ends before, and whoever
has started it waits for ever: in PID 1 that is everybody. So it is looked first; what little room there is then is hardly
gone a moment later.
"""

from __future__ import annotations

import mmap

ROOM = 16 * 1024 * 1024
"""Bytes: its stack of 8 MiB, and memory for its first steps."""


def make_sure_of_room() -> None:
    """Raise OSError (ENOMEM) if a thread would find too little memory. What is looked for is not touched, and costs nothing."""
    mmap.mmap(-1, ROOM).close()
