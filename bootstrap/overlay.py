"""A writable view of something read-only: overlayfs with its upper layer in memory.

The layers lie in a tmpfs of their own below /run, which moves into the new root with everything in it. An own tmpfs,
so that a service that fills its root cannot fill /run, and so that one unmount removes both layers.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import trio

from bootstrap.kernel_filesystems import in_memory
from ocelot.errors import OcelotError
from ocelot.linux import syscalls

LAYERS = "/run/overlayfs"


@dataclass(frozen=True)
class Layers:
    """The folders of one overlay; ``base`` is the mount point of the tmpfs that holds the others."""

    base: str

    @property
    def lower(self) -> str:
        return f"{self.base}/lower"

    @property
    def upper(self) -> str:
        return f"{self.base}/upper"

    @property
    def work(self) -> str:
        return f"{self.base}/work"


def folder_for(source: str, *, directory: str = LAYERS) -> str:
    """Where the layers over ``source`` lie: its name with ``_`` for every slash."""
    return f"{directory}/{source.replace('/', '_') or '_'}"


def prepare(source: str, *, directory: str = LAYERS) -> Layers:
    """Mount the tmpfs and make the folders. A second overlay over the same source gets a number."""
    base = folder = folder_for(source, directory=directory)
    number = 1
    while os.path.ismount(base):
        number += 1
        base = f"{folder}-{number}"
    os.makedirs(base, exist_ok=True)
    syscalls.mount("overlayfs", base, "tmpfs", 0, in_memory("mode=755"))
    layers = Layers(base)
    for path in (layers.lower, layers.upper, layers.work):
        os.mkdir(path)
    return layers


def discard(layers: Layers) -> None:
    """Undo :func:`prepare` after a failure, with whatever is mounted inside."""
    for path in (layers.lower, layers.base):
        with contextlib.suppress(OSError):
            syscalls.umount2(path, syscalls.MNT_DETACH)
    with contextlib.suppress(OSError):
        os.rmdir(layers.base)


def data(lower: str, upper: str, work: str) -> str:
    """Options for overlayfs; ``lower`` is one folder, or several separated by colons that are already escaped."""
    return f"lowerdir={_escape(lower)},upperdir={_escape(upper)},workdir={_escape(work)}"


def join_lower(folders: tuple[str, ...]) -> str:
    """Several lower folders, top first, for :func:`data`: a colon within a name is escaped."""
    return ":".join(folder.replace(":", "\\:") for folder in folders)


def assemble(layers: Layers, target: str, flags: int = 0) -> None:
    """Mount the overlay of ``layers`` on ``target``. ``flags``: what mount(2) shall forbid in the merged view."""
    status = os.stat(layers.lower)
    # The root folder of the merged view takes owner and mode from the upper layer.
    os.chown(layers.upper, status.st_uid, status.st_gid)
    os.chmod(layers.upper, status.st_mode & 0o7777)
    options = data(join_lower((layers.lower,)), layers.upper, layers.work)
    syscalls.mount("overlay", target, "overlay", flags, options)


async def cover(target: str, source: str, *, flags: int = 0, directory: str = LAYERS) -> Layers:
    """Put a writable overlay over what is mounted on ``target``, which becomes its lower layer.

    For a read-only root that lacks mount points. The mount is moved below ``directory``, so that moving ``target`` later
    moves the merged view and leaves nothing behind. Raises OcelotError; ``target`` is then as it was.
    """

    def work() -> Layers:
        layers = prepare(source, directory=directory)
        try:
            syscalls.mount(target, layers.lower, None, syscalls.MS_MOVE)
            try:
                assemble(layers, target, flags)
            except OSError:
                syscalls.mount(layers.lower, target, None, syscalls.MS_MOVE)
                raise
        except OSError:
            discard(layers)
            raise
        return layers

    try:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
    except OSError as error:
        raise OcelotError(
            f'cannot put a writable overlay over "{target}": {error.strerror}',
            hint="the kernel needs overlayfs: add kernel/fs/overlayfs/overlay.ko to preSwitch.modules.names",
        ) from error


def _escape(path: str) -> str:
    return path.replace(",", "\\,")
