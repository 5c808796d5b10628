"""Which processes belong to a supervised one: one reading of /proc tells for all.

A member is the process itself, whoever is in its session (every supervised process leads one, setsid(2)), and whoever descends
from a member. A daemon that left the session and lost its parent is nobody's: only a cgroup would know.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import trio

_AT_ONCE = 64
"""Entries of /proc read between two turns of the loop: under a millisecond on a desk."""

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of /proc/PID/stat, proc_pid_stat(5). Seconds and bytes; the times include children that it has waited for."""

    pid: int
    parent: int
    session: int
    user_seconds: float
    system_seconds: float
    threads: int
    virtual_memory: int
    resident_memory: int


def parse(line: bytes) -> Entry:
    """Raises ValueError or IndexError for what is no such line."""
    # The name may contain blanks and parentheses, even ") ": what follows begins after the last one
    head, _, rest = line.rpartition(b") ")
    fields = rest.split()
    return Entry(
        pid=int(head.partition(b" ")[0]),
        parent=int(fields[1]),
        session=int(fields[3]),
        user_seconds=(int(fields[11]) + int(fields[13])) / _TICK,
        system_seconds=(int(fields[12]) + int(fields[14])) / _TICK,
        threads=int(fields[17]),
        virtual_memory=int(fields[20]),
        resident_memory=int(fields[21]) * _PAGE,
    )


async def scan(proc: str = "/proc") -> dict[int, Entry]:
    """Every process that exists now, by pid; lets others run in between."""
    found: dict[int, Entry] = {}
    names = [name for name in os.listdir(proc) if name.isdigit()]
    for count, name in enumerate(names):
        if count % _AT_ONCE == _AT_ONCE - 1:
            await trio.lowlevel.checkpoint()
        entry = _read(f"{proc}/{name}/stat")
        if entry is not None:
            found[entry.pid] = entry
    return found


def _read(path: str) -> Entry | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # it has ended meanwhile
    try:
        return parse(os.read(fd, 4096))
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(fd)


def members(entries: Mapping[int, Entry], leaders: Iterable[int]) -> dict[int, list[Entry]]:
    """By leader: itself first, then all of its session and everybody's descendants. A leader that is gone has no entry.

    A process that is a leader itself is a member of nobody else (a supervised process that supervises).
    """
    wanted = {pid for pid in leaders if pid in entries}
    owner: dict[int, int] = {pid: pid for pid in wanted}
    for pid in entries:
        _owner(pid, entries, wanted, owner)
    found: dict[int, list[Entry]] = {pid: [entries[pid]] for pid in wanted}
    for pid, leader in owner.items():
        if leader and pid != leader:
            found[leader].append(entries[pid])
    return found


def _owner(pid: int, entries: Mapping[int, Entry], leaders: set[int], owner: dict[int, int]) -> int:
    """The leader that ``pid`` belongs to, or 0; what was found on the way is remembered in ``owner``."""
    path: list[int] = []
    current, answer = pid, 0
    while current not in owner:
        entry = entries.get(current)
        if entry is None:
            break
        path.append(current)
        owner[current] = 0  # a loop in what /proc said while pids were used again ends here
        if entry.session in leaders:
            answer = entry.session
            break
        current = entry.parent
    else:
        answer = owner[current]
    for each in path:
        owner[each] = answer
    return answer
