"""The log files of a set by path: who names the same one shares it."""

from __future__ import annotations

import os
from collections.abc import Callable

from ocelot.config import structs
from supervisor.output.logfile import LogFile, SharedFile, Start


class LogFiles:
    """The log files of a set, by path."""

    def __init__(self, start: Start, *, may_hang: Callable[[str], bool] = lambda path: False) -> None:
        self._start = start
        self._may_hang = may_hang
        self._files: dict[str, SharedFile] = {}

    def join(self, path: str, rotation: structs.Rotation | None) -> SharedFile:
        """The file at ``path``, shared by whoever asks. Rotation is that of the last one who asked."""
        path = os.path.normpath(path)
        file = self._files.get(path)
        if file is None and self._may_hang(path):
            from supervisor.output.aside import AsideFile

            file = self._files[path] = AsideFile(path, rotation, start=self._start)
        elif file is None:
            file = self._files[path] = LogFile(path, rotation, start=self._start)
        else:
            file.configure(rotation)
        return file
