"""A table of figures: rows are what was measured, columns who did it; a run prints it for people and as markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A measured number. ``samples`` are all runs; the median counts."""

    samples: tuple[float, ...]
    unit: str

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    def __str__(self) -> str:
        return f"{plain(self.value)} {self.unit}"


def plain(value: float) -> str:
    """Three digits, as many of them behind the point as it takes."""
    if not value:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass
class Table:
    """``columns``: ocelot first, then its peers. A row's cells may be missing; ``notes`` stand below the table."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, dict[str, Figure | str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, **cells: Figure | str | None) -> None:
        self.rows.append((what, {name: cell for name, cell in cells.items() if cell is not None}))

    def markdown(self) -> str:
        """The table; a peer's cell says how many times ocelot's figure it is."""
        lines = [f"### {self.title}", "", f"| | {' | '.join(self.columns)} |", "|---|" + "---:|" * len(self.columns)]
        for what, cells in self.rows:
            lines.append(f"| {what} | {' | '.join(self._cell(cells, name) for name in self.columns)} |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)])

    def _cell(self, cells: dict[str, Figure | str], name: str) -> str:
        cell = cells.get(name.split()[0].lower().replace("-", "_"), "")
        ours = cells.get(self.columns[0].split()[0].lower())
        if isinstance(cell, Figure) and isinstance(ours, Figure) and cell is not ours and ours.value:
            return f"{cell} ({plain(cell.value / ours.value)}x)"
        return str(cell)
