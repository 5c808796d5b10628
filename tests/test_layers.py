"""Every import runs down: words, wings, the chapters of PID 1's life, its story, doors. The wings never meet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("ocelot", "bootstrap", "supervisor")

WORDS, WINGS, CHAPTERS, LIFE, DOORS = range(5)
FLOORS = {
    "ocelot.config": WORDS,
    "ocelot.linux": WORDS,
    "ocelot.wire": WORDS,
    "ocelot.states": WORDS,
    "ocelot.errors": WORDS,
    "ocelot.help": WORDS,
    "ocelot.log": WORDS,
    "ocelot.bundle": WORDS,
    "ocelot.deferred": WORDS,
    "ocelot.runner": WORDS,
    "bootstrap": WINGS,
    "supervisor": WINGS,
    "ocelot.client": WINGS,
    "ocelot.image": LIFE,
    "ocelot.convert": LIFE,
    "ocelot.life": CHAPTERS,
    "ocelot.pid1": LIFE,
    "ocelot.beginning": LIFE,
    "ocelot.resume": LIFE,
    "ocelot.entry": LIFE,
    "ocelot.idle": LIFE,
    "ocelot.zombies": LIFE,
    "ocelot.trial": LIFE,
    "ocelot.init": LIFE,
    "ocelot.cli": DOORS,
    "ocelot.commands": DOORS,
    "ocelot.ctl": DOORS,
    "ocelot.verbs": DOORS,
    "ocelot.complete": DOORS,
    "ocelot.manual": DOORS,
    "ocelot.__main__": DOORS,
}

SUPERVISOR = (
    {"supervisor.lifecycle", "supervisor.restart", "supervisor.snapshots", "supervisor.counted", "supervisor.replicas"},
    {"supervisor.children"},
    {"supervisor.output"},
    {"supervisor.process"},
    {"supervisor.health"},
    {"supervisor"},  # the set of processes: what lies in the folder itself
    {"supervisor.metrics"},
    {"supervisor.control"},
)
"""The floors of that wing, from its own words up."""


def floor(module: str) -> int | None:
    """The floor of a module; None for ``ocelot`` itself, which holds only the version."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (found := FLOORS.get(".".join(parts[:length]))) is not None:
            return found
    return None


def floor_of_the_wing(module: str) -> int:
    """The floor of one of the supervisor's modules within its wing."""
    longest = max((room for rooms in SUPERVISOR for room in rooms if f"{module}.".startswith(f"{room}.")), key=len)
    return next(number for number, rooms in enumerate(SUPERVISOR) if longest in rooms)


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((CHECKOUT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module of ours that a file imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (CHECKOUT / Path(*whole.split("."))).with_suffix(".py").exists()
                yield (whole if is_module else node.module), node.lineno


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_run_down(path: Path) -> None:
    name = name_of(path)
    mine = floor(name)
    assert mine is not None or name == "ocelot", f"{name} stands on no floor: add it to FLOORS"
    for imported, line in imports(path):
        if imported.split(".")[0] not in PACKAGES:
            continue
        theirs = floor(imported)
        if theirs is None or mine is None:
            continue
        place = f"{name}:{line} imports {imported}"
        assert theirs <= mine, f"{place}, which is above it"
        if mine == theirs == WINGS:
            assert imported.split(".")[0] == name.split(".")[0], f"{place}: the wings never meet"


@pytest.mark.parametrize("path", sorted((CHECKOUT / "supervisor").rglob("*.py")), ids=name_of)
def test_imports_run_down_within_the_supervisor(path: Path) -> None:
    name = name_of(path)
    for imported, line in imports(path):
        if imported.startswith("supervisor."):
            above = floor_of_the_wing(imported) > floor_of_the_wing(name)
            assert not above, f"{name}:{line} imports {imported}, which is above it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even when a function runs, or for types alone: who reads one has to know the others."""
    known = {name_of(path): {name for name, _ in imports(path)} for path in sources()}
    order = TopologicalSorter({name: {each for each in found if each in known} for name, found in known.items()})
    order.prepare()  # raises CycleError, which shows the circle


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_what_prose_names_is_there(path: Path) -> None:
    text = path.read_text()
    for name in re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", text):
        parts = name.split(".")
        while (
            parts
            and not (CHECKOUT / Path(*parts)).is_dir()
            and not (CHECKOUT / Path(*parts)).with_suffix(".py").exists()
        ):
            parts.pop()
        assert len(parts) > 1, f"{path}: {name} is no module"
        module = import_module(".".join(parts))
        rest = name.split(".")[len(parts) :]
        assert not rest or hasattr(module, rest[0]), f"{path}: {name}: {module.__name__} has no {rest[0]}"


def test_the_control_client_stays_light() -> None:
    """ocelotctl starts in milliseconds: nothing that it imports at its start may bring trio, psutil or Prometheus."""
    heavy = {"trio", "psutil", "prometheus_client", "anyio", "yaml", "h11"}
    seen: set[str] = set()
    waiting = ["ocelot.ctl"]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        base = CHECKOUT / Path(*module.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        for node in ast.parse(path.read_text()).body:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                assert name.split(".")[0] not in heavy, f"{module} imports {name}"
                if name.split(".")[0] in PACKAGES:
                    waiting.append(name)
