"""Whether a process belongs to a supervised one: who may speak for it.

The kernel vouches for pid and uid of a sender (SCM_CREDENTIALS, unix(7)), at the moment of sending. What is found in /proc is
of a moment later: the sender, a command in a script perhaps, may have ended meanwhile, and then only its uid is left to go by.
"""

from __future__ import annotations

import os
from enum import Enum

HOPS = 64
"""How many parents are followed: a chain that is longer belongs to nobody honest."""


class Membership(Enum):
    MEMBER = "member"
    STRANGER = "stranger"
    GONE = "gone"


def membership(pid: int, leader: int, proc: str = "/proc") -> Membership:
    """Whether ``pid`` is ``leader``, descends from it, or shares its session, process group or cgroup."""
    if pid <= 0:
        return Membership.STRANGER  # of another PID namespace: the kernel has no number for it here
    if pid == leader:
        return Membership.MEMBER
    stat = _stat(pid, proc)
    if stat is None:
        return Membership.GONE
    parent, group, session = stat
    if leader in (group, session):
        return Membership.MEMBER
    for _ in range(HOPS):
        if parent == leader:
            return Membership.MEMBER
        above = _stat(parent, proc) if parent > 1 else None
        if above is None:
            break
        parent = above[0]
    return Membership.MEMBER if _same_cgroup(pid, leader, proc) else Membership.STRANGER


def may_speak_once_gone(uid: int, leader: int, proc: str = "/proc") -> bool:
    """Whether a sender that has ended is believed: root and the user of the process could do worse to it anyway."""
    if uid == 0:
        return True
    try:
        return os.stat(f"{proc}/{leader}").st_uid == uid
    except OSError:
        return False


def _stat(pid: int, proc: str) -> tuple[int, int, int] | None:
    """Parent, process group and session: fields 4 to 6 of proc_pid_stat(5), after the name, which may hold anything."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split(b" ", 5)
        return int(fields[1]), int(fields[2]), int(fields[3])
    except (OSError, IndexError, ValueError):
        return None


def _same_cgroup(pid: int, leader: int, proc: str) -> bool:
    """Whether both are in one cgroup (v2) that is not ours too: without cgroups of their own all processes share ours."""
    cgroup = _cgroup(str(leader), proc)
    return cgroup is not None and cgroup == _cgroup(str(pid), proc) and cgroup != _cgroup("self", proc)


def _cgroup(pid: str, proc: str) -> bytes | None:
    try:
        with open(f"{proc}/{pid}/cgroup", "rb") as file:
            return next((line[3:] for line in file.read().splitlines() if line.startswith(b"0::")), None)
    except OSError:
        return None
