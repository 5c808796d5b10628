"""The live view of ``ocelotctl top``, drawn by rich. Not part of an image: rich would double its size."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ocelot.verbs.arguments import query
from ocelot.verbs.readings import Readings
from ocelot.verbs.terminal import colour
from ocelot.verbs.top_view import HEADS, KEYS, Row, View, cells, keys, ordered, press, short, widths
from ocelot.wire.client import Client, Cut
from ocelot.wire.tables import log_printer, machine_line

if TYPE_CHECKING:
    from argparse import Namespace


def show(options: Namespace, view: View) -> None:
    """Until the user has had enough. Raises ControlError when ocelot does not answer any more."""

    console = Console(no_color=not colour(), highlight=False)
    readings = Readings(options.socket, options.names)
    with _raw_keys() as fd, Live(console=console, screen=True, auto_refresh=False) as live:
        due = 0.0
        while not view.done:
            if not view.paused and time.monotonic() >= due:
                readings.read()
                # Rates need two readings: the second comes soon, so that the first screen is not empty for long
                due = time.monotonic() + (options.delay if readings.before is not None else min(0.5, options.delay))
            shown = ordered(readings.rows(), view)
            live.update(_screen(readings, shown, view, console.size, options), refresh=True)
            wait = None if view.paused else max(0.0, due - time.monotonic())
            if select.select([fd], [], [], wait)[0]:
                for key in keys(os.read(fd, 64).decode("utf-8", "replace")):
                    view = press(view, key, shown)


@contextmanager
def _raw_keys() -> Iterator[int]:
    """Each key at once and unechoed (termios(3)); the terminal is as before afterwards."""

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _screen(readings: Readings, shown: Sequence[Row], view: View, size: tuple[int, int], options: Namespace) -> Layout:

    assert readings.status is not None
    height = size[1]
    pane = max(5, height // 3) if view.log and view.selected else 0
    room = max(1, height - pane - 3)
    layout = Layout()
    parts = [
        Layout(Text(machine_line(readings.status)), size=1),
        Layout(_table(window(shown, view.selected, room), view, size[0]), size=room + 1),
    ]
    if pane:
        parts.append(Layout(_log_pane(options.socket, view.selected or "", pane), size=pane))
    parts.append(Layout(Text(_footer(view, len(shown)), style="reverse", no_wrap=True, overflow="ellipsis"), size=1))
    layout.split_column(*parts)
    return layout


def window(shown: Sequence[Row], selected: str | None, room: int) -> Sequence[Row]:
    """As many rows as there is room for, with the selected one among them."""
    names = [row.name for row in shown]
    at = names.index(selected) if selected in names else 0
    start = max(0, min(at - room // 2, len(shown) - room))
    return shown[start : start + room]


_STYLES = {
    "running": "green",
    "starting": "cyan",
    "waiting": "cyan",
    "stopping": "yellow",
    "backoff": "yellow",
    "fatal": "bold red",
    "stopped": "dim",
    "exited": "dim",
}


def _table(shown: Sequence[Row], view: View, room: int) -> Table:
    arrow = "▴" if view.reverse else "▾"
    heads = [f"{head} {arrow}" if head.lower() == view.sort else head for head in HEADS]
    lines = [cells(row) for row in shown]
    name_width = widths([heads, *lines], room)[0]
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, justify="left" if head in heads[:2] else "right", no_wrap=True)
    for row, line in zip(shown, lines, strict=True):
        name, state, *rest = map(Text, (short(line[0], name_width), *line[1:]))
        state.stylize(_STYLES.get(row.state, ""))
        table.add_row(name, state, *rest, style="reverse" if row.name == view.selected else "")
    return table


def _log_pane(socket: str, name: str, height: int) -> Panel:

    show = log_printer(plain=False, only=name, colour=False, raw=False, tame=True)
    try:
        with Client(socket) as client:
            reply = client.request("GET", "/v1/logs" + query([name], [("n", str(height - 2))]))
            lines = [show(line) for line in reply.lines()] if reply.status == 200 else ["it is gone"]
    except Cut:
        lines = ["..."]  # ocelot is being replaced; the next time there is an answer
    return Panel(
        Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), title=name, title_align="left", height=height
    )


def _footer(view: View, count: int) -> str:
    if view.typing:
        return f" filter: {view.filter}▏"
    notes = ["1 process" if count == 1 else f"{count} processes"]
    if view.filter:
        notes.append(f'filter "{view.filter}"')
    if view.paused:
        notes.append("paused")
    return f" {', '.join(notes)}   |   {KEYS}"
