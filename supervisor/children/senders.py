"""Whether a process belongs to a supervised one: who may speak for it.

The kernel vouches for pid and uid of a sender (SCM_CREDENTIALS, unix(7)), at the moment of sending. What is found in /proc is
of a moment later: the sender, a command in a script perhaps, may have ended meanwhile, and then only its uid is left to go by.
"""

from __future__ import annotations

import os
from enum import Enum

from ocelot.linux.procstat import procstat

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
    stat = procstat(pid, proc)
    if stat is None:
        return Membership.GONE
    if leader in (stat.group, stat.session):
        return Membership.MEMBER
    parent = stat.parent
    for _ in range(HOPS):
        if parent == leader:
            return Membership.MEMBER
        above = procstat(parent, proc) if parent > 1 else None
        if above is None:
            break
        parent = above.parent
    return Membership.MEMBER if _same_cgroup(pid, leader, proc) else Membership.STRANGER


def may_speak_once_gone(uid: int, leader: int, proc: str = "/proc") -> bool:
    """Whether a sender that has ended is believed: root and the user of the process could do worse to it anyway."""
    if uid == 0:
        return True
    try:
        return os.stat(f"{proc}/{leader}").st_uid == uid
    except OSError:
        return False


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
