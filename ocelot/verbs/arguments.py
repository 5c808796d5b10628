"""What commands share on their command lines: names, times, and the query that a request is made of."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence

from ocelot.errors import UsageError
from ocelot.wire.client import quote

Add = Callable[[ArgumentParser], None]


def names(command: ArgumentParser, count: str) -> None:
    """``count`` is argparse's nargs."""
    command.add_argument("names", nargs=count, metavar="NAME", help="a process, or a pattern")


def everybody(command: ArgumentParser) -> None:
    names(command, "*")
    command.add_argument("-a", "--all", action="store_true", help="every process")


def query(wanted: Sequence[str], more: Sequence[tuple[str, str]] = ()) -> str:
    """The query string of a request for the processes ``wanted``, with ``more`` parameters."""
    pairs = [("name", name) for name in wanted] + list(more)
    return "?" + "&".join(f"{key}={quote(value)}" for key, value in pairs) if pairs else ""


LONGEST = 20 * 86400.0
"""Seconds: poll(2) counts in milliseconds, and knows no more than 24 days."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def duration(text: str) -> float:
    """Seconds to wait, from ``30``, ``1.5s``, ``10m``, ``1h30m``, ``250ms``. For argparse."""
    seconds = _seconds(text)
    if seconds > LONGEST:
        raise ArgumentTypeError(f'"{text}" is too long: at most {LONGEST / 86400:g}d')
    return seconds


def _seconds(text: str) -> float:
    import re

    parts = re.findall(r"([0-9.]+)([a-z]*)", text.replace(" ", ""))
    try:
        if parts and "".join(map("".join, parts)) == text.replace(" ", ""):
            return sum(float(number) * _UNITS[unit] for number, unit in parts)
    except (ValueError, KeyError):
        pass
    raise ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m')


def moment(text: str) -> float:
    """Seconds since the epoch of an ISO time (local), or of so long ago. Raises UsageError."""
    from datetime import datetime

    try:
        ago = _seconds(text.removesuffix("ago"))
    except ArgumentTypeError:
        pass
    else:
        return max(datetime.now().timestamp() - ago, 0.0)
    try:
        if text.count(":") and "-" not in text:
            text = f"{datetime.now().date().isoformat()}T{text}"
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(
            f'cannot tell which time "{text}" is', hint="write how long ago (10m), or 2026-11-23T09:00"
        ) from None
