"""Symbolic links of the configuration: made, or replaced atomically, but never put in the place of something else."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from bootstrap.steps import Machine, Step
from ocelot.config.structs import OnFailure, Symlink
from ocelot.errors import OcelotError


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """Make ``target`` a symbolic link that points to ``source``."""

    source: str
    target: str
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None

    @property
    def name(self) -> str:
        return f"symlink {self.target}"

    def describe(self) -> str:
        return f"link {self.target} -> {self.source}"

    async def apply(self, machine: Machine) -> None:
        """Raises OcelotError when something that is not a link is in the way, OSError from the file system."""
        place(self.source, machine.path(self.target))


def plan_symlinks(items: Sequence[Symlink]) -> tuple[Step, ...]:
    return tuple(
        MakeSymlink(item.source, item.target, item.on_failure or OnFailure.WARN, item.timeout) for item in items
    )


def place(source: str, path: str) -> bool:
    """Make ``path`` a link to ``source``, parents included; returns whether anything had to be done.

    Another link there is replaced by rename(2), so that nobody ever finds the name missing.
    """
    path = path.rstrip("/") or "/"  # with a slash at its end it would name what is behind the link
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        os.symlink(source, path)
        return True
    if not stat.S_ISLNK(there.st_mode):
        what = "a folder" if stat.S_ISDIR(there.st_mode) else "a file"
        raise OcelotError(
            f'cannot link "{path}" to "{source}": {what} is in the way', hint="move it or remove it first"
        )
    if os.readlink(path) == source:
        return False
    temporary = f"{path}.ocelot-{os.getpid()}"
    try:
        os.symlink(source, temporary)
    except FileExistsError:  # left by a boot that was cut short
        os.unlink(temporary)
        os.symlink(source, temporary)
    os.rename(temporary, path)
    return True
