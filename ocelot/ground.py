"""The ground that a boot stands on: /proc, which tells who we are, and whether the files around us are meant."""

from __future__ import annotations

import os
from contextlib import suppress

from ocelot.errors import OcelotError
from ocelot.linux import syscalls
from ocelot.linux.identity import Identity

CONTAINER_SIGNS = ("/.dockerenv", "/run/.containerenv")
"""Files by which container engines mark a root file system as a container's own."""


def find_proc() -> bool:
    """Make sure that /proc is there, since it tells who we are; whether it had to be mounted."""
    if os.getpid() != 1 or os.path.exists("/proc/self"):
        return False
    with suppress(FileExistsError):
        os.mkdir("/proc", 0o555)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    return True


def refuse_foreign(who: Identity, in_place: bool) -> None:
    """A boot changes mounts, files and kernel settings: only where it is clear that these are meant. Raises OcelotError.

    In a container the mounts are made our own.
    """
    rehearse = "rehearse with ocelot bootstrap try, or show what would be done with ocelot bootstrap plan"
    if who is Identity.PROCESS:
        raise OcelotError("cannot boot: this process is not PID 1", hint=rehearse)
    marked = os.environ.get("container") or any(  # noqa: SIM112 (systemd.io/CONTAINER_INTERFACE)
        os.path.exists(sign) for sign in CONTAINER_SIGNS
    )
    if not marked and not in_place:
        raise OcelotError(
            "cannot boot: this PID namespace does not look like a container, its files may be those of the host",
            hint=f"{rehearse}; if this root file system is really meant, add --in-place",
        )
    from bootstrap import kernel_filesystems

    kernel_filesystems.own_mounts()


def lies_in_memory(path: str) -> bool:
    """Whether ``path`` is on an initramfs or another file system that takes up memory."""
    try:
        return syscalls.fs_type(path) in (syscalls.RAMFS_MAGIC, syscalls.TMPFS_MAGIC)
    except OSError:
        return False
