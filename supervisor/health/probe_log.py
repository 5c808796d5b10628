"""Checks by the log: a line of the output that matches. Lines are looked at only while one is waited for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from ocelot.config.values import parse_pattern
from supervisor.output.ring import Line

LINE_MAX = 4096
"""Characters of a line that are searched: a pattern may need much time for long ones."""


class Watched(Protocol):
    """Output whose lines can be seen; ``supervisor.output.process_output.Output`` is one."""

    def watch(self, seen: Callable[[str, Line], None]) -> AbstractContextManager[None]: ...


class LogWatch:
    """Waits for a line that matches ``pattern``, once in each life of the process: :meth:`begin` before each start."""

    def __init__(self, output: Watched, pattern: str) -> None:
        self._output = output
        self._search = parse_pattern(pattern).search
        self._watching: AbstractContextManager[None] | None = None
        self._line: str | None = None
        self._found = trio.Event()

    def begin(self) -> None:
        """Forget what was found and look at what comes from now on."""
        self._line = None
        self._found = trio.Event()
        if self._watching is None:
            self._watching = self._output.watch(self._seen)
            self._watching.__enter__()

    @property
    def line(self) -> str | None:
        """What was found in this life."""
        return self._line

    @property
    def looking(self) -> bool:
        return self._watching is not None

    def restore(self, line: str | None, looking: bool) -> None:
        """Go on where an image before this one has found ``line``, or was still looking."""
        if line is not None:
            self._line = line
            self._found.set()
        elif looking:
            self.begin()

    def end(self) -> None:
        """Look no longer."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.__exit__(None, None, None)

    async def check(self) -> str:
        """The line, once there is one."""
        await self._found.wait()
        return self._line or ""

    def _seen(self, _stream: str, line: Line) -> None:
        if self._line is None and self._search(line.text[:LINE_MAX]):
            self._line = line.text
            self._found.set()
            self.end()
