"""What ``ocelotctl top`` shows, and what its keys do: plain functions, without a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SORTS = ("cpu", "memory", "name", "restarts", "uptime")

KEYS = "q quit   s sort   r reverse   ↑↓ select   l log   / filter   space pause"


@dataclass(frozen=True)
class Row:
    """One line of the table. ``cpu`` None: only one reading so far. Bytes, seconds; ``cpu`` 1.0 is one processor."""

    name: str
    state: str
    pid: int | None
    cpu: float | None
    memory: int | None
    tasks: int | None
    fds: int | None
    restarts: int
    uptime: float | None


@dataclass(frozen=True)
class View:
    """What the keys have chosen. ``typing`` is a filter that is being typed."""

    sort: str = "cpu"
    reverse: bool = False
    selected: str | None = None
    log: bool = False
    paused: bool = False
    filter: str = ""
    typing: bool = False
    done: bool = False


def rows(status: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[Row]:
    """From a status and two readings of the figures; without the earlier one there are no rates yet."""
    now = {figures["name"]: figures for figures in after["processes"]}
    then = {figures["name"]: figures for figures in before["processes"]} if before is not None else {}
    elapsed = after["at"] - before["at"] if before is not None else 0.0
    return [
        _row(process, then.get(process["name"]), now.get(process["name"]), elapsed) for process in status["processes"]
    ]


def _row(
    process: Mapping[str, Any], then: Mapping[str, Any] | None, now: Mapping[str, Any] | None, elapsed: float
) -> Row:
    cpu = None
    if now is not None and then is not None and elapsed > 0:
        cpu = max(0.0, now["cpuSeconds"] - then["cpuSeconds"]) / elapsed
    return Row(
        name=process["name"],
        state=process["state"],
        pid=process["pid"],
        cpu=cpu,
        memory=now["residentMemory"] if now is not None else None,
        tasks=now["processes"] if now is not None else None,
        fds=now["openFds"] if now is not None else None,
        restarts=process["restarts"],
        uptime=process["uptime"],
    )


def ordered(found: Sequence[Row], view: View) -> list[Row]:
    """Filtered and sorted: the biggest first, names and reversed orders from the other end."""
    chosen = [row for row in found if view.filter in row.name]
    chosen.sort(key=lambda row: row.name, reverse=view.sort == "name" and view.reverse)
    if view.sort != "name":
        chosen.sort(key=lambda row: getattr(row, view.sort) or 0, reverse=not view.reverse)
    return chosen


def press(view: View, key: str, shown: Sequence[Row]) -> View:
    """What a key does. ``shown`` are the rows as they stand on the screen."""
    if view.typing:
        return _type(view, key)
    names = [row.name for row in shown]
    at = names.index(view.selected) if view.selected in names else -1
    match key:
        case "q" | "\x03" | "\x04":
            return replace(view, done=True)
        case "s":
            return replace(view, sort=SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)])
        case "r":
            return replace(view, reverse=not view.reverse)
        case "l" | "\r" | "\n":
            return replace(view, log=not view.log, selected=view.selected or (names[0] if names else None))
        case " ":
            return replace(view, paused=not view.paused)
        case "/":
            return replace(view, typing=True, filter="")
        case "\x1b":
            return replace(view, filter="", log=False, selected=None)
        case "up" | "k" if names:
            return replace(view, selected=names[max(0, at - 1)])
        case "down" | "j" if names:
            return replace(view, selected=names[min(len(names) - 1, at + 1)])
    return view


def _type(view: View, key: str) -> View:
    if key in ("\r", "\n"):
        return replace(view, typing=False)
    if key in ("\x1b", "\x03"):
        return replace(view, typing=False, filter="")
    if key in ("\x7f", "\b"):
        return replace(view, filter=view.filter[:-1])
    return replace(view, filter=view.filter + key) if len(key) == 1 and key.isprintable() else view


def keys(data: str) -> Iterator[str]:
    """The keys in what a terminal sent: characters, ``up`` and ``down``; other escape sequences are dropped."""
    while data:
        if data[0] == "\x1b" and data[1:2] in ("[", "O") and data[2:]:
            end = 2
            while end < len(data) - 1 and not data[end].isalpha() and data[end] != "~":
                end += 1
            arrow = {"A": "up", "B": "down"}.get(data[end]) if end == 2 else None
            data = data[end + 1 :]
            if arrow:
                yield arrow
            continue
        yield data[0]
        data = data[1:]


# -- cells


HEADS = ("NAME", "STATE", "PID", "CPU", "MEMORY", "TASKS", "FDS", "RESTARTS", "UPTIME")


def cells(row: Row) -> tuple[str, ...]:
    """What stands under each of HEADS; a dash for what is not known."""
    from ocelot.wire.tables import span

    def shown(value: int | None) -> str:
        return "-" if value is None else str(value)

    return (
        row.name,
        row.state,
        shown(row.pid),
        "-" if row.cpu is None else f"{row.cpu * 100:.1f}%",
        "-" if row.memory is None else size(row.memory),
        shown(row.tasks),
        shown(row.fds),
        str(row.restarts),
        "-" if row.uptime is None else span(row.uptime),
    )


def size(count: int) -> str:
    """``512B``, ``1.5KiB``, ``23MiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f}{unit}" if value >= 100 or unit == "B" else f"{value:.1f}{unit}"
        value /= 1024
    raise AssertionError


SHORTEST = 12
"""Characters of a name that are left in a narrow terminal; when even so a line is too long, the last columns are cut."""


def widths(table: Sequence[Sequence[str]], room: int | None) -> list[int]:
    """How wide the columns of ``table`` are, in lines of ``room`` characters: long names give way, the figures do not."""
    wide = [max(len(line[column]) for line in table) for column in range(len(HEADS))]
    if room is not None:
        excess = sum(wide) + 2 * (len(wide) - 1) - room
        wide[0] = min(wide[0], max(SHORTEST, wide[0] - excess)) if excess > 0 else wide[0]
    return wide


def short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def plain(found: Sequence[Row], room: int | None = None) -> list[str]:
    """The table as lines of text, of ``room`` characters at most."""
    table = [HEADS, *(cells(row) for row in found)]
    wide = widths(table, room)
    return [
        "  ".join(
            short(cell, width).ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, wide, strict=True))
        ).rstrip()[:room]
        for line in table
    ]
