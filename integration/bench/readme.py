"""The tables of the README and the picture beside them, of one and the same run: what ``make bench BENCH=--readme`` writes anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from integration.bench import picture
from integration.bench.desk import Results
from integration.bench.figures import Figure, plain
from integration.bench.targets import TARGETS, judge, p99

BEGIN, END = "<!-- desk -->\n", "<!-- /desk -->"
PICTURE = "integration/bench/figures.svg"
PEERS = ("C loop", "bare trio", "s6", "runit", "supervisord", "circus")
HEADS = ("ocelot", "loop in C", *PEERS[1:])
ROWS = {
    "first service": "start to the first service",
    "start of 100": "start of 100 services",
    "start of 1000": "start of 1,000 services",
    "kill to restarted": "kill -9 to restarted",
    "kill to restarted, p99": "the same, 99th percentile",
    "restart storm": "restarts a second of one that ends at once",
    "memory at 1": "memory (PSS) with 1 service",
    "memory at 1, asked": "the same after a status and a scrape",
    "memory at 100": "memory with 100 services",
    "memory at 1000": "memory with 1,000 services",
    "memory at 1000, asked": "the same after a status and a scrape",
    "idle wake-ups": "wake-ups a second with 1,000 idle services",
    "idle cpu": "processor time of it",
    "orphans gone after": "20,000 orphans gone after the last has died",
    "stop of 100": "stop of 100 services",
    "stop of 1000": "stop of 1,000 services",
    "status of 100": "status of 100 services, the whole command (s6: of one)",
}
"""By what was measured, in the order of the table."""

SMALL = 0.01
"""A share below it says less than the figure itself."""


def write(results: Results, checkout: Path) -> None:
    """Put the tables of a whole run between their marks in README.md, and draw the picture."""
    readme = checkout / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{readme} has no place for the tables: {BEGIN.strip()} ... {END}"
    readme.write_text(f"{before}{BEGIN}{tables(results)}{END}{after}")
    (checkout / PICTURE).write_text(picture.svg(results))


def tables(results: Results) -> str:
    lines = [f"| | {' | '.join(HEADS)} |", "|---|" + "---:|" * len(HEADS)]
    for what, title in ROWS.items():
        ours = figure(results, what, "ocelot")
        if ours is not None:
            cells = [str(ours), *(_cell(results, what, peer, ours) for peer in PEERS)]
            lines.append(f"| {title}{_beside(results, what, ours)} | {' | '.join(cells)} |")
    lines += ["", "| stdout to a file | MB/s | of a bare relay |", "|---|---:|---:|", *_throughput(results), ""]
    lines += [f"![the same as a picture]({PICTURE})", "", *_verdicts(results), ""]
    return "\n".join(lines)


def figure(results: Results, what: str, who: str) -> Figure | None:
    """As :meth:`Results.figure`; the 99th percentile has a name of its own."""
    name = what.removesuffix(", p99")
    found = results.figure(name, who)
    return found if found is None or name == what else Figure((p99(found),), found.unit)


def _cell(results: Results, what: str, who: str, ours: Figure) -> str:
    theirs = figure(results, what, who)
    if theirs is None:
        return ""
    left = results.figure("orphans left over", who) if what == "orphans gone after" else None
    if left is not None and left.value:
        return f"{left.value:,.0f} left"
    if not ours.value or theirs.value / ours.value < SMALL:
        return str(theirs)
    return f"{plain(theirs.value / ours.value)}x"


def _beside(results: Results, what: str, ours: Figure) -> str:
    """tini has no column: it does nothing else."""
    tini = results.figure(what, "tini")
    return f" (tini: {plain(tini.value / ours.value)}x)" if tini is not None and ours.value else ""


def _throughput(results: Results) -> list[str]:
    found = {name: results.figure("log throughput", name) for name in results.samples.get("log throughput", {})}
    bare = found.get("bare relay")
    return [
        f"| {name} | {each.value:,.0f} | {'' if each is bare else plain(each.value / bare.value) + 'x'} |"
        for name, each in found.items()
        if each is not None and bare is not None
    ]


def _verdicts(results: Results) -> Sequence[str]:
    verdicts = judge(results)
    missed = [f"- {verdict}" for verdict in verdicts if not verdict.reached]
    unjudged = len(TARGETS) - len(verdicts)
    words = (
        f"{len(verdicts) - len(missed)} of the {len(TARGETS)} targets that we set ourselves were reached in this run"
    )
    if unjudged:
        words += f", {unjudged} could not be judged"
    return [f"{words}{':' if missed else '.'}", *([""] if missed else []), *missed]


def shown(text: str) -> dict[str, str]:
    """What the README says of ocelot, by title, from its ``text``: for whoever compares it with the picture."""
    part = text.partition(BEGIN)[2].partition(END)[0]
    return {
        title.partition(" (")[0]: value for title, value in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", part, re.MULTILINE)
    }
