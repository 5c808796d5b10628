"""Leaving file systems clean: what holds data is made read-only and unmounted, children before what they lie on.

Read-only comes first and matters most. A mount that goes away may leave its file system in use (below an overlay, behind
a file that is still mapped) with a journal that needs recovery; one that was made read-only is clean whatever happens next.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from bootstrap.steps import RUNTIME
from ocelot import log
from ocelot.errors import describe
from ocelot.linux import mountinfo, syscalls
from ocelot.linux.identity import require_machine
from ocelot.linux.mountinfo import MountInfo

CALL_WITHIN = 5.0
"""Seconds for one unmount, remount or swapoff: a dead server or disk must not eat the time of the others."""

KERNEL = frozenset(
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "securityfs",
        "debugfs",
        "tracefs",
        "pstore",
        "bpf",
        "configfs",
        "fusectl",
        "mqueue",
        "hugetlbfs",
        "efivarfs",
        "binfmt_misc",
        "selinuxfs",
        "rootfs",
        "ramfs",
        "nsfs",
        "tmpfs",
        "autofs",
        "rpc_pipefs",
    ]
)
"""Types that keep nothing."""

REMOTE = frozenset(["nfs", "nfs4", "9p", "virtiofs", "cifs", "smb3", "ceph", "afs", "fuse", "fuseblk"])
"""Types whose server keeps the data: sync and unmount are all there is to do."""

_KEPT = ("/proc", "/sys", "/dev", "/run")
_LOOP_CLR_FD = 0x4C01  # linux/loop.h
_ROUNDS = 5


def swaps(path: str = "/proc/swaps", *, meminfo: str = "/proc/meminfo") -> list[str]:
    """What the kernel swaps to, as far as memory has room for what is in it (proc(5)).

    A swapoff(2) that memory does not suffice for is a kernel panic: beside us nobody is left whom the kernel could kill. The
    room is the kernel's estimate, so that half of it must do.
    """
    found = []
    try:
        with open(meminfo, encoding="ascii") as file:
            room = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")) // 2
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file.readlines()[1:]:
                name, _, _, used, _ = line.split()
                if int(used) <= room:
                    room -= int(used)
                    found.append(name.replace("\\040", " "))  # white space is escaped
    except (OSError, ValueError, StopIteration):  # nothing that it says may keep the machine from going down
        return []
    return found


def loops(*, sysfs: str = "/sys", dev: str = "/dev") -> list[str]:
    """The loop devices that have a file."""
    try:
        names = os.listdir(f"{sysfs}/block")
    except OSError:
        return []
    return [f"{dev}/{name}" for name in names if os.path.exists(f"{sysfs}/block/{name}/loop/backing_file")]


@dataclass(frozen=True)
class Ground:
    """What a shutdown may touch: by default everything, in the init of a machine and nowhere else."""

    guard: Callable[[str], None] = require_machine
    mounts: Callable[[], Iterable[MountInfo]] = mountinfo.mounts
    swaps: Callable[[], list[str]] = swaps
    loops: Callable[[], list[str]] = loops


def order(table: Iterable[MountInfo]) -> list[MountInfo]:
    """The mounts to deal with, children first. Kernel file systems at their usual places stay: nothing works without."""
    return [mount for mount in reversed(mountinfo.below("/", table)) if not _stays(mount)]


def _stays(mount: MountInfo) -> bool:
    if mount.fstype not in KERNEL:
        return False
    return mount.target in ("/", RUNTIME) or any(mountinfo.is_below(mount.target, kept) for kept in _KEPT)


def _keeps_data(mount: MountInfo) -> bool:
    return mount.fstype not in KERNEL and mount.fstype not in REMOTE and not mount.fstype.startswith("fuse.")


async def settle(timeout: float, ground: Ground | None = None) -> list[str]:
    """Sync, unmount or make read-only, swap off, within ``timeout`` seconds. Returns what is still writable.

    Raises OcelotError where ``ground`` must not be touched: by default, in anything but the init of the machine.
    """
    ground = ground or Ground()
    ground.guard("unmount file systems")
    with trio.move_on_after(timeout):
        await _within(timeout / 2, os.sync)
        left = order(ground.mounts())
        for _ in range(_ROUNDS):
            left, progress = await _round(left, ground)
            for path in ground.swaps():  # by now what lay in a tmpfs needs no memory any more
                progress |= await _within(CALL_WITHIN, syscalls.swapoff, path) is None
            if not left or not progress:
                break
    return still_writable(ground.mounts)


async def _round(left: Sequence[MountInfo], ground: Ground) -> tuple[list[MountInfo], bool]:
    """Try each mount once. Returns those that are still there, and whether anything has changed."""
    remaining = []
    progress = False
    readonly = {mount.target for mount in ground.mounts() if mount.read_only}
    for mount in left:
        if _keeps_data(mount) and mount.target not in readonly:
            progress |= await _within(CALL_WITHIN, _make_read_only, mount.target) is None
        if mount.target in ("/", RUNTIME):
            remaining.append(mount)
            continue
        error = await _within(CALL_WITHIN, syscalls.umount2, mount.target, syscalls.UMOUNT_NOFOLLOW)
        if error is None or error.errno in (errno.EINVAL, errno.ENOENT):
            progress = True
        else:
            log.debug(f"cannot unmount {mount.target} yet: {describe(error)}")
            remaining.append(mount)
    return remaining, progress | _free(ground.loops())


def _make_read_only(target: str) -> None:
    syscalls.mount(None, target, None, syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_SILENT)


def make_everything_read_only() -> None:
    """The least that saves a journal, without trio and without a deadline: call it in a thread. Never raises OSError."""
    require_machine("make file systems read-only")
    os.sync()
    with suppress(OSError, ValueError):
        for mount in order(mountinfo.mounts()):
            if _keeps_data(mount):
                with suppress(OSError):
                    _make_read_only(mount.target)


def still_writable(mounts: Callable[[], Iterable[MountInfo]] = mountinfo.mounts) -> list[str]:
    """The mount points of file systems with data that could still be written to."""
    try:
        return [mount.target for mount in order(mounts()) if _keeps_data(mount) and not mount.read_only]
    except (OSError, ValueError):
        return []


def _free(loops: Iterable[str]) -> bool:
    """Detach loop devices that nobody uses any more, so that the file system their file lies on can go. True: some were."""
    freed = False
    for path in loops:
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _LOOP_CLR_FD)
                freed = True
            finally:
                os.close(fd)
    return freed


async def _within(seconds: float, call: Callable[..., object], *arguments: object) -> OSError | None:
    """Do a system call that may hang, in a thread. What it raised, or ETIMEDOUT when the thread was left behind."""
    with trio.move_on_after(seconds):
        try:
            await trio.to_thread.run_sync(call, *arguments, abandon_on_cancel=True)
        except OSError as error:
            return error
        return None
    return OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
