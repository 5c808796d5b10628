"""Who this process is: init of the machine, PID 1 of a container, or an ordinary process.

The initial PID namespace has the fixed inode 0xEFFFFFFC (include/linux/proc_ns.h, PROC_PID_INIT_INO). Before /proc is
mounted it cannot be read; a PID 1 without /proc that stands on a ramfs or tmpfs root was started by the kernel.
Destructive functions call :func:`require_machine` or :func:`require_pid1` themselves, so that no caller can forget.
"""

from __future__ import annotations

import enum
import os
from functools import cache

from ocelot.errors import OcelotError

PROC_PID_INIT_INO = 0xEFFFFFFC


class Identity(enum.StrEnum):
    MACHINE = "machine"  # init of the first PID namespace: never exits, may power off, unmount, kill everything
    CONTAINER = "container"  # PID 1 of another namespace: exits with a status, may kill within its namespace
    PROCESS = "process"  # anything else: touches its own children only


def identity() -> Identity:
    """Who we are. As long as there was no /proc to tell it, a PID 1 counts as a container: the careful answer."""
    if os.getpid() != 1:
        return Identity.PROCESS
    try:
        return Identity.MACHINE if _in_first_namespace() else Identity.CONTAINER
    except OSError:
        return Identity.CONTAINER


@cache
def _in_first_namespace() -> bool:
    """Nobody ever changes the PID namespace that he is in (pid_namespaces(7)), but /proc may be gone the next time. Raises OSError."""
    return os.stat("/proc/self/ns/pid").st_ino == PROC_PID_INIT_INO


def proc_is_ours() -> bool:
    """Whether /proc is there and numbers processes as kill(2) here does: a new PID namespace still has that of the one above it."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def require_machine(deed: str) -> None:
    """Raise :class:`OcelotError` unless this process is the init of the machine."""
    if identity() is not Identity.MACHINE:
        raise OcelotError(
            f"cannot {deed}: this process is not the init of the machine",
            hint="only PID 1 of the first PID namespace may do this",
        )


def require_pid1(deed: str) -> None:
    """Raise :class:`OcelotError` unless this process is PID 1 of its namespace."""
    if os.getpid() != 1:
        raise OcelotError(
            f"cannot {deed}: this process is not PID 1", hint="run it as PID 1 of a container or a machine"
        )
