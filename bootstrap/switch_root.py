"""The switch from the initramfs to the real root.

The initramfs cannot be unmounted or pivoted away: the kernel keeps it below everything. So the new root is moved on top
of it and the old one is emptied. A bare chroot(2) would do for most programs, but the kernel then forbids user
namespaces to everything that follows (it compares the root of the process with that of the mount namespace).

Everything that could refuse is asked first. From the first move on, an error is undone as far as it can be.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

import trio

from bootstrap import mount_errors, old_root, overlay
from bootstrap.guards import MACHINE, Guards, in_force
from bootstrap.mount_options import RESTRICTIONS, flags_of_mount
from bootstrap.root_moves import Move, in_use_by, plan_moves
from bootstrap.steps import RUNTIME, SYSROOT, Machine
from bootstrap.tmpfiles import open_folder
from ocelot.config.structs import OnFailure
from ocelot.errors import OcelotError, describe
from ocelot.linux import mountinfo, syscalls
from ocelot.linux.identity import Identity

MODULES = "/run/ocelot/modules"
"""Where the modules of the initramfs stay when postSwitch may want more of them."""
PATIENCE = 60.0
"""Seconds that the new root's server has to answer while mount points are looked up or made."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Make the file system on ``new_root`` the root. ``layers``: paths of the old root that the new one is made of."""

    new_root: str = SYSROOT
    layers: tuple[str, ...] = ()
    keep_modules: bool = False
    guards: Guards = MACHINE
    name: str = "switch root"
    on_failure: OnFailure = OnFailure.ABORT
    timeout: float | None = None

    def describe(self) -> str:
        return f"move /proc, /sys, /dev, /run, /tmp into {self.new_root}, move it onto /, free the initramfs"

    async def apply(self, machine: Machine) -> None:
        """Raises OcelotError or OSError; up to the move of the root itself everything is as before then."""
        await switch_root(self, machine)


@dataclass(frozen=True, slots=True)
class ShareRoot:
    """Without a switch: make the mounts of a machine shared, which container runtimes in it expect."""

    name: str = "share /"
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None

    def describe(self) -> str:
        return "stay on the current root; as the init of a machine, make its mounts shared"

    async def apply(self, machine: Machine) -> None:
        if machine.identity is not Identity.MACHINE:
            return
        if os.statvfs("/").f_flag & os.ST_RDONLY:
            machine.info("the root is read-only: the kernel mounts it so unless its command line says rw")
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)


async def switch_root(switch: Switch, machine: Machine) -> None:
    """Do it, in the order of the module's docstring. See mount(2), chroot(2)."""
    guards = in_force(switch.guards, machine)
    guards.check()
    new_root = switch.new_root
    if mountinfo.mount_at(new_root) is None:
        raise OcelotError(f"cannot switch to another root: nothing is mounted on {new_root}")
    old_fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A mount below a shared one cannot be moved.
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        if switch.keep_modules:
            _keep_modules(machine)
        table = mountinfo.mounts()
        layers = (*switch.layers, *in_use_by(table), *old_root.loop_files())
        spared = old_root.spared_inodes(old_fd, table, (RUNTIME, *layers))
        moves = await _destinations(plan_moves(table, new_root, layers), new_root, machine)
        _switch(moves, new_root, machine)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)
        # Not abandoned when cancelled: the descriptor is closed below, and this ends by itself.
        freed = await trio.to_thread.run_sync(old_root.free, old_fd, guards, spared)
        machine.info(f"freed {freed.size / 2**20:.1f} MiB of the initramfs ({freed.entries} entries)")
        for problem in freed.problems:
            machine.warn(problem)
    finally:
        os.close(old_fd)


def _keep_modules(machine: Machine) -> None:
    """Bind the modules of the initramfs below /run, which goes along; the bind also spares them when it is freed."""
    if not os.path.isdir(machine.initramfs_modules) or os.path.ismount(MODULES):
        return
    os.makedirs(MODULES, exist_ok=True)
    syscalls.mount(machine.initramfs_modules, MODULES, None, syscalls.MS_BIND)
    machine.initramfs_modules = MODULES


async def _destinations(moves: tuple[Move, ...], new_root: str, machine: Machine) -> tuple[Move, ...]:
    """The moves with real paths as their targets: links of the new root resolved within it, mount points made.

    A root that cannot be written and lacks a mount point that the kernel file systems need is covered by an overlay
    in memory.
    """
    try:
        return await _in_time(_resolve, moves, new_root, machine)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        missing = error.filename or "a mount point"
    machine.warn(
        f"the new root lacks {missing} and cannot be written: it gets an overlay in memory, and what is written "
        "to it is lost at power-off (add the folder to the root file system to avoid this)"
    )
    flags = flags_of_mount(os.statvfs(new_root).f_flag) & RESTRICTIONS
    await machine.load_file_system("overlay")
    await overlay.cover(new_root, "root", flags=flags)
    return await _in_time(_resolve, moves, new_root, machine)


async def _in_time(
    work: Callable[[tuple[Move, ...], str, Machine], tuple[Move, ...]],
    moves: tuple[Move, ...],
    new_root: str,
    machine: Machine,
) -> tuple[Move, ...]:
    try:
        with trio.fail_after(PATIENCE):
            return await trio.to_thread.run_sync(work, moves, new_root, machine, abandon_on_cancel=True)
    except trio.TooSlowError:
        mount = mountinfo.mount_at(new_root)
        # virtiofs is mounted at once, whoever is behind it: only the first look shows that nobody answers
        legacy = mount is not None and mount.fstype == "virtiofs" and mount_errors.has_legacy_transport()
        raise OcelotError(
            f"cannot switch to another root: the file system on {new_root} does not answer",
            hint=mount_errors.LEGACY if legacy else "find out whether its server or device is alive",
        ) from None


def _resolve(moves: tuple[Move, ...], new_root: str, machine: Machine) -> tuple[Move, ...]:
    resolved = []
    run = f"{new_root}/run"
    root_fd = os.open(new_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for move in moves:
            if move.below_run:  # made when /run has been moved, whose tmpfs has room for it
                resolved.append(Move(move.source, run + move.target.removeprefix("/run"), move.needed, True))
                continue
            try:
                resolved.append(Move(move.source, _mount_point(root_fd, move), move.needed))
                run = resolved[-1].target if move.source == "/run" else run
            except (OSError, OcelotError) as error:
                if move.needed:
                    raise
                machine.warn(f"{move.source} cannot stay mounted in the new root: {describe(error)}; detaching it")
                resolved.append(Move(move.source, "", False))
    finally:
        os.close(root_fd)
    return tuple(resolved)


def _mount_point(root_fd: int, move: Move) -> str:
    if not os.path.isdir(move.source):
        parent, name = os.path.split(move.target)
        fd = open_folder(root_fd, parent)
        try:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
            return f"{os.readlink(f'/proc/self/fd/{fd}')}/{name}"
        finally:
            os.close(fd)
    fd = open_folder(root_fd, move.target)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _switch(moves: tuple[Move, ...], new_root: str, machine: Machine) -> None:
    done: list[Move] = []
    try:
        for move in moves:
            _apply(move, done, machine)
        os.chdir(new_root)
        syscalls.mount(".", "/", None, syscalls.MS_MOVE)
    except OSError:
        os.chdir("/")
        for move in reversed(done):
            with contextlib.suppress(OSError):
                syscalls.mount(move.target, move.source, None, syscalls.MS_MOVE)
        raise
    os.chroot(".")
    os.chdir("/")


def _apply(move: Move, done: list[Move], machine: Machine) -> None:
    if move.target:
        try:
            if move.below_run:
                os.makedirs(move.target, exist_ok=True)
            syscalls.mount(move.source, move.target, None, syscalls.MS_MOVE)
            done.append(move)
            return
        except OSError as error:
            if move.needed:
                raise
            machine.warn(f"{move.source} cannot be moved into the new root: {describe(error)}; detaching it")
    try:
        syscalls.umount2(move.source, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    except OSError as error:
        machine.warn(f"{move.source} cannot be detached: {describe(error)}; it stays hidden below the new root")
