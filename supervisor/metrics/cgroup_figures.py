"""What a cgroup's own files say (the kernel's admin-guide/cgroup-v2): usage, pressure and memory events.

Each figure is None where the controller is not enabled for the group.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

RESOURCES = ("cpu", "memory", "io")


class Pressure(NamedTuple):
    """Seconds since the group (or the machine) exists in which somebody, or everybody, waited for a resource (PSI)."""

    some: float
    full: float | None


@dataclass(frozen=True, slots=True)
class CgroupFigures:
    user_seconds: float | None = None
    system_seconds: float | None = None
    throttled_seconds: float | None = None
    memory: int | None = None
    memory_peak: int | None = None
    memory_max: int | None = None
    oom_kills: int | None = None
    processes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    pressure: dict[str, Pressure] = field(default_factory=dict)


def read(directory: str) -> CgroupFigures | None:
    """The figures of a cgroup v2 directory, or None if there is none."""
    if not os.path.isdir(directory):
        return None
    cpu = _table(f"{directory}/cpu.stat")
    events = _table(f"{directory}/memory.events")
    io = [_table_of(line.split()[1:]) for line in _lines(f"{directory}/io.stat")]
    return CgroupFigures(
        user_seconds=_seconds(cpu.get("user_usec")),
        system_seconds=_seconds(cpu.get("system_usec")),
        throttled_seconds=_seconds(cpu.get("throttled_usec")),
        memory=_number(f"{directory}/memory.current"),
        memory_peak=_number(f"{directory}/memory.peak"),
        memory_max=_number(f"{directory}/memory.max"),
        oom_kills=events.get("oom_kill"),
        processes=_number(f"{directory}/pids.current"),
        read_bytes=sum(line.get("rbytes", 0) for line in io) if io else None,
        written_bytes=sum(line.get("wbytes", 0) for line in io) if io else None,
        pressure=pressure(directory, ".pressure"),
    )


def pressure(directory: str, suffix: str = "") -> dict[str, Pressure]:
    """By resource: ``cpu``, ``memory``, ``io``; of the machine with ``/proc/pressure``, of a group with ``.pressure``."""
    found = {}
    for resource in RESOURCES:
        some, full = None, None
        for line in _lines(f"{directory}/{resource}{suffix}"):
            words = line.split()
            total = _seconds(_table_of(words[1:]).get("total"))
            if words[0] == "some":
                some = total
            elif words[0] == "full":
                full = total
        if some is not None:
            found[resource] = Pressure(some, full)
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return [line for line in file.read().splitlines() if line.strip()]
    except OSError:
        return []  # the controller is not enabled, or the group is gone


def _table(path: str) -> dict[str, int]:
    """Lines of ``name number``."""
    return _table_of("=".join(line.split()[:2]) for line in _lines(path))


def _table_of(pairs: Iterable[str]) -> dict[str, int]:
    """``name=number`` pairs; others are left out."""
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if value.isdigit():
            found[name] = int(value)
    return found


def _number(path: str) -> int | None:
    """The one number of a file; None for ``max`` and for a file that is not there."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
