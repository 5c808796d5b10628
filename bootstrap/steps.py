"""What a boot is made of: steps that can be described before they are done, and the machine they are done to.

A phase turns configuration into a tuple of steps (pure, printable) and the runner in ``phases`` applies them. A step
knows nothing of the policy for its failure beyond carrying it: the runner decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ocelot.config.structs import OnFailure
from ocelot.linux.identity import Identity

if TYPE_CHECKING:
    from ocelot.runner import Runner

SYSROOT = "/sysroot"
"""Where the new root is assembled, on the initramfs's own file system: below /run it could not take /run in."""

RUNTIME = "/run/ocelot/runtime"
"""The interpreter and everything it imports; the same path before and after the switch."""


class Step(Protocol):
    """One thing to do. Frozen; made without touching the machine."""

    @property
    def name(self) -> str:
        """Short and stable, for the timeline and messages: ``mount /data``, ``module virtio_blk``."""

    @property
    def on_failure(self) -> OnFailure: ...

    @property
    def timeout(self) -> float | None: ...

    def describe(self) -> str:
        """One line that says exactly what will be done, for ``plan``."""

    async def apply(self, machine: Machine) -> None:
        """Do it. Raises OcelotError or OSError; what it did before failing stays done."""


async def _nothing(_fstype: str) -> None:
    """What is known to the kernel needs no module."""


@dataclass
class Machine:
    """What the steps act on and with. One per boot; ``root`` changes once, at the switch.

    ``root`` is prepended to paths of the configuration: ``""`` when the paths are the real ones.
    ``trial`` marks ``ocelot bootstrap try``: what is not namespaced is shown, not done (see ``may``).
    ``environment`` collects the phases' environment maps; later steps and processes get it.
    ``load_file_system`` is called with a file system's type before it is mounted: the initramfs may carry its modules.
    ``warn`` takes a line for the operator; ``info`` likewise.
    ``waited``: seconds that steps have spent so far on waiting for devices that were not there yet.
    """

    runner: Runner
    identity: Identity
    warn: Callable[[str], None]
    info: Callable[[str], None]
    root: str = ""
    trial: bool = False
    environment: MutableMapping[str, str] = field(default_factory=dict)
    initramfs_modules: str = "/lib/modules"
    load_file_system: Callable[[str], Awaitable[None]] = _nothing
    waited: float = 0.0

    def path(self, name: str) -> str:
        """The path of the configuration's ``name`` on the file system as it is mounted now."""
        return self.root + name if self.root else name
