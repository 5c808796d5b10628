"""The mount table of this process, /proc/self/mountinfo (proc_pid_mountinfo(5)), as records.

Paths in it have space, tab, newline and backslash written as octal escapes; between the options and the dash stands
any number of optional fields.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class MountInfo:
    """One mount. ``root`` is the folder of the file system that is seen at ``target``; not ``/`` for most binds.

    ``options`` belong to this mount, ``super_options`` to the file system; ``propagation`` holds the optional fields
    such as ``shared:1`` and is empty for a private mount.
    """

    id: int
    parent: int
    device: tuple[int, int]
    root: str
    target: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """Whether either the mount or its file system is read-only."""
        return "ro" in self.options or "ro" in self.super_options


def parse(text: str) -> tuple[MountInfo, ...]:
    """The mounts of a mountinfo file, in its order: a mount comes after the one it lies on. ValueError if malformed."""
    # Not splitlines(), which takes half a dozen other characters for the end of a line: names of mount points have what they like
    return tuple(_parse_line(line) for line in text.split("\n") if line)


def mounts(path: str = MOUNTINFO) -> tuple[MountInfo, ...]:
    """The mounts of this process now. OSError when /proc is not mounted."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return parse(file.read())


def mount_at(path: str, table: Iterable[MountInfo] | None = None) -> MountInfo | None:
    """The topmost mount whose mount point is exactly ``path``, or None."""
    wanted = os.path.normpath(path)
    found = None
    for mount in mounts() if table is None else table:
        if mount.target == wanted:
            found = mount
    return found


def mount_of(path: str, table: Iterable[MountInfo] | None = None) -> MountInfo | None:
    """The mount that the (already resolved) ``path`` lies on."""
    wanted = os.path.normpath(path)
    found = None
    for mount in mounts() if table is None else table:
        if is_below(wanted, mount.target) and (found is None or len(mount.target) >= len(found.target)):
            found = mount
    return found


def below(path: str, table: Iterable[MountInfo] | None = None) -> tuple[MountInfo, ...]:
    """The mounts at and below ``path``, parents before children: reversed, the order to unmount them in."""
    wanted = os.path.normpath(path)
    inside = [mount for mount in (mounts() if table is None else table) if is_below(mount.target, wanted)]
    by_id = {mount.id: mount for mount in inside}

    def depth(mount: MountInfo) -> int:
        steps = 0
        while mount.parent in by_id and mount.parent != mount.id and steps < len(by_id):
            mount = by_id[mount.parent]
            steps += 1
        return steps

    return tuple(sorted(inside, key=depth))


def is_below(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies below it, by name alone."""
    return path == folder or path.startswith(folder if folder.endswith("/") else folder + "/")


def _parse_line(line: str) -> MountInfo:
    fields = line.split(" ")
    try:
        dash = fields.index("-", 6)
        major, _, minor = fields[2].partition(":")
        return MountInfo(
            id=int(fields[0]),
            parent=int(fields[1]),
            device=(int(major), int(minor)),
            root=_unescape(fields[3]),
            target=_unescape(fields[4]),
            options=tuple(fields[5].split(",")),
            propagation=tuple(fields[6:dash]),
            fstype=_unescape(fields[dash + 1]),
            source=_unescape(fields[dash + 2]),
            super_options=tuple(_unescape(option) for option in fields[dash + 3].split(",")),
        )
    except (ValueError, IndexError):
        raise ValueError(f"malformed mountinfo line: {line!r}") from None


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    # The kernel escapes bytes, and the text was decoded: only ASCII characters are ever escaped, so chr() is right.
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
