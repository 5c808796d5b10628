"""The mounts of a configuration: planned from its records, then done with mount(2).

mount(2) on a network or virtio file system can hang for as long as the other side is silent, and a disk may have a
journal to replay: every such call runs in a worker thread with a deadline, and is left behind when that passes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import msgspec
import trio

from bootstrap import devices, loop, mount_errors, overlay, trial
from bootstrap import mount_options as opts
from bootstrap.mount_options import Options
from bootstrap.steps import SYSROOT, Machine, Step
from ocelot.config.structs import (
    BindMount,
    DeviceMount,
    Mount,
    NfsMount,
    NinePMount,
    OnFailure,
    OverlayMount,
    VirtiofsMount,
    VirtualMount,
)
from ocelot.errors import OcelotError
from ocelot.linux import syscalls
from ocelot.linux.kmsg import WARNING, Tail

Resolver = Callable[[str], Awaitable[str]]
"""Turns the name of a server into a numeric address; raises OcelotError."""

WAIT = 30.0
"""Seconds to wait for a device or a server, unless the mount has a ``timeout``."""
CALL = 90.0
"""Seconds that one mount(2) of a device may take: a large journal is replayed within it. A server has ``WAIT``."""
TAG_WAIT = 2.0
"""Seconds to wait for a tag: the bus may still be probing, but a tag that is not there now is most likely misspelt."""

NINE_P_DEFAULTS = "trans=virtio,version=9p2000.L,msize=512000"
NFS_DEFAULTS = "vers=4.2"
_NFS_VERSION_KEYS = frozenset(("vers", "nfsvers", "v2", "v3", "v4", "v4.0", "v4.1", "v4.2"))

P = ParamSpec("P")
T = TypeVar("T")

_UNREACHABLE = frozenset(
    (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ECONNRESET)
)
_WORTH_REPEATING = {"nfs": _UNREACHABLE, "virtiofs": frozenset((errno.EINVAL,)), "9p": frozenset((errno.ENOENT,))}


def plan_mounts(mounts: Sequence[Mount], *, resolve: Resolver | None = None) -> tuple[Step, ...]:
    """A step for each of ``mounts``, in their order: a mount may lie on an earlier one."""
    return tuple(MountStep(mount, mount.target or "/", f"mount {mount.target}", resolve) for mount in mounts)


def plan_root(mount: Mount, target: str = SYSROOT, *, resolve: Resolver | None = None) -> tuple[Step, ...]:
    """The step that assembles the new root on ``target``. Without it nothing can go on, so that Warn means Abort."""
    if mount.on_failure is OnFailure.WARN:
        mount = msgspec.structs.replace(mount, on_failure=OnFailure.ABORT)
    return (MountStep(mount, target, "mount root", resolve),)


def source_of(mount: Mount) -> str:
    """What is mounted, as the kernel is told: a tag, a device, server:export, a folder, or the file system's name."""
    match mount:
        case VirtiofsMount() | NinePMount():
            return mount.tag
        case DeviceMount():
            return mount.device
        case NfsMount():
            host = f"[{mount.server}]" if ":" in mount.server and not mount.server.startswith("[") else mount.server
            return f"{host}:{mount.export}"
        case OverlayMount():
            return "overlay"
        case VirtualMount():
            return mount.source or mount.fstype
        case BindMount():
            return mount.source


def fstype_of(mount: Mount) -> str:
    """The type for mount(2); empty for a device whose superblock decides, and for a bind."""
    match mount:
        case VirtiofsMount():
            return "virtiofs"
        case NinePMount():
            return "9p"
        case NfsMount():
            return "nfs"
        case OverlayMount():
            return "overlay"
        case DeviceMount() | VirtualMount():
            return mount.fstype or ""
        case BindMount():
            return ""


def paths_in_use(mount: Mount) -> tuple[str, ...]:
    """The paths on the current root that ``mount`` keeps using: freeing that root must spare them."""
    match mount:
        case OverlayMount():
            return (*mount.lower.split(":"), mount.upper, mount.work)
        case BindMount():
            return (mount.source,)
        case DeviceMount() if mount.device.startswith("/") and not mount.device.startswith("/dev/"):
            return (mount.device,)
        case _:
            return ()


@dataclass(frozen=True)
class Call:
    """One mount(2), ready to be made."""

    source: str
    target: str
    fstype: str
    options: Options

    def run(self) -> None:
        """Make it, and the further calls that a bind with flags and a propagation type need."""
        flags, data = self.options.flags, self.options.data
        binding = flags & syscalls.MS_BIND
        first = flags & (syscalls.MS_BIND | syscalls.MS_REC) if binding else flags
        syscalls.mount(self.source, self.target, self.fstype or None, first, data or None)
        try:
            if binding and flags & opts.PER_MOUNT:
                flags = opts.bind_remount_flags(flags, opts.flags_of_mount(os.statvfs(self.target).f_flag))
                syscalls.mount(None, self.target, None, flags)
            for propagation in self.options.propagation:
                syscalls.mount(None, self.target, None, propagation)
        except OSError:
            with contextlib.suppress(OSError):
                syscalls.umount2(self.target, syscalls.MNT_DETACH)
            raise


@dataclass(frozen=True)
class MountStep:
    """Mount one thing on ``target``, below an overlay if it asks for one."""

    mount: Mount
    target: str
    name: str
    resolve: Resolver | None = None

    @property
    def on_failure(self) -> OnFailure:
        return self.mount.on_failure or OnFailure.ABORT

    @property
    def timeout(self) -> float | None:
        return self.mount.timeout

    @property
    def limit(self) -> float:
        """Seconds for one mount(2)."""
        return self.mount.timeout or (CALL if isinstance(self.mount, DeviceMount) else WAIT)

    def describe(self) -> str:
        kind = fstype_of(self.mount) or ("bind" if isinstance(self.mount, BindMount) else "the detected type")
        text = f'mount "{source_of(self.mount)}" on {self.target}, type {kind}'
        shown = opts.render(_options(self.mount))
        if shown:
            text += f", options {shown}"
        if self.mount.overlay:
            text += ", as the lower layer of an overlay that is written to memory"
        return text

    async def apply(self, machine: Machine) -> None:
        if machine.trial and not isinstance(self.mount, VirtualMount | BindMount | OverlayMount):
            machine.info(f"not done in a trial: {self.describe()}")
            return
        if machine.trial and isinstance(self.mount, OverlayMount) and not self.mount.upper.startswith(trial.FOLDER):
            machine.info(f"in this trial {self.mount.upper} and {self.mount.work} are in memory")
            await replace(self, mount=trial.with_layers_in_memory(self.mount)).apply(machine)
            return
        if self.mount.mandatory_locks:
            machine.warn(f"{self.name}: mandatoryLocks has no effect since Linux 5.15")
        target = machine.path(self.target)
        await _in_thread(_make_mount_point, self.mount, machine.path(source_of(self.mount)), target)
        with Tail() as tail:
            if self.mount.overlay:
                await self._mount_with_overlay(machine, target, tail)
            else:
                await self._mount(machine, target, tail)

    async def _mount_with_overlay(self, machine: Machine, target: str, tail: Tail) -> None:
        layers = await _in_thread(overlay.prepare, source_of(self.mount))
        try:
            made = await self._mount(machine, layers.lower, tail)
            restrictions = made.options.flags & opts.RESTRICTIONS
            call = Call("overlay", target, "overlay", Options(restrictions))
            await machine.load_file_system("overlay")
            try:
                await _in_thread(overlay.assemble, layers, target, restrictions)
            except OSError as error:
                raise mount_errors.explain(call, error, tail.lines(level=WARNING)) from error
        except BaseException:
            overlay.discard(layers)
            raise

    async def _mount(self, machine: Machine, target: str, tail: Tail) -> Call:
        wait = WAIT if self.mount.timeout is None else self.mount.timeout
        began = trio.current_time()
        call = await self._prepare(machine, target, wait)
        await machine.load_file_system(call.fstype)
        image = -1
        try:
            if isinstance(self.mount, DeviceMount) and await _in_thread(loop.is_image, call.source):
                read_only = bool(call.options.flags & syscalls.MS_RDONLY)
                device, image = await _in_thread(loop.attach, call.source, read_only=read_only)
                call = replace(call, source=device)
            patience = self._patience(wait)
            if self.mount.timeout is not None:  # of which loading modules took its part: the step as a whole ends then
                patience -= trio.current_time() - began
            return await _attempt(call, machine, patience, self.limit)
        except trio.TooSlowError:
            raise mount_errors.too_slow(call, self.limit, tail.lines(level=WARNING)) from None
        except OSError as error:
            raise mount_errors.explain(call, error, tail.lines(level=WARNING)) from error
        finally:
            if image >= 0:
                os.close(image)

    async def _prepare(self, machine: Machine, target: str, wait: float) -> Call:
        mount = self.mount
        options = _options(mount, machine.path)
        call = Call(source_of(mount), target, fstype_of(mount), options)
        match mount:
            case DeviceMount():
                scan = devices.Scan()
                device = await devices.wait_for(_placed_device(mount.device, machine), wait, scan)
                machine.waited += scan.waited
                fstype = mount.fstype
                if fstype is None:
                    fstype = await _in_thread(devices.detect, device)
                return replace(call, source=device, fstype=fstype)
            case NfsMount() if "addr" not in opts.keys(mount.options):
                address = await address_of(mount.server, self.resolve)
                return replace(call, options=replace(options, data=f"{options.data},addr={address}"))
            case BindMount():
                return replace(call, source=machine.path(mount.source))
            case OverlayMount():
                await _in_thread(_check_layers, mount, machine.path)
                return call
            case _:
                return call

    def _patience(self, wait: float) -> float:
        match self.mount:
            case NfsMount():
                return wait
            case VirtiofsMount() | NinePMount():
                return TAG_WAIT if self.mount.timeout is None else wait
            case _:
                return 0.0


async def _attempt(call: Call, machine: Machine, patience: float, limit: float) -> Call:
    """Make the call; again while its error may pass by itself; read-only where the device can only be read."""
    repeatable = _WORTH_REPEATING.get(call.fstype, frozenset())
    end = trio.current_time() + patience
    delay = 0.1
    while True:
        try:
            with trio.fail_after(limit):
                await trio.to_thread.run_sync(call.run, abandon_on_cancel=True)
            return call
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES) and _may_become_read_only(call):
                machine.warn(f'"{call.source}" can only be read: mounting it read-only on {call.target}')
                call = replace(call, options=replace(call.options, flags=call.options.flags | syscalls.MS_RDONLY))
                continue
            if error.errno == errno.ENODEV and call.fstype in ("ext2", "ext3"):
                call = replace(call, fstype="ext4")  # the ext4 driver mounts its elders
                continue
            if error.errno not in repeatable or trio.current_time() + delay > end:
                raise
        await trio.sleep(delay)
        delay = min(delay * 2, 2.0)


def _may_become_read_only(call: Call) -> bool:
    return call.source.startswith("/dev/") and bool(call.fstype) and not call.options.flags & syscalls.MS_RDONLY


def _options(mount: Mount, place: Callable[[str], str] = str) -> Options:
    """The options of ``mount``; ``place`` turns a path of the configuration into the one to use now."""
    match mount:
        case NinePMount():
            return opts.of_mount(mount, NINE_P_DEFAULTS)
        case NfsMount():
            versioned = opts.keys(mount.options) & _NFS_VERSION_KEYS
            return opts.of_mount(mount, "" if versioned else NFS_DEFAULTS)
        case OverlayMount():
            options = opts.of_mount(mount)
            lower = ":".join(place(folder) for folder in mount.lower.split(":"))
            layers = overlay.data(lower, place(mount.upper), place(mount.work))
            return replace(options, data=",".join(filter(None, (layers, options.data))))
        case BindMount():
            options = opts.of_mount(mount)
            return replace(options, flags=options.flags | syscalls.MS_BIND)
        case _:
            return opts.of_mount(mount)


def _placed_device(device: str, machine: Machine) -> str:
    """An image lies on the file system that the configuration speaks of; devices and identities are the machine's."""
    return machine.path(device) if device.startswith("/") and not device.startswith("/dev/") else device


async def address_of(server: str, resolve: Resolver | None) -> str:
    """The numeric address of ``server``: the kernel resolves no names."""
    host = server.strip("[]")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        return host
    except OSError:
        if resolve is None:
            raise OcelotError(
                f'cannot resolve the NFS server "{server}": only numeric addresses are known here',
                hint="write its address, or addr=ADDRESS in options",
            ) from None
    return await resolve(host)


def _make_mount_point(mount: Mount, source: str, target: str) -> None:
    """Make the folder that is mounted on, or the file if a file is bound."""
    if os.path.exists(target):
        return
    if os.path.islink(target):
        raise OcelotError(
            f'cannot mount on "{target}": it is a link to "{os.readlink(target)}", which leads nowhere',
            hint="make what it leads to, or name that as target",
        )
    try:
        if isinstance(mount, BindMount) and os.path.exists(source) and not os.path.isdir(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        else:
            os.makedirs(target, exist_ok=True)
    except OSError as error:
        raise mount_errors.no_mount_point(target, error) from error


def _check_layers(mount: OverlayMount, place: Callable[[str], str]) -> None:
    """Make upper and work where missing; say which lower is missing: the kernel does not."""
    for folder in mount.lower.split(":"):
        if not os.path.isdir(place(folder)):
            raise OcelotError(
                f'cannot mount an overlay: there is no folder "{folder}" for its lower layer',
                hint="mount or make it before, in preSwitch.mounts or preSwitch.tmpfiles",
            )
    for folder in (mount.upper, mount.work):
        try:
            os.makedirs(place(folder), exist_ok=True)
        except OSError as error:
            raise OcelotError(
                f'cannot make the overlay folder "{folder}": {error.strerror}',
                hint="upper and work must be on one writable file system",
            ) from error


async def _in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """A short call that touches a file system which may hang; the step's deadline leaves it behind."""
    return await trio.to_thread.run_sync(lambda: function(*arguments, **named), abandon_on_cancel=True)
