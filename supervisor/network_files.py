"""Which programs lie on a file system whose server may stop answering: their start must not hold up everything else.

The mount table is read for this, and nothing else is asked: a path there cannot be looked at without the risk that this is about.
9p and virtiofs are left out: their server is the host itself, and on such a root everything stands still when it is gone.
"""

from __future__ import annotations

import os
import time

from ocelot.linux.mountinfo import MountInfo, mount_of, mounts
from supervisor.spawn import SpawnSpec, executable_candidates

FRESH = 10.0
"""Seconds for which the table is believed: a thousand starts in a row read it once."""

_KINDS = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "fuse"})


class NetworkFiles:
    """Answers whether a start may hang. Symbolic links are not followed: a link to elsewhere is taken for a local file."""

    def __init__(self) -> None:
        self._table: tuple[MountInfo, ...] = ()
        self._read_at = -FRESH

    def may_hang(self, spec: SpawnSpec) -> bool:
        now = time.monotonic()
        if now - self._read_at >= FRESH:
            try:
                table = mounts()
            except OSError:  # there is no /proc
                table = ()
            self._table = table if any(map(is_network, table)) else ()
            self._read_at = now
        return bool(self._table) and on_network(spec, self._table)


def on_network(spec: SpawnSpec, table: tuple[MountInfo, ...]) -> bool:
    """Whether the program, a folder where it is looked for, or its working directory is on a network file system."""
    folder = spec.working_directory or "/"
    paths = [folder, *map(os.fsdecode, executable_candidates(spec.argv[0], spec.environment))]
    return any(is_network(mount) for path in paths if (mount := mount_of(os.path.join(folder, path), table)))


def is_network(mount: MountInfo) -> bool:
    """Whether its server, or the program behind it (fuse), may not answer."""
    return mount.fstype in _KINDS or mount.fstype.startswith("fuse.")
