"""Which mounts go where when the root is switched: pure, from the mount table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocelot.linux.mountinfo import MountInfo, is_below, mount_at

KERNEL = ("/run", "/tmp", "/dev", "/sys", "/proc")
"""What ocelot mounts for itself and everybody. /run goes first, since others go below it; /proc last, since the way to
an open descriptor leads through it."""

USED = "/run/ocelot/mounts"
"""Where mounts go that the new root is made of: out of the way of what its file system holds."""


@dataclass(frozen=True, slots=True)
class Move:
    """A mount at ``source`` that becomes ``target`` in the new root; ``""`` stands for: detach it.

    ``needed``: without it the switch cannot go on. ``below_run``: its mount point is made in the tmpfs on /run.
    """

    source: str
    target: str
    needed: bool
    below_run: bool = False


def plan_moves(table: Sequence[MountInfo], new_root: str, layers: Iterable[str]) -> tuple[Move, ...]:
    """The moves, in their order. Mounts on mounts go along with what they lie on, so only the lowest ones are named."""
    root = mount_at("/", table)
    if root is None:
        return ()
    lowest = [mount.target for mount in table if mount.parent == root.id and mount.target != "/"]
    used = tuple(layers)
    moves = [Move(path, path, True) for path in KERNEL[:-1] if path in lowest]
    for path in dict.fromkeys(lowest):
        if path in KERNEL or is_below(path, new_root) or is_below(new_root, path):
            continue
        if any(is_below(layer, path) for layer in used):
            moves.append(Move(path, USED + path, False, below_run="/run" in lowest))
        else:
            moves.append(Move(path, path, False))
    moves += [Move(path, path, True) for path in KERNEL[-1:] if path in lowest]
    return tuple(moves)


def in_use_by(table: Iterable[MountInfo]) -> tuple[str, ...]:
    """The paths of the layers of every overlay in the table, as they were when it was mounted."""
    paths: list[str] = []
    for mount in table:
        if mount.fstype != "overlay":
            continue
        for option in mount.super_options:
            key, _, value = option.partition("=")
            if key in ("upperdir", "workdir", "lowerdir+", "datadir+"):
                paths.append(value)
            elif key == "lowerdir":
                paths += split_layers(value)
    return tuple(dict.fromkeys(path for path in paths if path.startswith("/")))


def split_layers(text: str) -> list[str]:
    """The folders of a ``lowerdir`` option: a colon separates unless a backslash stands before it."""
    folders, current = [], ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and position + 1 < len(text):
            position += 1
            current += text[position]
        elif char == ":":
            folders.append(current)
            current = ""
        else:
            current += char
        position += 1
    folders.append(current)
    return [folder for folder in folders if folder]
