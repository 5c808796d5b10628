"""What one start of a program costs ocelot, by both paths of its spawn, next to what Python itself offers.

A child that needs nothing special goes by vfork, one that is to become another user or to have limits of its own by fork, which takes the
longer the more memory we have. Measured in a process that holds what PID 1 holds; they take turns.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable

from integration.bench.figures import Figure
from supervisor.children.spawn import SpawnSpec, spawn

PROGRAM = "/bin/true"
FLOOR = "os.posix_spawn"


def measure(rounds: int) -> dict[str, Figure]:
    """Milliseconds from the call to its return, by how it was started."""
    import ocelot.pid1  # noqa: F401 (the memory of a PID 1)

    limits = {resource.RLIMIT_CORE: resource.getrlimit(resource.RLIMIT_CORE)}
    ways: dict[str, Callable[[], int]] = {
        FLOOR: lambda: os.posix_spawn(PROGRAM, [PROGRAM], {}),
        "subprocess.Popen": _popen,
        "ocelot, plain (vfork)": lambda: spawn(SpawnSpec(argv=(PROGRAM,), environment={})),
        "ocelot, with steps of its own (fork)": lambda: spawn(
            SpawnSpec(argv=(PROGRAM,), environment={}, limits=limits, aside=True)
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, start in ways.items():
            began = time.perf_counter()
            pid = start()
            taken[name].append((time.perf_counter() - began) * 1000)
            os.waitpid(pid, 0)
    return {name: Figure(tuple(found), "ms") for name, found in taken.items()}


def _popen() -> int:
    started = subprocess.Popen([PROGRAM], env={})
    started.returncode = 0  # it is waited for by its number
    return started.pid
