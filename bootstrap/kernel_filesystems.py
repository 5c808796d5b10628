"""What every Linux program expects to be mounted, and the links and folders beside it.

Applied before anything else, so nothing here relies on /proc: whether a folder is a mount is asked of stat(2). On an
initramfs /run becomes the tmpfs that carries the runtime: that tmpfs is mounted elsewhere, the runtime's folder bound into it,
and the whole moved onto /run, so that the path of the runtime never changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from dataclasses import dataclass

from bootstrap import mount_errors
from bootstrap.modules import SetModprobe
from bootstrap.steps import RUNTIME, Machine, Step
from ocelot.config.structs import OnFailure
from ocelot.errors import OcelotError
from ocelot.linux import syscalls
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import TOOLS

_SAFE = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_NO_DEVICES = syscalls.MS_NOSUID | syscalls.MS_NODEV

_ASIDE = "/.ocelot-run"


def in_memory(options: str) -> str:
    """Options of a tmpfs of ours: on a machine at most half of what is free may lie in it.

    The kernel's own limit is half of all memory, and a small guest has less left: a full /tmp would leave nothing to PID 1,
    whom the kernel cannot kill for it, and panics.
    """
    if identity() is not Identity.MACHINE:
        return options
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{options},size={free // 2048}k"


@dataclass(frozen=True)
class Api:
    """A file system of the kernel, mounted unless something is mounted there."""

    fstype: str
    target: str
    flags: int
    data: str = ""
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None

    @property
    def name(self) -> str:
        return f"mount {self.target}"

    def describe(self) -> str:
        limit = ", on a machine with at most half of what is free" if self.fstype == "tmpfs" else ""
        return f"mount {self.fstype} on {self.target}" + (f", options {self.data}" if self.data else "") + limit

    async def apply(self, machine: Machine) -> None:
        self.mount(machine)

    def mount(self, machine: Machine) -> None:
        _require_own_mounts(machine)
        target = machine.path(self.target)
        if is_mount(target) or (machine.identity is not Identity.MACHINE and _holds_something(target)):
            return
        _make_mount_point(target)
        data = in_memory(self.data) if self.fstype == "tmpfs" else self.data
        try:
            syscalls.mount(self.fstype, target, self.fstype, self.flags, data or None)
        except OSError as error:
            if error.errno == errno.EPERM and machine.identity is Identity.CONTAINER:
                machine.info(f"left {self.target} as it is: mounting is not permitted in this container")
                return
            raise OcelotError(f'cannot mount {self.fstype} on "{target}": {error.strerror}') from error


@dataclass(frozen=True)
class Run:
    """The tmpfs on /run, with the runtime in it where that came with the initramfs."""

    name: str = "mount /run"
    on_failure: OnFailure = OnFailure.ABORT
    timeout: float | None = None

    def describe(self) -> str:
        return f"mount tmpfs on /run, options mode=755, on a machine with at most half of what is free; {RUNTIME} stays where it is"

    async def apply(self, machine: Machine) -> None:
        self.mount(machine)

    def mount(self, machine: Machine) -> None:
        _require_own_mounts(machine)
        target = machine.path("/run")
        if is_mount(target):
            return
        runtime = machine.path(RUNTIME)
        if os.path.isdir(runtime):
            carry_runtime(runtime, target, machine.path(_ASIDE))
        elif machine.identity is Identity.MACHINE or not _holds_something(target):
            Api("tmpfs", "/run", _NO_DEVICES, "mode=755").mount(machine)


def carry_runtime(runtime: str, run: str, aside: str) -> None:
    """Make ``run`` a tmpfs in which ``runtime``, a folder below it, is still at the same path."""
    os.makedirs(aside, exist_ok=True)
    syscalls.mount("tmpfs", aside, "tmpfs", _NO_DEVICES, in_memory("mode=755"))
    inside = aside + runtime.removeprefix(run)
    os.makedirs(inside)
    syscalls.mount(runtime, inside, None, syscalls.MS_BIND)
    syscalls.mount(aside, run, None, syscalls.MS_MOVE)
    os.rmdir(aside)


@dataclass(frozen=True)
class Devices:
    """/dev: the kernel's devtmpfs, or a tmpfs with the usual nodes where the kernel has none."""

    name: str = "mount /dev"
    on_failure: OnFailure = OnFailure.ABORT
    timeout: float | None = None

    def describe(self) -> str:
        return "mount devtmpfs on /dev, options mode=755"

    async def apply(self, machine: Machine) -> None:
        self.mount(machine)

    def mount(self, machine: Machine) -> None:
        _require_own_mounts(machine)
        target = machine.path("/dev")
        if is_mount(target) or (machine.identity is not Identity.MACHINE and os.path.exists(f"{target}/null")):
            return
        _make_mount_point(target)
        try:
            syscalls.mount("devtmpfs", target, "devtmpfs", syscalls.MS_NOSUID, "mode=755")
            return
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EPERM):
                raise OcelotError(f'cannot mount devtmpfs on "{target}": {error.strerror}') from error
        machine.warn(
            "this kernel has no devtmpfs: /dev holds only the basic nodes, and devices that come later are not seen"
        )
        syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID, "mode=755")
        make_nodes(target)


# name, mode, major, minor: Documentation/admin-guide/devices.txt
NODES = (
    ("null", 0o666, 1, 3),
    ("zero", 0o666, 1, 5),
    ("full", 0o666, 1, 7),
    ("random", 0o666, 1, 8),
    ("urandom", 0o666, 1, 9),
    ("kmsg", 0o644, 1, 11),
    ("tty", 0o666, 5, 0),
    ("console", 0o600, 5, 1),
    ("ptmx", 0o666, 5, 2),
)


def make_nodes(folder: str) -> None:
    """The character devices that programs cannot do without."""
    for name, mode, major, minor in NODES:
        path = f"{folder}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
            os.chmod(path, mode)  # mknod(2) minds the umask


LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
)

FOLDERS = (("/run/lock", 0o1777), ("/run/ocelot", 0o755))


@dataclass(frozen=True)
class Beside:
    """The links in /dev and the folders in /run that programs expect."""

    name: str = "links and folders"
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None

    def describe(self) -> str:
        links = ", ".join(link for link, _ in LINKS)
        return f"link {links}; make {', '.join(path for path, _ in FOLDERS)}"

    async def apply(self, machine: Machine) -> None:
        self.make(machine)

    def make(self, machine: Machine) -> None:
        _require_own_mounts(machine)
        for link, points_to in LINKS:
            with contextlib.suppress(FileExistsError):
                os.symlink(points_to, machine.path(link))
        for name, mode in FOLDERS:
            path = machine.path(name)
            if not os.path.isdir(path):
                os.makedirs(path)
                os.chmod(path, mode)


@dataclass(frozen=True)
class Tools:
    """``ocelot`` and ``ocelotctl`` on the PATH of every child, also where no root file system has them."""

    name: str = "tools"
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None
    prefix: str = ""

    def describe(self) -> str:
        return f"link ocelot and ocelotctl into {TOOLS}"

    async def apply(self, machine: Machine) -> None:
        self.link(machine)

    def link(self, machine: Machine) -> None:
        _require_own_mounts(machine)
        folder = machine.path(TOOLS)
        prefix = self.prefix or sys.prefix
        for tool in ("ocelot", "ocelotctl"):
            program = f"{prefix}/bin/{tool}"
            if os.path.exists(program):
                os.makedirs(folder, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.symlink(program, f"{folder}/{tool}")


def steps() -> tuple[Step, ...]:
    """Everything, in the order in which it is done. Also right where some or all of it is there already."""
    return (
        Api("proc", "/proc", _SAFE, on_failure=OnFailure.ABORT),
        Api("sysfs", "/sys", _SAFE, on_failure=OnFailure.ABORT),
        Devices(),
        Api("devpts", "/dev/pts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"),
        Api("tmpfs", "/dev/shm", _NO_DEVICES, "mode=1777"),
        Run(),
        Api("tmpfs", "/tmp", _NO_DEVICES, "mode=1777"),
        Api("cgroup2", "/sys/fs/cgroup", _SAFE),
        Beside(),
        Tools(),
        SetModprobe(),
    )


def is_mount(path: str) -> bool:
    """Whether something is mounted on ``path``; needs no /proc. A bind of the same file system is not seen."""
    try:
        here, above = os.lstat(path), os.lstat(os.path.join(path, ".."))
    except OSError:
        return False
    return here.st_dev != above.st_dev or here.st_ino == above.st_ino


def own_mounts() -> None:
    """Give this process a mount namespace of its own, which still sees what is mounted outside (mount_namespaces(7)).

    For PID 1 of a container: a PID namespace may share the mounts of the host. Call it before any thread is started:
    unshare(2) moves only the calling one.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    try:
        syscalls.mount(None, "/", None, syscalls.MS_SLAVE | syscalls.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise OcelotError(
            'cannot boot here: "/" is not a mount point, as after a bare chroot',
            hint="bind the folder onto itself before the chroot, or use pivot_root",
        ) from error


def _require_own_mounts(machine: Machine) -> None:
    if machine.identity is Identity.PROCESS:
        raise OcelotError(
            "cannot mount the kernel's file systems: this process is not PID 1",
            hint="use ocelot supervise on a running system, or ocelot bootstrap try for a rehearsal",
        )


def _make_mount_point(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise mount_errors.no_mount_point(path, error) from error


def _holds_something(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except OSError:
        return False
