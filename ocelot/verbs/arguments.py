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


def duration(text: str) -> float:
    """Seconds from ``30``, ``1.5s``, ``10m``, ``1h30m``, ``250ms``."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    total, number, unit = 0.0, "", ""
    for char in text.replace(" ", "") + "\0":
        if unit and not char.isalpha():
            if unit not in units or not number:
                raise ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m')
            total += float(number) * units[unit]
            number = unit = ""
        if char.isdigit() or char == ".":
            number += char
        elif char.isalpha():
            unit += char
        elif char != "\0":
            raise ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m')
    try:
        return total + (float(number) if number else 0.0)
    except ValueError:
        raise ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m') from None


def moment(text: str) -> float:
    """Seconds since the epoch of an ISO time (local), or of so long ago. Raises UsageError."""
    from datetime import datetime

    try:
        return datetime.now().timestamp() - duration(text.removesuffix("ago"))
    except ArgumentTypeError:
        pass
    try:
        if text.count(":") and "-" not in text:
            text = f"{datetime.now().date().isoformat()}T{text}"
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(
            f'cannot tell which time "{text}" is', hint="write how long ago (10m), or 2026-11-23T09:00"
        ) from None
