"""What is different in a trial (``ocelot bootstrap try``) from the inside: a folder stands for the root file system.

``trial_stage`` has made the namespaces, the pretended initramfs and an overlay over that folder, so that nothing is
written to it. Here that overlay takes the place of what the file would mount. The other differences are where
the steps are: they ask ``machine.trial``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from bootstrap import mount_options
from bootstrap.steps import SYSROOT, Machine, Step
from ocelot.config.structs import Mount, OnFailure, OverlayMount
from ocelot.linux import syscalls

FOLDER = "/run/ocelot/trial"
FILE = f"{FOLDER}/bootstrap.yaml"
"""The bootstrap file, as the trial reads it."""
STAND_IN = f"{FOLDER}/root"
"""Where the overlay over the folder waits to become the root."""
PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Folders of the host that the pretended initramfs shows, read-only, for the hooks of preSwitch."""


@dataclass(frozen=True, slots=True)
class MountRoot:
    """Mount the root as ``step`` does; in a trial, move what stands for it into its place."""

    mount: Mount
    step: Step

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def on_failure(self) -> OnFailure:
        return self.step.on_failure

    @property
    def timeout(self) -> float | None:
        return self.step.timeout

    def describe(self) -> str:
        return self.step.describe()

    async def apply(self, machine: Machine) -> None:
        if not machine.trial:
            await self.step.apply(machine)
            return
        machine.info(f"in this trial the folder stands for: {self.step.describe()}")
        _detach_programs()
        os.makedirs(SYSROOT, exist_ok=True)
        syscalls.mount(STAND_IN, SYSROOT, None, syscalls.MS_MOVE)
        flags = mount_options.of_mount(self.mount).flags & mount_options.PER_MOUNT
        if self.mount.overlay:
            flags &= mount_options.RESTRICTIONS
        if flags:
            syscalls.mount(None, SYSROOT, None, flags | syscalls.MS_BIND | syscalls.MS_REMOUNT)


def with_layers_in_memory(mount: OverlayMount) -> OverlayMount:
    """``mount`` with layers of its own: the root of a trial is an overlay, which can be below another, but not above."""
    folder = f"{FOLDER}/layers{mount.upper}"
    return msgspec.structs.replace(mount, upper=f"{folder}/upper", work=f"{folder}/work")


def plan_root(mount: Mount, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """``steps``, which mount the root, made fit for a trial."""
    return tuple(MountRoot(mount, step) for step in steps)


def _detach_programs() -> None:
    """The folders of the host must not move into the new root, where they would hide its own."""
    for path in PROGRAMS:
        if os.path.ismount(path) and not os.path.islink(path):
            with suppress(OSError):
                syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
