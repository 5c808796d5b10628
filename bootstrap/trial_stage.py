"""Namespaces to rehearse a boot in, made on a desk: ``ocelot bootstrap try``.

A process in new mount, PID, UTS, IPC, network and cgroup namespaces (and a user namespace, if we are not root) becomes
PID 1 of a small world: a tmpfs as its initramfs, /dev with bound harmless nodes, /proc whose settings are read-only
but for those of the namespaces, and the folder behind an overlay whose upper layer is in memory. The old mounts are
detached, capabilities that reach the kernel or a device are dropped, so that hooks cannot do either what ocelot itself would not.

The interpreter has to outlive the switch to a root that may hold no Python, or another one. Its folders are bound
below the runtime's path, which moves along, and it is started anew from there through its own dynamic loader.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from bootstrap.guards import MARKER
from bootstrap.kernel_filesystems import LINKS
from bootstrap.steps import RUNTIME, SYSROOT
from bootstrap.sysctl import NAMESPACED_FOLDERS, NAMESPACED_KEYS
from bootstrap.trial import FILE, FOLDER, PROGRAMS, STAND_IN
from ocelot.errors import OcelotError, describe
from ocelot.linux import syscalls
from ocelot.linux.mountinfo import is_below

_LIBRARIES = f"{FOLDER}/lib"
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_SCRATCH = ("/mnt", "/media", "/srv", "/sys")
_NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWCGROUP
)
_READ_ONLY_BIND = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY

# capabilities(7): what reaches beyond the namespaces.
_DROPPED = {
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_PACCT": 20,
    "SYS_BOOT": 22,
    "SYS_TIME": 25,
    "MKNOD": 27,
    "AUDIT_CONTROL": 30,
    "MAC_OVERRIDE": 32,
    "MAC_ADMIN": 33,
    "SYSLOG": 34,
    "WAKE_ALARM": 35,
    "PERFMON": 38,
    "BPF": 39,
}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How to start this Python again from below the runtime's path.

    ``folders``: real paths on the host to bind there. ``libraries``: the shared libraries that it has loaded, which
    are found first: a host may have several of one name. ``command``: words up to Python's own arguments.
    """

    folders: tuple[str, ...]
    libraries: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the small world is made of. ``switches``: whether the file has a switchRoot."""

    root: str
    file: bytes
    switches: bool
    programs: bool
    interpreter: Interpreter


def run(stage: Stage, arguments: Sequence[str]) -> int:
    """Rehearse in ``stage``: start Python with ``arguments`` as PID 1, wait, return its exit status (128 + n by signal).

    Raises OcelotError when there is nothing to rehearse on, or the kernel does not allow namespaces.
    """
    if not os.path.isdir(stage.root):
        raise OcelotError(f'cannot try the boot: "{stage.root}" is not a folder', hint="--root DIR")
    sys.stdout.flush()
    sys.stderr.flush()
    _enter_namespaces()
    # The only other process of a command on a desk, forked before there is an event loop or a thread.
    pid = os.fork()  # noqa: TID251
    if pid == 0:
        _become_pid1(stage, arguments)
    return _wait(pid)


def interpreter() -> Interpreter:
    """This interpreter, with the folders of everything it has loaded so far or could load."""
    executable = os.path.realpath(sys.executable)
    libraries = _loaded_libraries()
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Not the folder that the command was called in, which python -m puts first: it may be anything, even /.
    searched = [path for path in sys.path if path and path != os.getcwd()]
    paths = [os.path.realpath(path) for path in (package, *searched) if os.path.isdir(path)]
    standard = os.path.dirname(os.path.realpath(os.__file__))
    home = os.path.dirname(os.path.dirname(standard))
    library_folders = list(dict.fromkeys(os.path.dirname(path) for path in libraries))
    wanted = [os.path.dirname(executable), standard, *paths, *library_folders]
    loader = next((path for path in libraries if os.path.basename(path).startswith(("ld-", "ld.so"))), None)
    prefix: tuple[str, ...] = ()
    if loader is not None:
        search = ":".join((_LIBRARIES, *(RUNTIME + folder for folder in library_folders)))
        prefix = (RUNTIME + loader, "--library-path", search)
    return Interpreter(
        _topmost(wanted),
        tuple(libraries),
        (*prefix, RUNTIME + executable, "-S", "-s", "-B"),
        {
            "PYTHONHOME": RUNTIME + home,
            "PYTHONPATH": ":".join(RUNTIME + path for path in dict.fromkeys(paths)),
            "PYTHONSAFEPATH": "1",
        },
    )


def _loaded_libraries() -> list[str]:
    found: dict[str, None] = {}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.rstrip("\n").partition("/")[2]
            if path and ".so" in path:
                found["/" + path] = None
    return [path for path in found if os.path.exists(path)]


def _topmost(paths: Sequence[str]) -> tuple[str, ...]:
    """``paths`` without those that lie below another."""
    kept: list[str] = []
    for path in sorted(set(paths), key=len):
        if not any(is_below(path, other) for other in kept):
            kept.append(path)
    return tuple(kept)


def _enter_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid == 0:
            syscalls.unshare(_NAMESPACES)
            return
        syscalls.unshare(_NAMESPACES | syscalls.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            _write(f"/proc/self/{name}", text)
    except OSError as error:
        raise OcelotError(
            f"cannot make namespaces for a trial: {describe(error)}",
            hint=f"run it as root, or {how_to_allow()}",
        ) from error


def how_to_allow(settings: str = "/proc/sys") -> str:
    """What an ordinary user lacks to make namespaces: Ubuntu 24.04 lets AppArmor forbid it, older Debians had a switch."""
    for name, allowed in (("kernel/apparmor_restrict_unprivileged_userns", 0), ("kernel/unprivileged_userns_clone", 1)):
        try:
            with open(os.path.join(settings, name), encoding="ascii") as file:
                if int(file.read()) != allowed:
                    return f"let root allow it: sysctl {name.replace('/', '.')}={allowed}"
        except (OSError, ValueError):
            continue
    return "allow unprivileged user namespaces"


def _wait(pid: int) -> int:
    """Wait for the trial; hand on what asks it to end. SIGINT comes to both from the terminal, and it decides."""

    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become_pid1(stage: Stage, arguments: Sequence[str]) -> NoReturn:
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _build(stage)
        for number in _DROPPED.values():
            with suppress(OSError):  # EINVAL: younger than the kernel
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
        python = stage.interpreter
        environment = {"container": "ocelot-trial", **python.environment}
        if "TERM" in os.environ:
            environment["TERM"] = os.environ["TERM"]
        os.execve(python.command[0], [*python.command, *arguments], environment)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent's half must not run here too
        os.write(2, f"ocelot: error: cannot set the trial up: {describe(error)}\n".encode())
        os._exit(70)


def _build(stage: Stage) -> None:
    """Make the small world and stand in it."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    # Opened first: the scratch tmpfs may hide a path that is wanted.
    root_fd = os.open(stage.root, os.O_PATH | os.O_DIRECTORY)
    sources = [(path, os.open(path, os.O_PATH)) for path in stage.interpreter.folders]
    programs = [(path, os.open(path, os.O_PATH | os.O_NOFOLLOW)) for path in PROGRAMS if os.path.lexists(path)]
    scratch = next(path for path in _SCRATCH if os.path.isdir(path))
    syscalls.mount("ocelot-trial", scratch, "tmpfs", 0, "mode=755")
    merged = _overlay(root_fd, scratch)
    base = merged
    if stage.switches:
        base = f"{scratch}/initramfs"
        os.mkdir(base)
        syscalls.mount("ocelot-initramfs", base, "tmpfs", 0, "mode=755")
        for path in (SYSROOT, os.path.dirname(MARKER)):
            os.makedirs(base + path)
        _write(base + MARKER, "{}")
    for path in ("/proc", "/sys", "/dev", "/run", "/tmp"):
        os.makedirs(base + path, exist_ok=True)
    _kernel_file_systems(base)
    for path, fd in sources:
        _bind(fd, base + RUNTIME + path)
    os.makedirs(base + _LIBRARIES)
    for path in stage.interpreter.libraries:
        with suppress(FileExistsError):
            os.symlink(RUNTIME + path, f"{base}{_LIBRARIES}/{os.path.basename(path)}")
    _write(base + FILE, stage.file)
    if stage.switches:
        os.mkdir(base + STAND_IN)
        syscalls.mount(merged, base + STAND_IN, None, syscalls.MS_MOVE)
        if stage.programs:
            _show_programs(programs, base)
    _enter(base)


def _overlay(root_fd: int, scratch: str) -> str:
    """Cover the folder behind ``root_fd`` with an overlay in memory; returns where it is mounted."""
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{scratch}/{name}")
    _bind(root_fd, f"{scratch}/lower")
    status = os.stat(f"{scratch}/lower")
    with suppress(OSError):  # an owner that a user namespace does not map
        os.chown(f"{scratch}/upper", status.st_uid, status.st_gid)
    os.chmod(f"{scratch}/upper", status.st_mode & 0o7777)
    data = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
    try:
        syscalls.mount("overlay", f"{scratch}/merged", "overlay", 0, data)
    except OSError as error:
        raise OcelotError(
            f"cannot cover the folder with an overlay: {describe(error)}",
            hint="choose a folder on a plain file system (not itself an overlay of overlays)",
        ) from error
    return f"{scratch}/merged"


def _kernel_file_systems(base: str) -> None:
    safe = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", f"{base}/proc", "proc", safe)
    _protect_proc(f"{base}/proc")
    syscalls.mount("sysfs", f"{base}/sys", "sysfs", safe | syscalls.MS_RDONLY)
    with suppress(OSError):  # no such folder, or it is mounted elsewhere as version 1 only
        syscalls.mount("cgroup2", f"{base}/sys/fs/cgroup", "cgroup2", safe | syscalls.MS_RDONLY)
    syscalls.mount("run", f"{base}/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    syscalls.mount("tmp", f"{base}/tmp", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    dev = f"{base}/dev"
    syscalls.mount("dev", dev, "tmpfs", syscalls.MS_NOSUID, "mode=755")
    for name in _NODES:
        if os.path.exists(f"/dev/{name}"):
            _bind_node(f"/dev/{name}", f"{dev}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    _mount_pts(f"{dev}/pts")
    syscalls.mount("shm", f"{dev}/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    os.symlink("pts/ptmx", f"{dev}/ptmx")
    for link, points_to in LINKS:
        os.symlink(points_to, base + link)
    _console(f"{dev}/console")


def _mount_pts(target: str) -> None:
    flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    try:
        syscalls.mount("devpts", target, "devpts", flags, "newinstance,gid=5,mode=620,ptmxmode=666")
    except OSError:  # a user namespace that does not map the group tty
        syscalls.mount("devpts", target, "devpts", flags, "newinstance,mode=620,ptmxmode=666")


def _console(path: str) -> None:
    """Our own terminal as the console, if there is one."""
    for fd in (0, 1, 2):
        if os.isatty(fd):
            _bind_node(os.ttyname(fd), path)
            return


def _bind_node(source: str, target: str) -> None:
    """Bind a device node. Read-only, which keeps its owner and mode; the device can be written to all the same."""
    _write(target, "")
    syscalls.mount(source, target, None, syscalls.MS_BIND)
    kept = os.statvfs(target).f_flag & (syscalls.MS_NOSUID | syscalls.MS_NOEXEC)
    syscalls.mount(None, target, None, _READ_ONLY_BIND | kept)


def _protect_proc(proc: str) -> None:
    """Settings of the host are read-only, to hooks and processes too; those of our namespaces are not."""
    for name in ("sys", "sysrq-trigger", "irq", "bus", "fs"):
        if os.path.exists(f"{proc}/{name}"):
            syscalls.mount(f"{proc}/{name}", f"{proc}/{name}", None, syscalls.MS_BIND)
            syscalls.mount(None, f"{proc}/{name}", None, _READ_ONLY_BIND)
    for name in (*NAMESPACED_FOLDERS, *sorted(NAMESPACED_KEYS)):
        path = f"{proc}/sys/{name}"
        if os.path.exists(path):
            syscalls.mount(path, path, None, syscalls.MS_BIND)
            syscalls.mount(None, path, None, syscalls.MS_BIND | syscalls.MS_REMOUNT)


def _show_programs(programs: Sequence[tuple[str, int]], base: str) -> None:
    for path, fd in programs:
        target = os.readlink("", dir_fd=fd) if os.path.islink(path) else None
        if target is not None:
            os.symlink(target, base + path)
        else:
            _bind(fd, base + path)


def _bind(fd: int, target: str) -> None:
    """Bind the folder behind ``fd``, read-only."""
    os.makedirs(target, exist_ok=True)
    try:
        syscalls.mount(f"/proc/self/fd/{fd}", target, None, syscalls.MS_BIND)
    except OSError as error:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, error.strerror, path) from None
        raise OcelotError(
            f'cannot show "{path}" without what is mounted below it',
            hint="a user namespace may not uncover folders: run it as root",
        ) from error
    # In a user namespace the flags that the mount has already must be repeated: they are locked.
    kept = os.statvfs(target).f_flag & (syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount(None, target, None, _READ_ONLY_BIND | kept)


def _enter(base: str) -> None:
    os.chdir(base)
    # One on the other, then the lower one goes: no folder for the old root is needed (pivot_root(2)).
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _write(path: str, content: str | bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content.encode() if isinstance(content, str) else content)
    finally:
        os.close(fd)
