"""The boot timeline as a table with bars and as an SVG picture.

Both take the timeline as plain objects, as JSON gives it: ``ocelotctl`` draws without importing the records' library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Timeline = Mapping[str, Any]

_COLOURS = {"ok": "\x1b[32m", "warned": "\x1b[33m", "failed": "\x1b[31m", "skipped": "\x1b[2m", "running": "\x1b[36m"}
_FILL = {"ok": "#4a9d5b", "warned": "#d9a12b", "failed": "#c8443a", "skipped": "#b5b5b5", "running": "#4a7fb5"}
_EIGHTHS = " ▏▎▍▌▋▊▉"


def seconds(value: float) -> str:
    """Short and aligned to the eye: ``0.8 ms``, ``12 ms``, ``1.35 s``, ``2 min 5 s``."""
    if value < 0.0095:
        return f"{value * 1000:.1f} ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.2f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def extent(timeline: Timeline) -> float:
    """When the last span ended, or the last one still going on began (seconds)."""
    spans = timeline["spans"]
    return max((span["end"] if span["end"] is not None else span["start"] for span in spans), default=0.0)


def table(timeline: Timeline, *, width: int = 80, colour: bool = False, plain_bars: bool = False) -> list[str]:
    """One line a span, in the order they began, with a bar that shows when; fits ``width`` columns."""
    spans = sorted(timeline["spans"], key=lambda span: span["start"])
    total = extent(timeline) or 1e-9
    longest = max((len(_label(span)) for span in spans), default=4)
    name_width = max(4, min(longest, (width - 22) // 2))
    bar_width = max(8, min(60, width - name_width - 22))
    lines = [f"{'start':>9} {'took':>9}  {'step':<{name_width}} "]
    for span in spans:
        end = span["end"] if span["end"] is not None else total
        took = seconds(end - span["start"]) if span["end"] is not None else "..."
        bar = _bar(span["start"] / total, end / total, bar_width, plain_bars)
        outcome = span["outcome"]
        if colour:
            bar = f"{_COLOURS.get(outcome, '')}{bar}\x1b[0m"
        lines.append(
            f"{seconds(span['start']):>9} {took:>9}  {_shorten(_label(span), name_width):<{name_width}} {bar}".rstrip()
        )
        if span["detail"] or outcome in ("warned", "failed", "skipped"):
            note = ": ".join(filter(None, (outcome if outcome != "ok" else "", span["detail"])))
            lines.append(" " * 21 + _shorten(note, max(width - 21, 20)))
    before = timeline.get("before")
    lines.append("")
    if before is not None:
        lines.append(f"{seconds(before)} from the kernel's start to the first instruction of PID 1")
    end = "to the end of the boot" if timeline["finished"] else "to now, and still booting"
    lines.append(f"{seconds(total)} from {'there' if before is not None else 'the first instruction'} {end}")
    return lines


def _label(span: Mapping[str, Any]) -> str:
    name, phase = span["name"], span["phase"]
    return name if name == phase or not phase else f"{phase}: {name}"


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _bar(start: float, end: float, width: int, plain: bool) -> str:
    """From ``start`` to ``end`` (0 to 1) of ``width`` cells; at least a sliver."""
    left = min(int(start * width), width - 1)
    if plain:
        return " " * left + "#" * max(1, round(end * width) - left)
    length = max(end * width - left, 0.125)
    return " " * left + "█" * int(length) + _EIGHTHS[int(length % 1 * 8)].strip()


# -- SVG

_ROW = 22
_NAMES = 260
_BARS = 720


def svg(timeline: Timeline) -> str:
    """A picture of the whole boot: one row a span, a grid of round seconds, what it took, details as tooltips."""
    spans = sorted(timeline["spans"], key=lambda span: span["start"])
    total = extent(timeline) or 1e-9
    height = 40 + _ROW * len(spans) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_NAMES + _BARS + 120}" height="{height}" '
        f'viewBox="0 0 {_NAMES + _BARS + 120} {height}" font-family="sans-serif" font-size="12">',
        "<title>Boot timeline</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    parts += _grid(total, height)
    parts += [_row(index, span, total) for index, span in enumerate(spans)]
    parts.append("</svg>\n")
    return "\n".join(parts)


def _grid(total: float, height: int) -> list[str]:
    step = 10.0**-4
    factors = (2, 2.5, 2)
    index = 0
    while total / step > 10:
        step *= factors[index % 3]
        index += 1
    lines = []
    for mark in range(int(total / step) + 1):
        x = _NAMES + _BARS * mark * step / total
        lines.append(f'<line x1="{x:.1f}" y1="24" x2="{x:.1f}" y2="{height - 16}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{x:.1f}" y="16" fill="#777777" text-anchor="middle">{seconds(mark * step)}</text>')
    return lines


def _row(index: int, span: Mapping[str, Any], total: float) -> str:
    y = 30 + index * _ROW
    end = span["end"] if span["end"] is not None else total
    x = _NAMES + _BARS * span["start"] / total
    width = max(_BARS * (end - span["start"]) / total, 1.5)
    note = f"{span['outcome']}: {span['detail']}" if span["detail"] else span["outcome"]
    return (
        f"<g><title>{escape(_label(span))}: {seconds(end - span['start'])}, {escape(note)}</title>"
        f'<text x="{_NAMES - 8}" y="{y + 14}" text-anchor="end">{escape(_shorten(_label(span), 42))}</text>'
        f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 7}" rx="2" '
        f'fill="{_FILL.get(span["outcome"], "#777777")}"/>'
        f'<text x="{x + width + 5:.1f}" y="{y + 14}" fill="#777777">{seconds(end - span["start"])}</text></g>'
    )


def escape(text: str) -> str:
    """For XML text, without the characters that XML 1.0 forbids altogether."""
    clean = "".join(char if char >= " " or char in "\t\n" else "�" for char in text)
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
