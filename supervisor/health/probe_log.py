"""Checks by the log: a line of the output that matches. Lines are looked at only while one is waited for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from ocelot import log
from ocelot.config.values import parse_pattern
from supervisor.output.ring import Line

LINE_MAX = 4096
"""Characters of a line that are searched: a pattern may need much time for long ones."""

LONGEST = 0.1
"""Seconds of processor time that a line may take: for some patterns, and the right line, it is more than there is."""

PATIENCE = 10
"""Lines that may take longer than that; then it is looked at no more in this life."""


class Watched(Protocol):
    """Output whose lines can be seen; ``supervisor.output.process_output.Output`` is one."""

    def watch(self, seen: Callable[[str, Line], None]) -> AbstractContextManager[None]: ...


class LogWatch:
    """Waits for a line that matches ``pattern``, once in each life of the process: :meth:`begin` before each start."""

    def __init__(self, output: Watched, pattern: str, *, name: str = "") -> None:
        self.name = name
        self._output = output
        self._patience = PATIENCE
        self._search = parse_pattern(pattern).search
        self._watching: AbstractContextManager[None] | None = None
        self._line: str | None = None
        self._found = trio.Event()

    def begin(self) -> None:
        """Forget what was found and look at what comes from now on."""
        self._line = None
        self._patience = PATIENCE
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
        try:
            if self._line is None and _within(LONGEST, self._search, line.text[:LINE_MAX]):
                self._line = line.text
                self._found.set()
                self.end()
        except TimeoutError:
            self._pass_over()

    def _pass_over(self) -> None:
        if self._patience == PATIENCE:
            log.warn(
                f"{self.name}: the pattern of its log probe takes too long for a line that it wrote: that is passed over"
            )
        self._patience -= 1
        if not self._patience:
            log.error(
                f"{self.name}: the pattern of its log probe takes too long for too many lines: no more are looked at"
            )
            self.end()


def _within(seconds: float, search: Callable[[str], object], text: str) -> bool:
    """Whether ``search`` finds something in ``text``. Raises TimeoutError when that takes more processor time; it asks for signals."""
    armed = True

    def stop(*_: object) -> None:
        if armed:
            raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            return search(text) is not None
        finally:
            armed = False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
