"""The system calls that Python's standard library lacks: one thin function each, named as in the man page.

Each raises OSError with the path or object it was about. The only module that uses ctypes. libc is the one that
this interpreter is linked with (``CDLL(None)``): no library is searched, which matters before /proc is mounted and
after the root has changed.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256  # Linux 5.10
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_POSIXACL = 1 << 16
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

# umount2(2)
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# reboot(2)
RB_AUTOBOOT = 0x01234567
RB_HALT_SYSTEM = 0xCDEF0123
RB_ENABLE_CAD = 0x89ABCDEF
RB_DISABLE_CAD = 0
RB_POWER_OFF = 0x4321FEDC

_TFD_ABSOLUTE = 1 | 2  # TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET

# prctl(2)
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# close_range(2)
CLOSE_RANGE_CLOEXEC = 4

# unshare(2), setns(2)
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# openat2(2)
RESOLVE_IN_ROOT = 0x10

# statfs(2) f_type
RAMFS_MAGIC = 0x858458F6
TMPFS_MAGIC = 0x01021994

# capset(2)
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

# ioprio_set(2)
IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASSES = {"realtime": 1, "best-effort": 2, "idle": 3}

# inotify(7)
IN_MODIFY = 0x00000002

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273, "riscv64": 273}
_INIT_MODULE = {"x86_64": 175, "aarch64": 105, "riscv64": 105}


def _bytes(text: str | os.PathLike[str] | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _check(result: int, name: str | None = None, name2: str | None = None) -> int:
    if result == -1:
        number = ctypes.get_errno()
        if name2 is not None:
            raise OSError(number, os.strerror(number), name, None, name2)
        raise OSError(number, os.strerror(number), name)
    return result


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Can block without end on a network file system: call it in a worker thread with a deadline there."""
    _check(
        _libc.mount(_bytes(source), _bytes(target), _bytes(fstype), ctypes.c_ulong(flags), _bytes(data)),
        source if source is not None else target,
        target,
    )


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(_bytes(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    number = {"x86_64": 155}.get(os.uname().machine, 41)
    _check(_libc.syscall(ctypes.c_long(number), _bytes(new_root), _bytes(put_old)), new_root)


def openat2(dir_fd: int, path: str, flags: int, mode: int = 0, *, resolve: int = 0) -> int:
    """openat2(2) (Linux 5.6): open(2) with a say in how ``path`` is resolved. Returns a descriptor."""
    how = (ctypes.c_uint64 * 3)(flags, mode, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    # 437 on every architecture.
    return _check(_libc.syscall(ctypes.c_long(437), dir_fd, _bytes(path), ctypes.byref(how), size), path)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags))


def setns(fd: int, nstype: int = 0) -> None:
    """setns(2)."""
    _check(_libc.setns(fd, nstype))


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) with integer arguments."""
    longs = (ctypes.c_ulong(arg2), ctypes.c_ulong(arg3), ctypes.c_ulong(arg4), ctypes.c_ulong(arg5))
    return _check(_libc.prctl(option, *longs))


def capget() -> tuple[int, int, int]:
    """capget(2): the effective, permitted and inheritable sets of this thread, as bits."""
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(data)))
    effective, permitted, inheritable = (data[index] | data[index + 3] << 32 for index in range(3))
    return effective, permitted, inheritable


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2): the three sets of this thread, as bits."""
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    low = (each & 0xFFFFFFFF for each in (effective, permitted, inheritable))
    high = (each >> 32 for each in (effective, permitted, inheritable))
    data = (ctypes.c_uint32 * 6)(*low, *high)
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)))


def ioprio_set(scheduling_class: int, level: int) -> None:
    """ioprio_set(2) for the calling thread."""
    number = _IOPRIO_SET[os.uname().machine]
    value = ctypes.c_int(scheduling_class << 13 | level)
    _check(_libc.syscall(ctypes.c_long(number), ctypes.c_int(IOPRIO_WHO_PROCESS), ctypes.c_int(0), value))


def inotify_init1(flags: int) -> int:
    """inotify_init1(2). Returns a descriptor; IN_NONBLOCK and IN_CLOEXEC have the values of O_NONBLOCK and O_CLOEXEC."""
    return _check(_libc.inotify_init1(ctypes.c_int(flags)))


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """inotify_add_watch(2). Returns the number of the watch."""
    return _check(_libc.inotify_add_watch(ctypes.c_int(fd), _bytes(path), ctypes.c_uint32(mask)), path)


def reboot(command: int) -> None:
    """reboot(2). In the first PID namespace RB_POWER_OFF and RB_AUTOBOOT do not return; check who you are first."""
    _check(_libc.reboot(ctypes.c_int(command if command < 1 << 31 else command - (1 << 32))))


def finit_module(fd: int, parameters: str = "", flags: int = 0) -> None:
    """finit_module(2). Can block: a module's init function runs within the call."""
    number = _FINIT_MODULE[os.uname().machine]
    _check(_libc.syscall(ctypes.c_long(number), ctypes.c_int(fd), os.fsencode(parameters), ctypes.c_int(flags)))


def init_module(image: bytes, parameters: str = "") -> None:
    """init_module(2), for a module that had to be decompressed here."""
    number = _INIT_MODULE[os.uname().machine]
    _check(_libc.syscall(ctypes.c_long(number), image, ctypes.c_ulong(len(image)), os.fsencode(parameters)))


def timerfd_create(clock: int) -> int:
    """timerfd_create(2), with TFD_CLOEXEC and TFD_NONBLOCK. ``clock``: time.CLOCK_REALTIME, ..."""
    return _check(_libc.timerfd_create(ctypes.c_int(clock), ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK)))


def timerfd_settime(fd: int, at: float) -> None:
    """timerfd_settime(2): expire once, at the time ``at`` of its clock. When that clock is set, reading fails with ECANCELED."""
    seconds, fraction = divmod(at, 1.0)
    value = (ctypes.c_long * 4)(0, 0, int(seconds), int(fraction * 1_000_000_000) or 1)
    _check(_libc.timerfd_settime(ctypes.c_int(fd), ctypes.c_int(_TFD_ABSOLUTE), ctypes.byref(value), None))


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2), Linux 5.9; CLOSE_RANGE_CLOEXEC Linux 5.11."""
    number = ctypes.c_long(436)  # the same on every architecture
    _check(_libc.syscall(number, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(flags)))


def swapoff(path: str) -> None:
    """swapoff(2)."""
    _check(_libc.swapoff(_bytes(path)), path)


def syncfs(fd: int) -> None:
    """syncfs(2). Can block on a dead device."""
    _check(_libc.syncfs(fd))


def fs_type(path: str) -> int:
    """The ``f_type`` of statfs(2): which kind of file system ``path`` lies on."""
    buffer = (ctypes.c_long * 32)()
    _check(_libc.statfs(_bytes(path), ctypes.byref(buffer)), path)
    return int(buffer[0]) & 0xFFFFFFFF


def lies_in_memory(path: str) -> bool:
    """Whether ``path`` is on an initramfs or another file system that takes up memory; not where nobody can tell."""
    try:
        return fs_type(path) in (RAMFS_MAGIC, TMPFS_MAGIC)
    except OSError:
        return False
