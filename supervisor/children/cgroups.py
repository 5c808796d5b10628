"""A cgroup of its own for each process with ``resources``: its limits, its whole population, and who killed it.

The layout follows the kernel's rule that a cgroup with controllers for its children has no processes itself, unless it
is the root of the hierarchy (admin-guide/cgroup-v2, "No Internal Process Constraint")::

    <the cgroup that ocelot was started in>
        ocelot.self       ocelot and its other children, moved here where the rule demands it (containers)
        ocelot            holds nothing but
            web.process   one for each process

(``ocelot`` has a number behind it where there may be more than one supervisor in a cgroup.)

The leaf of a process stays the same over its lives; it is removed when it is empty and made again by the next start.
Nothing is remembered between two calls that the kernel does not know, so another image of PID 1 finds what this one made.
A machine that cannot do what ``resources`` asks for fails the start: a limit that silently does not hold is worse than none.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import trio

from ocelot.config.privileges import IoMax, Resources
from ocelot.errors import OcelotError
from ocelot.linux import syscalls
from ocelot.linux.identity import Identity, identity
from ocelot.linux.mountinfo import MountInfo, mounts
from ocelot.linux.procstat import procstat

SELF = "ocelot.self"
CPU_PERIOD = 100_000
"""Microseconds, the kernel's own default."""


@dataclass(frozen=True, slots=True)
class Place:
    """The cgroup that ocelot was started in. ``root``: it is the root of the hierarchy, which may have processes too."""

    folder: str
    root: bool

    name: str = "ocelot"

    @property
    def group(self) -> str:
        return f"{self.folder}/{self.name}"


def find(proc: str = "/proc/self") -> Place:
    """Where we are, by what ``proc`` says. Raises OcelotError where there is no cgroup v2."""
    try:
        table = mounts(f"{proc}/mountinfo")
        own = next((line[3:] for line in _read(f"{proc}/cgroup").splitlines() if line.startswith("0::")), None)
    except OSError as error:
        raise OcelotError(f"cannot find its cgroup: {error.strerror}", hint="mount /proc") from error
    mount = _mount(table)
    if mount is None or own is None:
        raise OcelotError(
            "cannot use resources: there is no cgroup v2 on this machine",
            hint="boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 on /sys/fs/cgroup",
        )
    path = own if mount.root == "/" else own.removeprefix(mount.root)
    folder = os.path.normpath(f"{mount.target}/{path.strip('/')}")
    if os.path.basename(folder) == SELF:
        folder = os.path.dirname(folder)
    return Place(folder, not os.path.exists(f"{folder}/cgroup.type"), _group_name())


def _group_name() -> str:
    """Another one for each supervisor on a machine; that of the machine's init is plain. A re-exec keeps the pid."""
    if identity() is Identity.MACHINE:
        return "ocelot"
    return f"ocelot-{os.stat('/proc/self/ns/pid').st_ino}-{os.getpid()}"


def _mount(table: Iterable[MountInfo]) -> MountInfo | None:
    found = [mount for mount in table if mount.fstype == "cgroup2"]
    return next((mount for mount in found if mount.target == "/sys/fs/cgroup"), found[-1] if found else None)


class Leaf:
    """The cgroup of the process ``name``. ``place`` None: found when it is first needed."""

    def __init__(self, name: str, resources: Resources, place: Place | None = None) -> None:
        self.name = name
        self.resources = resources
        self._place = place
        self._oom_kills = 0

    @property
    def folder(self) -> str:
        """Its path below the mount of cgroup2. Raises OcelotError."""
        if self._place is None:
            self._place = find()
        # No file of the kernel's own ends like this, so no name can be taken for one
        return f"{self._place.group}/{self.name}.process"

    def prepare(self) -> str:
        """Before a start: make it and set its limits. Returns the folder. Raises OcelotError, which says what is missing."""
        folder = self.folder
        assert self._place is not None
        with _explained(f"cannot make the cgroup of {self.name}"):
            _enable(self._place, self.resources.controllers)
            _make(folder)
        for file, value in settings(self.resources).items():
            with _explained(f"cannot set {file} of {self.name} to {value.strip()}"):
                _set(f"{folder}/{file}", value)
        for limit in self.resources.io_max:
            with _explained(f"cannot limit {self.name} on {limit.device}"):
                _write(f"{folder}/io.max", io_line(limit))
        self._oom_kills = self._count_oom_kills()
        return folder

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory since :meth:`prepare`."""
        return self._count_oom_kills() - self._oom_kills

    def starved(self) -> str:
        """In words, if the kernel has killed any of its processes for want of memory since :meth:`prepare`."""
        killed = self.oom_kills()
        if killed <= 0:
            return ""
        limit = self.resources.memory_max
        what = "out of memory" if limit is None else f"out of memory, memoryMax is {limit / 2**20:.4g}MiB"
        return what if killed == 1 else f"{what}, {killed} of its processes were killed"

    def populated(self) -> bool:
        """Whether it holds a living process, in a cgroup below it too; zombies do not count."""
        with suppress(OSError):
            return _table(f"{self.folder}/cgroup.events").get("populated", 0) == 1
        return False

    async def emptied(self) -> None:
        """Wait until it is not populated. The kernel tells, by inotify(7)."""
        fd = syscalls.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                syscalls.inotify_add_watch(fd, f"{self.folder}/cgroup.events", syscalls.IN_MODIFY)
                while self.populated():
                    await trio.lowlevel.wait_readable(fd)
                    os.read(fd, 4096)
        finally:
            trio.lowlevel.notify_closing(fd)
            os.close(fd)

    def signal(self, number: int) -> int:
        """Send a signal to every process in it, once; how many there were."""
        sent: set[int] = set()
        for _ in range(8):  # members may fork meanwhile; one that is faster than this meets SIGKILL
            new = set(self.processes()) - sent
            if not new:
                break
            for pid in new:
                _send(pid, number, self._holds)
            sent |= new
        return len(sent)

    def kill(self) -> None:
        """SIGKILL to all of it at once, however fast it forks (cgroup.kill); one by one before Linux 5.14."""
        try:
            _write(f"{self.folder}/cgroup.kill", "1")
        except FileNotFoundError:
            self.signal(signal.SIGKILL)

    def processes(self) -> list[int]:
        """The pids in it and in the cgroups below it, as this PID namespace sees them."""
        pids: list[int] = []
        for folder, _, _ in os.walk(self.folder):
            with suppress(OSError):
                pids += [int(pid) for pid in _read(f"{folder}/cgroup.procs").split() if pid != "0"]
        return pids

    def remove(self) -> bool:
        """Remove it and what the process made below it; False if a process lives in it or is still dying."""
        try:
            for folder, _, _ in os.walk(self.folder, topdown=False):
                os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        assert self._place is not None
        with suppress(OSError):  # others are in it
            os.rmdir(self._place.group)
        return True

    def _holds(self, pid: int) -> bool:
        """Whether ``pid`` is in it now: a number may have been used again."""
        assert self._place is not None
        try:
            own = next(line[3:] for line in _read(f"/proc/{pid}/cgroup").splitlines() if line.startswith("0::"))
        except (OSError, StopIteration):
            return False
        return f"/{self._place.name}/{self.name}.process" in own

    def _count_oom_kills(self) -> int:
        with suppress(OSError):
            return _table(f"{self.folder}/memory.events").get("oom_kill", 0)
        return 0


# -- limits ----------------------------------------------------------------------------------------


def settings(resources: Resources) -> dict[str, str]:
    """What is written to which file of a leaf; ``max`` takes away what an earlier life may have left there."""
    memory_max, memory_high, cpu = resources.memory_max, resources.memory_high, resources.cpu_max
    return {
        "memory.max": "max" if memory_max is None else str(memory_max),
        "memory.high": "max" if memory_high is None else str(memory_high),
        "cpu.max": f"{'max' if cpu is None else round(cpu * CPU_PERIOD)} {CPU_PERIOD}",
        "pids.max": "max" if resources.pids_max is None else str(resources.pids_max),
    }


def io_line(limit: IoMax) -> str:
    """A line of io.max. Raises OSError when there is no such device."""
    given = {key: getattr(limit, key) for key in ("rbps", "wbps", "riops", "wiops")}
    return " ".join([_disk(limit.device), *(f"{key}={value or 'max'}" for key, value in given.items())])


def _disk(device: str) -> str:
    """``MAJOR:MINOR`` of a block device; of the whole disk for a partition, since the kernel takes nothing else."""
    number = device
    if device.startswith("/"):
        found = os.stat(device).st_rdev
        number = f"{os.major(found)}:{os.minor(found)}"
    folder = f"/sys/dev/block/{number}"
    if os.path.exists(f"{folder}/partition"):
        return _read(f"{os.path.realpath(folder)}/../dev").strip()
    return number


def _set(path: str, value: str) -> None:
    """Write a limit; none is what a file that is not there stands for."""
    try:
        _write(path, value)
    except FileNotFoundError:
        if not value.startswith("max"):
            raise


# -- the way to a leaf -----------------------------------------------------------------------------


def _enable(place: Place, wanted: Iterable[str]) -> None:
    """Give ``place.group`` the controllers that its leaves need."""
    available = _read(f"{place.folder}/cgroup.controllers").split()
    wanted = tuple(wanted)
    missing = [name for name in wanted if name not in available]
    if missing:
        whose = "this kernel gives cgroup v2 no" if place.root else "the cgroup that ocelot was started in has no"
        hint = "check cgroup_disable= and whether cgroup v1 holds it" if place.root else "let the container delegate it"
        raise OcelotError(f"cannot limit it: {whose} controller {', '.join(missing)}", hint=hint)
    if not set(wanted) <= set(_read(f"{place.folder}/cgroup.subtree_control").split()):
        if not place.root:
            _make_room(place)
        _write(f"{place.folder}/cgroup.subtree_control", " ".join(f"+{name}" for name in wanted))
    _make(place.group)
    if not set(wanted) <= set(_read(f"{place.group}/cgroup.subtree_control").split()):
        _write(f"{place.group}/cgroup.subtree_control", " ".join(f"+{name}" for name in wanted))


def _make_room(place: Place) -> None:
    """Move ocelot and what it has started into a leaf, so that its cgroup may have controllers for its children."""
    target = f"{place.folder}/{SELF}"
    _make(target)
    for _ in range(8):  # what is moved may fork meanwhile
        pids = [int(pid) for pid in _read(f"{place.folder}/cgroup.procs").split()]
        if not pids:
            return
        foreign = [pid for pid in pids if not _is_ours(pid)]
        if foreign:
            raise OcelotError(
                f"cannot limit it: {len(foreign)} foreign processes live in the cgroup that ocelot was started in",
                hint="start ocelot in a cgroup of its own, for example with systemd-run --scope -p Delegate=yes",
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                _write(f"{target}/cgroup.procs", str(pid))


def _is_ours(pid: int) -> bool:
    """Whether ``pid`` is us or descends from us; as PID 1 of a namespace everybody in it does."""
    us = os.getpid()
    if us == 1:
        return pid != 0  # 0: a process from outside of the namespace
    while pid > 1:
        if pid == us:
            return True
        found = procstat(pid)
        if found is None:
            return True  # gone meanwhile
        pid = found.parent
    return False


@contextmanager
def _explained(deed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hints = {
            errno.EROFS: "the container must mount /sys/fs/cgroup writable",
            errno.EACCES: "only root may do this, or a user to whom the cgroup was delegated",
            errno.EPERM: "only root may do this, or a user to whom the cgroup was delegated",
            errno.EBUSY: "other processes live in the cgroup that ocelot was started in: give it one of its own",
            errno.ENODEV: "io limits need a whole disk, by a path such as /dev/vda",
        }
        raise OcelotError(f"{deed}: {os.strerror(error.errno or 0)}", hint=hints.get(error.errno or 0, "")) from error


def _make(folder: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(folder, 0o755)


def _send(pid: int, number: int, still: Callable[[int], bool]) -> None:
    """Through a pidfd, and only if ``still(pid)``: between the list and the signal the number may have been used again."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if still(pid):
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _table(path: str) -> dict[str, int]:
    """Lines of ``name number``."""
    return {name: int(value) for name, value in (line.split() for line in _read(path).splitlines())}


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _write(path: str, value: str) -> None:
    """One write(2): the kernel takes each as a whole. The file must exist."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
