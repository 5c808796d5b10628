"""The picture of a run: one panel a measurement, one bar a supervisor, on logarithmic scales. SVG, drawn by hand."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from integration.bench.desk import Results
from integration.bench.figures import Figure
from integration.bench.report import COLUMNS

PANELS = {
    "first service": "start to the first service",
    "start of 1000": "start of 1,000 services",
    "kill to restarted": "kill -9 to restarted",
    "restart storm": "restarts a second (more is better)",
    "memory at 1000": "memory with 1,000 services",
    "stop of 1000": "stop of 1,000 services",
    "status of 100": "status of 100 services",
    "orphans gone after": "20,000 orphans gone",
}

WIDTH, GAP, LABEL = 400, 24, 84
BAR, PITCH, HEAD = 13, 17, 30

_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #a9b4c0 } .ours { fill: #d9822b }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .bar { fill: #57606a } }"""


def svg(results: Results) -> str:
    """The whole picture: two panels beside each other, as many rows as it takes."""
    panels = [(title, found) for what, title in PANELS.items() if (found := _figures(results, what))]
    parts, top = [], 8
    for first in range(0, len(panels), 2):
        row = panels[first : first + 2]
        for number, (title, found) in enumerate(row):
            parts += _panel(title, found, 8 + number * (WIDTH + GAP), top)
        top += HEAD + PITCH * max(len(found) for _, found in row) + GAP
    parts.append(f'<text x="8" y="{top + 4}">Medians of one run, all in turns; every scale is logarithmic.</text>')
    top += GAP
    size = f'width="{2 * WIDTH + GAP + 16}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {2 * WIDTH + GAP + 16} {top}" role="img">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _figures(results: Results, what: str) -> dict[str, Figure]:
    found = {name: results.figure(what, name) for name in COLUMNS}
    return {name: figure for name, figure in found.items() if figure is not None}


def _panel(title: str, found: dict[str, Figure], left: int, top: int) -> list[str]:
    values = [max(figure.value, 1e-3) for figure in found.values()]
    low = math.floor(math.log10(min(values)) - 0.3)
    high = max(math.log10(max(values)), low + 1)
    parts = [f'<text class="title" x="{left}" y="{top + 14}">{escape(title)}</text>']
    room = WIDTH - LABEL - 78
    for number, (name, figure) in enumerate(found.items()):
        y = top + HEAD + number * PITCH
        length = max(2.0, room * (math.log10(max(figure.value, 1e-3)) - low) / (high - low))
        kind = "bar ours" if name == "ocelot" else "bar"
        parts += [
            f'<text x="{left + LABEL - 6}" y="{y + 10}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{left + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{left + LABEL + length + 5:.1f}" y="{y + 10}">{escape(str(figure))}</text>',
        ]
    return parts
