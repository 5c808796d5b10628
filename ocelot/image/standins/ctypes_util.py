"""Stands in for ``ctypes.util``, whose ``find_library`` runs ldconfig, gcc and ld: three programs that a new root may
not have, started before PID 1 reaps, at the import of trio, which wants pthread_setname_np(3).

The C library that is loaded already answers for the libraries that it was once split into.
"""

from __future__ import annotations

import os
import sys

_PARTS_OF_LIBC = ("c", "pthread", "dl", "rt", "util")


def find_library(name: str) -> str | None:
    """The file name to load ``name`` by: looked for in this runtime's own folder, nowhere else."""
    folder = os.path.join(sys.prefix, "lib")
    wanted = "libc.so" if name in _PARTS_OF_LIBC else f"lib{name}.so"
    for entry in sorted(os.listdir(folder)):
        if entry == wanted or entry.startswith(f"{wanted}."):
            return entry
    return None
