"""Whether this process may leave its root and empty it: asked before anything is done, and again of the descriptor itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from bootstrap.steps import Machine
from ocelot.config.structs import OnFailure
from ocelot.errors import OcelotError
from ocelot.linux import syscalls
from ocelot.linux.identity import require_machine, require_pid1

MARKER = "/etc/ocelot/initramfs"
"""The image builder writes it; no other root file system has it, so no other one is ever emptied."""


@dataclass(frozen=True, slots=True)
class Guards:
    """What must hold before a root is left and emptied. ``require`` raises OcelotError unless this process may do so."""

    require: Callable[[str], None] = require_machine
    marker: str = MARKER
    magics: frozenset[int] = frozenset((syscalls.RAMFS_MAGIC, syscalls.TMPFS_MAGIC))

    def check(self) -> None:
        """Raise OcelotError, having changed nothing, unless ``/`` is our own initramfs and we are its init."""
        try:
            self.require("switch to another root")
        except OcelotError as error:
            hint = "only the init of a machine leaves its initramfs: for a container, remove switchRoot"
            raise OcelotError(error.message, hint=hint) from None
        if syscalls.fs_type("/") not in self.magics:
            raise OcelotError(
                "cannot switch to another root: / is a real file system, not an initramfs",
                hint="remove switchRoot: what is mounted on / already is the root",
            )
        if not os.path.isfile(self.marker):
            raise OcelotError(
                f"cannot switch to another root: {self.marker} is missing, so / is not an initramfs of ocelot",
                hint="build it with: ocelot initramfs build",
            )


MACHINE = Guards()
"""What every real boot goes by."""
TRIAL = Guards(require=require_pid1)
"""What a trial goes by: in its own namespaces, on a pretended initramfs."""


def in_force(guards: Guards, machine: Machine) -> Guards:
    """The guards to ask: a trial relaxes those of a machine, and no others."""
    return TRIAL if machine.trial and guards is MACHINE else guards


@dataclass(frozen=True, slots=True)
class Check:
    """Ask the guards before anything else is done, so that a run by mistake changes nothing."""

    guards: Guards = MACHINE
    name: str = "check"
    on_failure: OnFailure = OnFailure.ABORT
    timeout: float | None = None

    def describe(self) -> str:
        return f"make sure that this is the init of the machine, on an initramfs of ocelot ({self.guards.marker})"

    async def apply(self, machine: Machine) -> None:
        in_force(self.guards, machine).check()
