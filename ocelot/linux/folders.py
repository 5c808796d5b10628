"""Making folders that others are to reach."""

from __future__ import annotations

import os
from contextlib import suppress


def make_open(folder: str) -> None:
    """Make ``folder``, and those above it, with the mode 0755 whatever the umask is; what is there stays as it is. Raises OSError."""
    if folder and not os.path.isdir(folder):
        make_open(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder)
            os.chmod(folder, 0o755)
