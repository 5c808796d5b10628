"""Every import runs down: words, wings, life, doors. The wings never meet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("ocelot", "bootstrap", "supervisor")

WORDS, WINGS, LIFE, DOORS = range(4)
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
    "ocelot.attached": WINGS,
    "ocelot.client": WINGS,
    "ocelot.exchange": WINGS,
    "ocelot.following": WINGS,
    "ocelot.vsock_stream": WINGS,
    "ocelot.image": LIFE,
    "ocelot.convert": LIFE,
    "ocelot.life": LIFE,
    "ocelot.pid1": LIFE,
    "ocelot.beginning": LIFE,
    "ocelot.booting": LIFE,
    "ocelot.configuration": LIFE,
    "ocelot.doors": LIFE,
    "ocelot.ending": LIFE,
    "ocelot.failure": LIFE,
    "ocelot.reexec": LIFE,
    "ocelot.recovery": LIFE,
    "ocelot.reload": LIFE,
    "ocelot.resume": LIFE,
    "ocelot.statefile": LIFE,
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


def floor(module: str) -> int | None:
    """The floor of a module; None for ``ocelot`` itself, which holds only the version."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (found := FLOORS.get(".".join(parts[:length]))) is not None:
            return found
    return None


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


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


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
