"""The signal masks of /proc/PID/status, without the two that no program can set.

Signals 32 and 33 belong to the C library (its threads use them; its sigaction(2) refuses them), so one
that whoever started us ignored stays ignored in every child: some runners do that.
"""

from __future__ import annotations

LIBRARY = 1 << 31 | 1 << 32


def mask(text: str) -> int:
    """The hexadecimal mask of a `Sig…:` line as a number (proc(5)), signals 32 and 33 taken out."""
    return int(text, 16) & ~LIBRARY
