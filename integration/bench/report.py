"""What a run on this machine has found: a table with medians, spread and ratios, the targets, and all samples as JSON."""

from __future__ import annotations

import statistics
from typing import Any

from integration.bench import spawns
from integration.bench.desk import Results
from integration.bench.figures import Figure, plain
from integration.bench.targets import TARGETS, judge, p99

COLUMNS = ("ocelot", "C loop", "bare trio", "s6", "runit", "supervisord", "circus", "tini")

TITLES = {
    "first service": "start to the first service",
    "start of 100": "start of 100 services",
    "start of 1000": "start of 1,000 services",
    "kill to restarted": "kill -9 to restarted",
    "restart storm": "restarts a second of one that ends at once",
    "memory at 1": "memory (PSS) with 1 service",
    "memory at 100": "memory with 100 services",
    "memory at 1000": "memory with 1,000 services",
    "memory at 1, asked": "memory with 1, after a status and a scrape",
    "memory at 1000, asked": "memory with 1,000, after a status and a scrape",
    "idle wake-ups": "wake-ups, idle",
    "idle cpu": "processor time, idle",
    "orphans left over": "orphans left over after 20 s",
    "orphans gone after": "orphans gone after the last has died",
    "stop of 100": "stop of 100 services",
    "stop of 1000": "stop of 1,000 services",
    "status of 100": "the whole command for the status of 100 services",
}
"""Rows in this order."""


NOTES = (
    "The C loop (vfork, exec, wait) and the bare trio loop are floors: they restart, and do nothing else.",
    "ocelot and supervisord read what services write, through pipes; to the others it makes no difference.",
    "s6 and runit restart at once what lived for a second (s6: what was ready), and supervisord once a second. circus looks "
    "every 5 s, and for the restarts every 0.1 s.",
    "s6's status is that of one service: it has no command for all.",
    "PSS counts a page that others have in memory too only in part: less is shown while other Pythons run.",
)


def markdown(results: Results) -> str:
    """The tables and what they leave out."""
    columns = [name for name in COLUMNS if any(name in by for by in results.samples.values())]
    lines = ["### Supervision on this machine", "", f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for what, title in TITLES.items():
        if what in results.samples:
            cells = (_cell(results, what, name) for name in columns)
            lines.append(f"| {title} | {' | '.join(cells)} |")
            if what == "kill to restarted":
                cells = (_percentile(results, what, name) for name in columns)
                lines.append(f"| {title}, 99th percentile | {' | '.join(cells)} |")
    lines += [
        "",
        "Medians; ± half the distance of the quartiles; in brackets how many times ocelot's figure it is.",
        "",
    ]
    lines += _shares(results, "log throughput", "bare relay", "stdout to a file")
    lines += _shares(results, "spawn", spawns.FLOOR, "one start of a program")
    lines += ["| target | ocelot | limit in this run | |", "|---|---:|---:|---|"]
    judged = judge(results)
    for verdict in judged:
        value, bound = (f"{plain(number)} {verdict.unit}" for number in (verdict.value, verdict.bound))
        lines.append(
            f"| {verdict.target.words} | {value} | {bound} | {'reached' if verdict.reached else '**not reached**'} |"
        )
    met = [verdict.target for verdict in judged]
    alone = [target for target in TARGETS if target not in met and results.figure(target.what, target.who)]
    lines += [f"| {target.words} | | | not judged: whom it names was not measured |" for target in alone]
    return "\n".join([*lines, "", *(f"- {note}" for note in (*results.notes, *NOTES))])


def _cell(results: Results, what: str, who: str) -> str:
    figure, ours = results.figure(what, who), results.figure(what, "ocelot")
    if figure is None:
        return ""
    text = str(figure)
    if len(figure.samples) > 2 and figure.value:
        text += f" ±{spread(figure):.0%}"
    return text + (_ratio(figure.value, ours.value) if who != "ocelot" and ours is not None else "")


def _percentile(results: Results, what: str, who: str) -> str:
    figure, ours = results.figure(what, who), results.figure(what, "ocelot")
    if figure is None:
        return ""
    text = f"{plain(p99(figure))} {figure.unit}"
    return text + (_ratio(p99(figure), p99(ours)) if who != "ocelot" and ours is not None else "")


def _ratio(theirs: float, ours: float) -> str:
    return f" ({plain(theirs / ours)}x)" if theirs and ours else ""


def spread(figure: Figure) -> float:
    """Half the distance of the quartiles, as a share of the median."""
    low, _, high = statistics.quantiles(figure.samples, n=4)
    return (high - low) / 2 / figure.value


def _shares(results: Results, what: str, floor: str, title: str) -> list[str]:
    """A table of one measurement: whoever was measured, as a share of ``floor``."""
    found = {name: results.figure(what, name) for name in results.samples.get(what, {})}
    least = found.get(floor)
    if least is None:
        return []
    lines = [f"| {title} | | of {floor} |", "|---|---:|---:|"]
    for name, figure in found.items():
        if figure is not None:
            lines.append(f"| {name} | {figure} | {plain(figure.value / least.value)}x |")
    return [*lines, ""]


def read(document: dict[str, Any]) -> Results:
    """The other way round."""
    return Results(document["samples"], document["units"], document["notes"])


def document(results: Results) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "samples": results.samples,
        "units": results.units,
        "medians": {
            what: {who: statistics.median(found) for who, found in by.items()} for what, by in results.samples.items()
        },
        "targets": [
            {
                "target": verdict.target.words,
                "value": verdict.value,
                "limit": verdict.bound,
                "unit": verdict.unit,
                "reached": verdict.reached,
            }
            for verdict in judge(results)
        ],
        "notes": results.notes,
    }
