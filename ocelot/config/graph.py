"""Which process needs which, as a graph of names: order, cycles and chains. Pure, and without recursion.

An edge leads from a process to one that it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Edges = Mapping[str, Iterable[str]]


def cycles(edges: Edges) -> list[list[str]]:
    """Circles, each as a path that ends where it began (``a b a``), until every edge left would lead into no other.

    Empty: there is an order. A name that only edges lead to counts as one without edges.
    """
    found: list[list[str]] = []
    done: set[str] = set()
    for root in edges:
        if root in done:
            continue
        path = [root]
        on_path = {root: 0}
        pending = [iter(edges[root])]
        while pending:
            following = next(pending[-1], None)
            if following is None:
                pending.pop()
                name = path.pop()
                del on_path[name]
                done.add(name)
            elif following in on_path:
                found.append([*path[on_path[following] :], following])
            elif following not in done:
                on_path[following] = len(path)
                path.append(following)
                pending.append(iter(edges.get(following, ())))
    return found


def order(edges: Edges) -> list[str]:
    """Every name after all that it depends on, otherwise in the order given. An edge that closes a circle is passed over."""
    placed: dict[str, None] = {}
    for root in edges:
        on_path = {root}
        pending = [(root, iter(edges[root]))] if root not in placed else []
        while pending:
            name, rest = pending[-1]
            following = next((each for each in rest if each not in placed and each not in on_path), None)
            if following is None:
                pending.pop()
                on_path.discard(name)
                placed[name] = None
            else:
                on_path.add(following)
                pending.append((following, iter(edges.get(following, ()))))
    return list(placed)


def reversed_edges(edges: Edges) -> dict[str, list[str]]:
    """Who depends on each name, directly."""
    found: dict[str, list[str]] = {name: [] for name in edges}
    for name, targets in edges.items():
        for target in targets:
            found.setdefault(target, []).append(name)
    return found


def chains(edges: Edges, weight: Mapping[str, float]) -> dict[str, float]:
    """For each name the heaviest path that leads through it, from end to end. What has no weight weighs nothing."""
    placed = order(edges)
    below = _heaviest(placed, edges, weight)
    above = _heaviest(placed[::-1], reversed_edges(edges), weight)
    return {name: below[name] + above[name] - weight.get(name, 0.0) for name in placed}


def _heaviest(placed: list[str], edges: Edges, weight: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in placed:
        below = (found.get(each, 0.0) for each in edges.get(name, ()))
        found[name] = weight.get(name, 0.0) + max(below, default=0.0)
    return found


def heaviest_chain(edges: Edges, weight: Mapping[str, float]) -> list[str]:
    """The names of the heaviest path, dependants first."""
    placed = order(edges)
    below = _heaviest(placed, edges, weight)
    if not placed:
        return []
    path = [max(placed, key=lambda name: below[name])]
    while targets := [each for each in edges.get(path[-1], ()) if each not in path]:
        path.append(max(targets, key=lambda name: below[name]))
    return path
