"""ocelot's own messages: a level, a line, and sinks that never raise and never block without end.

The standard ``logging`` is not used: it costs more to import than the whole of this does to run, takes locks that a
broken console could hold, and PID 1 needs exactly three things from it. This is the only global state of ocelot.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable

from ocelot.states import LogLevel

Sink = Callable[[LogLevel, str], None]
"""Takes a level and one line without its newline. Must not raise; what it cannot deliver it counts or drops."""

_ORDER = {level: rank for rank, level in enumerate(LogLevel)}
_COLOURS = {LogLevel.ERROR: "\x1b[31m", LogLevel.WARN: "\x1b[33m", LogLevel.DEBUG: "\x1b[2m", LogLevel.TRACE: "\x1b[2m"}

recent: deque[tuple[LogLevel, str]] = deque(maxlen=500)
"""The last messages, whatever their level was against the threshold."""

_sinks: list[Sink] = []
_threshold = LogLevel.INFO
_colour = "auto"


def configure(*, level: LogLevel | None = None, sinks: list[Sink] | None = None) -> None:
    """Set the threshold, the sinks, or both."""
    global _threshold
    if level is not None:
        _threshold = level
    if sinks is not None:
        _sinks[:] = sinks


def enabled(level: LogLevel) -> bool:
    """Whether a message of ``level`` would be shown: ask before building an expensive one."""
    return _ORDER[level] >= _ORDER[_threshold]


def emit(level: LogLevel, message: str) -> None:
    """Hand each line of ``message`` to every sink, and keep it among the recent ones."""
    shown = enabled(level)
    for line in message.splitlines() or [""]:
        recent.append((level, line))
        if shown:
            for sink in _sinks or (_default,):
                sink(level, line)


def debug(message: str) -> None:
    emit(LogLevel.DEBUG, message)


def info(message: str) -> None:
    emit(LogLevel.INFO, message)


def warn(message: str) -> None:
    emit(LogLevel.WARN, message)


def error(message: str) -> None:
    emit(LogLevel.ERROR, message)


def format_line(level: LogLevel, line: str, *, colour: bool = False) -> str:
    """``ocelot: line``; warnings and errors name their level, in colour if asked."""
    label = f"{level.value}: " if level in (LogLevel.WARN, LogLevel.ERROR) else ""
    text = f"ocelot: {label}{line}"
    if colour and level in _COLOURS:
        return f"{_COLOURS[level]}{text}\x1b[0m"
    return text


def chosen_colour() -> str:
    """What :func:`choose_colour` was told."""
    return _colour


def choose_colour(choice: str) -> None:
    """``auto``, ``always`` or ``never``: what the command line says about colours."""
    global _colour
    _colour = choice


def for_people(fd: int) -> bool:
    """Whether what goes there is read by people: a terminal, or whatever it is with ``always``."""
    return _colour == "always" or (fd >= 0 and os.isatty(fd))


def wants_colour(fd: int) -> bool:
    """Colours only on a terminal, and not when NO_COLOR is set (no-color.org) or TERM is dumb."""
    if _colour != "auto":
        return _colour == "always"
    return os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _default(level: LogLevel, line: str) -> None:
    try:
        sys.stderr.write(format_line(level, line, colour=wants_colour(2)) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # standard error is closed or gone: there is nobody to tell
