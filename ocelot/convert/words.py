"""Command lines and values as other supervisors write them."""

from __future__ import annotations

import re
import shlex

from ocelot.errors import OcelotError

SHELL = re.compile(r"[|&;<>()$`*?\[\]#~{}\n]|(^|\s)(cd|exec|export|ulimit|if|for|while)\s")
"""What only a shell understands."""


def split(command: str, where: str) -> list[str]:
    """Shell-like words. Raises OcelotError that names ``where``."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise OcelotError(f"cannot read {where}: {error}: {command}", hint="check its quotes") from None


def program(words: list[str]) -> dict[str, object]:
    """``program`` and ``arguments``. Raises OcelotError when there is nothing."""
    if not words:
        raise OcelotError("cannot convert an empty command line")
    keys: dict[str, object] = {"program": words[0]}
    if words[1:]:
        keys["arguments"] = words[1:]
    return keys


def shell(command: str) -> dict[str, object]:
    """A command line for /bin/sh."""
    return {"program": "/bin/sh", "arguments": ["-c", command]}


def command_line(text: str, where: str) -> dict[str, object]:
    """Run directly where that means the same as through a shell, which most of these files imply."""
    if SHELL.search(text) or re.match(r"\w+=", text.strip()):
        return shell(text.strip())
    return program(split(text, where))


_UNITS = {"k": 10, "m": 20, "g": 30, "t": 40}


def size(text: str) -> str | None:
    """``512M``, ``1g``, ``64kb`` (powers of 1024, as these files mean them) as ``512MiB``; None if it is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        return None
    number, unit = match.groups()
    if not unit:
        return f"{int(float(number))}B"
    count = float(number)
    return f"{int(count)}{unit.upper()}iB" if count == int(count) else f"{int(count * 2 ** _UNITS[unit])}B"


_SPANS = {
    "us": 1e-6, "usec": 1e-6, "ms": 0.001, "msec": 0.001, "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400, "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip


def span(text: str) -> float | None:
    """Seconds of ``90``, ``1min 30s``, ``5m30s`` (systemd.time(7), compose); None for ``infinity`` and what is none."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if not parts or re.sub(r"\d+(?:\.\d+)?\s*[a-z]*|\s", "", text.strip().lower()):
        return None
    total = 0.0
    for number, unit in parts:
        if unit and unit not in _SPANS:
            return None
        total += float(number) * (_SPANS[unit] if unit else 1)
    return total
