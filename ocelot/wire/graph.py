"""The dependencies of processes as a tree of text and as an SVG picture, each process with its state.

Both take the processes as plain objects, as JSON gives them. Replicas of one entry are one node: they are depended on as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocelot.wire.drawing import escape
from ocelot.wire.tables import state_colour

Process = Mapping[str, Any]

_FILL = {
    "running": "#4a9d5b",
    "starting": "#4a7fb5",
    "waiting": "#4a7fb5",
    "stopping": "#d9a12b",
    "backoff": "#d9a12b",
    "fatal": "#c8443a",
    "stopped": "#8f8f8f",
    "exited": "#8f8f8f",
}
_GRAVITY = ("fatal", "backoff", "stopping", "waiting", "starting", "stopped", "running", "exited")
"""Of several replicas the state of the worst is shown, as the colour."""


def needed_by(processes: Sequence[Process], wanted: Sequence[str]) -> list[Process]:
    """Those of ``processes`` that stand in a graph of ``wanted``: they, and all that they depend on. All for none."""
    known = nodes(processes)
    found: set[str] = set()
    todo = list(wanted or known)
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found.add(name)
            todo += [need["name"] for need in known[name].needs]
    return [process for process in processes if (process.get("group") or process["name"]) in found]


@dataclass(frozen=True)
class Node:
    """A process, or all replicas of one entry. ``needs`` is as ``dependsOn`` of a status."""

    name: str
    state: str
    words: str
    reason: str
    needs: tuple[Mapping[str, Any], ...]


def nodes(processes: Sequence[Process]) -> dict[str, Node]:
    """By name, in the order of the processes."""
    members: dict[str, list[Process]] = {}
    for process in processes:
        members.setdefault(process.get("group") or process["name"], []).append(process)
    return {name: _node(name, found) for name, found in members.items()}


def _node(name: str, members: Sequence[Process]) -> Node:
    states = [process["state"] for process in members]
    worst = min(states, key=_GRAVITY.index)
    one = members[states.index(worst)]
    words = worst if worst != "running" or all(process["ready"] for process in members) else "running (not ready)"
    if one.get("group"):
        words = ", ".join(f"{states.count(state)} {state}" for state in _GRAVITY if state in states)
    return Node(name, worst, words, one["reason"] or "", tuple(one.get("dependsOn") or ()))


# -- text


def tree(processes: Sequence[Process], wanted: Sequence[str] = (), *, colour: bool = False) -> list[str]:
    """A tree for each process that nobody depends on, or for each of ``wanted``: below it is what it depends on.

    What has been shown already is not shown with all its dependencies again.
    """
    known = nodes(processes)
    needed = {need["name"] for node in known.values() for need in node.needs}
    roots = list(wanted) or [name for name in known if name not in needed]
    seen: set[str] = set()
    return [line for name in roots if name in known for line in _branch(known, name, seen, colour)]


def _branch(known: Mapping[str, Node], name: str, seen: set[str], colour: bool) -> Iterator[str]:
    node = known[name]
    yield f"{name}  {_tinted(node, colour)}"
    yield from _below(known, node, "", seen, colour)


def _below(known: Mapping[str, Node], node: Node, indent: str, seen: set[str], colour: bool) -> Iterator[str]:
    seen.add(node.name)
    for index, need in enumerate(node.needs):
        last = index == len(node.needs) - 1
        below = known.get(need["name"])
        state = _tinted(below, colour) if below is not None else "not there"
        again = below is not None and bool(below.needs) and below.name in seen
        wanted = demand(need, below.state if below is not None else "")
        yield f"{indent}{'└─ ' if last else '├─ '}{need['name']}  {state}  ({wanted})" + (" …" if again else "")
        if below is not None and not again:
            yield from _below(known, below, indent + ("   " if last else "│  "), seen, colour)


def demand(need: Mapping[str, Any], state: str = "") -> str:
    """``healthy``, ``completed successfully, not yet``, ``started, optional``; ``state``: of what is needed."""
    condition = "".join(f" {char.lower()}" if char.isupper() else char for char in need["condition"]).strip()
    extras = [
        *([] if need["met"] else ["it has failed"] if state == "fatal" else ["not yet"]),
        *([] if need["required"] else ["optional"]),
        *(["follows its restarts"] if need["restart"] else []),
    ]
    return ", ".join([condition, *extras])


def _tinted(node: Node, colour: bool) -> str:
    return f"{state_colour(node.state)}{node.words}\x1b[0m" if colour else node.words


# -- SVG

_WIDTH, _HEIGHT = 190, 44
_ACROSS, _DOWN = 90, 20
_MARGIN = 24


def svg(processes: Sequence[Process]) -> str:
    """A picture: what is started first stands on the left, lines lead to what depends on it."""
    known = nodes(processes)
    places = _places(known)
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + _MARGIN
    height = max((y for _, y in places.values()), default=0) + _HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        "<title>Dependencies</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="context-stroke"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    parts += [
        _line(places[need["name"]], places[name], need, name)
        for name, node in known.items()
        for need in node.needs
        if need["name"] in places
    ]
    parts += [_box(node, places[name]) for name, node in known.items()]
    return "\n".join([*parts, "</svg>\n"])


def _places(known: Mapping[str, Node]) -> dict[str, tuple[int, int]]:
    """The upper left corner of each node: a column by its depth, in it a row near those that it is connected to."""
    columns: list[list[str]] = []
    depths = _depths(known)
    for name, depth in depths.items():
        while len(columns) <= depth:
            columns.append([])
        columns[depth].append(name)
    rows = {name: index for column in columns for index, name in enumerate(column)}
    for column in columns[1:]:
        column.sort(key=lambda name: _middle(rows, known[name], rows[name]))
        rows.update({name: index for index, name in enumerate(column)})
    return {
        name: (_MARGIN + depths[name] * (_WIDTH + _ACROSS), _MARGIN + row * (_HEIGHT + _DOWN))
        for name, row in rows.items()
    }


def _middle(rows: Mapping[str, int], node: Node, default: int) -> float:
    found = [rows[need["name"]] for need in node.needs if need["name"] in rows]
    return sum(found) / len(found) if found else default


def _depths(known: Mapping[str, Node]) -> dict[str, int]:
    """The length of the longest chain of dependencies that begins at each node; a cycle, if there were one, is cut."""
    depths: dict[str, int] = {}

    def depth(name: str, above: frozenset[str]) -> int:
        if name not in depths:
            below = [need["name"] for need in known[name].needs if need["name"] in known and need["name"] not in above]
            depths[name] = max((depth(each, above | {name}) + 1 for each in below), default=0)
        return depths[name]

    for name in known:
        depth(name, frozenset((name,)))
    return depths


def _line(start: tuple[int, int], end: tuple[int, int], need: Mapping[str, Any], name: str) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0] - 2, end[1] + _HEIGHT // 2
    bend = max(_ACROSS // 2, abs(x2 - x1) // 3)
    stroke = "#888888" if need["met"] else "#c8443a"
    dashes = "" if need["required"] else ' stroke-dasharray="5 4"'
    return (
        f'<path d="M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}" fill="none" stroke="{stroke}"'
        f' stroke-width="1.5" marker-end="url(#tip)"{dashes}>'
        f"<title>{escape(name)} needs {escape(need['name'])}: {escape(demand(need))}</title></path>"
    )


def _box(node: Node, place: tuple[int, int]) -> str:
    x, y = place
    label = node.name if len(node.name) <= 26 else node.name[:25] + "…"
    words = node.words if len(node.words) <= 30 else node.words[:29] + "…"
    return (
        f"<g><title>{escape(node.name)}: {escape(node.words)}{escape(f', {node.reason}' if node.reason else '')}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#ffffff" '
        f'stroke="{_FILL.get(node.state, "#8f8f8f")}" stroke-width="2"/>'
        f'<text x="{x + _WIDTH // 2}" y="{y + 18}" text-anchor="middle" font-weight="bold">{escape(label)}</text>'
        f'<text x="{x + _WIDTH // 2}" y="{y + 34}" text-anchor="middle" '
        f'fill="{_FILL.get(node.state, "#8f8f8f")}">{escape(words)}</text></g>'
    )
