"""Freeing the old root: the initramfs lives in memory, and nobody else will ever give that back.

Everything goes by descriptor, from one that was opened before the switch. Two things tell that an entry is no longer
part of the old root: another device, or another mount id, since a bind of the old root's own folder has the same device
number. What is still in use is spared by inode: the runtime, layers of overlays, sources of binds, files behind loop
devices. What lies below a spared folder is never looked at.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from bootstrap.guards import Guards
from ocelot.errors import OcelotError, describe
from ocelot.linux import syscalls
from ocelot.linux.mountinfo import MountInfo

Inode = tuple[int, int]
"""Device and inode number."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Freed:
    """What was given back: number of entries, bytes, and what could not be removed, in words."""

    entries: int = 0
    size: int = 0
    problems: list[str] = field(default_factory=list)


def spared_inodes(old_fd: int, table: Iterable[MountInfo], paths: Iterable[str]) -> frozenset[Inode]:
    """The inodes of the old root that must stay: those of ``paths``, and the source of every bind of a part of it.

    To be asked before the switch, while paths mean what they say.
    """
    device = os.fstat(old_fd).st_dev
    wanted = list(paths)
    for mount in table:
        if os.makedev(*mount.device) == device and mount.root != "/":
            wanted += [mount.target, mount.root]
    spared = set()
    for path in wanted:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if status.st_dev == device:
                spared.add((status.st_dev, status.st_ino))
    return frozenset(spared)


def loop_files(sys_block: str = "/sys/block") -> tuple[str, ...]:
    """The files behind the loop devices that are in use."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(sys_block):
            if name.startswith("loop"):
                with (
                    contextlib.suppress(OSError),
                    open(f"{sys_block}/{name}/loop/backing_file", encoding="utf-8", errors="surrogateescape") as file,
                ):
                    found.append(file.read().rstrip("\n"))
    return tuple(found)


def free(old_fd: int, guards: Guards, spared: frozenset[Inode]) -> Freed:
    """Delete what is on the old root. Raises OcelotError, having deleted nothing, unless it is one we may empty.

    ``old_fd`` was opened on it before the switch. For a worker thread: it takes as long as there are files.
    """
    check(old_fd, guards)
    freed = Freed()
    # A spared root (a new root that is a bind of the old one) stays whole.
    status = os.fstat(old_fd)
    if (status.st_dev, status.st_ino) not in spared:
        _empty(old_fd, "", status.st_dev, mount_id(old_fd), spared, freed)
    return freed


def check(old_fd: int, guards: Guards) -> None:
    """The guards against deleting a living root, asked of the descriptor itself."""
    deed = "free the old root"
    guards.require(deed)
    path = f"/proc/self/fd/{old_fd}"
    if syscalls.fs_type(path) not in guards.magics:
        raise OcelotError(f"cannot {deed}: it does not live in memory")
    try:
        os.stat(guards.marker.lstrip("/"), dir_fd=old_fd, follow_symlinks=False)
    except OSError:
        raise OcelotError(f"cannot {deed}: it is not an initramfs of ocelot") from None
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if mount_id(root_fd) == mount_id(old_fd):
            raise OcelotError(f"cannot {deed}: it still is the root")
    finally:
        os.close(root_fd)


def mount_id(fd: int) -> int:
    """The id of the mount that ``fd`` was opened on (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        for line in file:
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    raise OcelotError("cannot tell on which mount a folder lies: /proc/self/fdinfo has no mnt_id")


def _empty(fd: int, path: str, device: int, mount: int, spared: frozenset[Inode], freed: Freed) -> bool:
    """Empty the folder ``fd``; returns whether nothing is left in it."""
    empty = True
    for name in os.listdir(fd):
        child = f"{path}/{name}"
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if status.st_dev != device or (status.st_dev, status.st_ino) in spared:
                empty = False
            elif stat.S_ISDIR(status.st_mode):
                empty &= _remove_folder(fd, name, child, device, mount, spared, freed)
            else:
                os.unlink(name, dir_fd=fd)  # refused, with EBUSY, if something is mounted on it
                freed.entries += 1
                if status.st_nlink == 1:
                    freed.size += status.st_blocks * 512
        except FileNotFoundError:
            continue
        except OSError as error:
            empty = False
            freed.problems.append(f"cannot free {child} of the initramfs: {describe(error)}")
    return empty


def _remove_folder(
    parent: int, name: str, path: str, device: int, mount: int, spared: frozenset[Inode], freed: Freed
) -> bool:
    fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        status = os.fstat(fd)
        if status.st_dev != device or mount_id(fd) != mount:
            return False
        if not _empty(fd, path, device, mount, spared, freed):
            return False
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
    freed.entries += 1
    return True
