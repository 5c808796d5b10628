"""What lies on a file system whose server may stop answering: a start from there, or a log there, must not hold up everything else.

The mount table is read for this, and nothing else is asked: a path there cannot be looked at without the risk that this is about.
For programs 9p and virtiofs are left out: their server is the host itself, and on such a root everything stands still when it is gone.

An overlay may hang where one of its layers may: to look a name up asks all of them. The table has their paths as they were when it
was mounted, which is enough for those of ocelot (``/run/overlayfs`` moves with /run); a layer in another mount namespace is taken for
a local one. So is what is mounted after the log there was opened.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from ocelot.linux.mountinfo import MountInfo, mount_of, mounts
from supervisor.children.spawn import SpawnSpec, executable_candidates

FRESH = 10.0
"""Seconds for which the table is believed: a thousand starts in a row read it once."""

_KINDS = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "afs", "fuse"})

_OF_THE_HOST = frozenset({"9p", "virtiofs"})

_LAYERS = frozenset({"lowerdir", "lowerdir+", "datadir+", "upperdir"})

_LINKS = 4096
"""Parts of a path that are looked at, those of links included; more are a circle of links."""


class NetworkFiles:
    """Answers whether a start may hang. Symbolic links are not followed: a link to elsewhere is taken for a local file."""

    def __init__(self) -> None:
        self._table: tuple[MountInfo, ...] = ()
        self._read_at = -FRESH

    def may_hang(self, spec: SpawnSpec) -> bool:
        table = self._read()
        return bool(table) and on_network(spec, table)

    def log_may_hang(self, path: str) -> bool:
        """The same of a log file. Links are followed, but none that lies where that may hang itself."""
        table = self._read()
        return bool(table) and leads_to_network(path, table)

    def _read(self) -> tuple[MountInfo, ...]:
        """The mount table; empty if nothing in it may hang."""
        now = time.monotonic()
        if now - self._read_at >= FRESH:
            try:
                table = mounts()
            except OSError:  # there is no /proc
                table = ()
            self._table = table if any(_is_remote(each, table) for each in table) else ()
            self._read_at = now
        return self._table


def leads_to_network(path: str, table: tuple[MountInfo, ...], read_link: Callable[[str], str] = os.readlink) -> bool:
    """Whether the absolute ``path`` leads to a file system that may hang. Nothing on such a one is looked at."""
    todo, place = path.split("/")[::-1], "/"
    for _ in range(_LINKS):
        if not todo:
            break
        place = os.path.normpath(os.path.join(place, todo.pop()))
        if (mount := mount_of(place, table)) is not None and _is_remote(mount, table):
            continue
        try:
            target = read_link(place)
        except OSError:
            continue  # no link, or nothing there
        todo += target.split("/")[::-1]
        place = "/" if target.startswith("/") else os.path.dirname(place)
    return (mount := mount_of(place, table)) is not None and _is_remote(mount, table)


def _is_remote(mount: MountInfo, table: tuple[MountInfo, ...]) -> bool:
    """As :func:`is_network`; and what the host serves, but for the root, without which nothing goes on anyway."""
    if is_network(mount, table):
        return True
    return mount.target != "/" and any(each.fstype in _OF_THE_HOST for each in _behind(mount, table))


def on_network(spec: SpawnSpec, table: tuple[MountInfo, ...]) -> bool:
    """Whether the program, a folder where it is looked for, or its working directory is on a network file system."""
    folder = spec.working_directory or "/"
    paths = [folder, *map(os.fsdecode, executable_candidates(spec.argv[0], spec.environment))]
    mounted = (mount_of(os.path.join(folder, path), table) for path in paths)
    return any(is_network(mount, table) for mount in mounted if mount is not None)


def is_network(mount: MountInfo, table: tuple[MountInfo, ...]) -> bool:
    """Whether its server, or the program behind it (fuse), may not answer."""
    return any(each.fstype in _KINDS or each.fstype.startswith("fuse.") for each in _behind(mount, table))


def _behind(mount: MountInfo, table: tuple[MountInfo, ...]) -> list[MountInfo]:
    """The mount, and if it is an overlay, what its layers lie on, and so on."""
    found = [mount]
    for each in found:
        for layer in _layers(each):
            if (lower := mount_of(layer, table)) is not None and lower not in found:
                found.append(lower)
    return found


def _layers(mount: MountInfo) -> list[str]:
    """The absolute paths of the layers of an overlay: in them ``\\`` stands before a colon or a comma."""
    if mount.fstype != "overlay":
        return []
    named = (option.partition("=") for option in mount.super_options)
    paths = [path for key, _, value in named if key in _LAYERS for path in re.split(r"(?<!\\):", value)]
    return [re.sub(r"\\(.)", r"\1", path) for path in paths if path.startswith("/")]
