"""What /proc says about a process: processor time, memory, descriptors, threads. Read when somebody asks, never on a timer.

psutil is imported at the first question.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import trio

_AT_ONCE = 32
"""Processes read between two turns of the loop: about 5 ms on a desk."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the process itself, without its children. ``open_fds`` None: not ours to see. Seconds and bytes."""

    cpu_seconds: float
    resident_memory: int
    virtual_memory: int
    threads: int
    open_fds: int | None


def read(pid: int) -> Figures | None:
    """The figures of ``pid`` now, or None if it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = process.memory_info()
            threads = process.num_threads()
            try:
                fds: int | None = process.num_fds()
            except psutil.AccessDenied:
                fds = None
    except (psutil.Error, OSError):
        return None
    return Figures(times.user + times.system, memory.rss, memory.vms, threads, fds)


async def read_all(pids: Iterable[int]) -> dict[int, Figures]:
    """The figures of all ``pids`` that still exist; lets others run in between."""
    found = {}
    for count, pid in enumerate(pids):
        if count % _AT_ONCE == _AT_ONCE - 1:
            await trio.lowlevel.checkpoint()
        figures = read(pid)
        if figures is not None:
            found[pid] = figures
    return found


def own_start_time() -> float:
    """When this process started, in seconds since the epoch."""
    import psutil

    return float(psutil.Process(os.getpid()).create_time())
