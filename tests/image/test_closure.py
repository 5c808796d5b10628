"""Imports are found wherever they stand, but for branches that are never taken here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ocelot.errors import OcelotError
from ocelot.image.closure import closure, imports, submodules


def found(source: str, module: str = "pkg.mod", *, package: bool = False) -> set[str]:
    return set(imports(ast.parse(source), module, package=package))


def test_imports_in_functions_and_handlers_count() -> None:
    source = "def f():\n import a\ntry:\n import b.c\nexcept ImportError:\n from d import e"
    assert found(source) == {"a", "b.c", "d", "d.e"}


@pytest.mark.parametrize(
    "test",
    [
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        'sys.platform == "win32"',
        'os.name == "nt"',
        'os.name != "posix"',
        'sys.platform.startswith("freebsd")',
        "TYPE_CHECKING and other",
        'sys.platform == "win32" or os.name == "nt"',
    ],
)
def test_a_branch_that_is_never_taken_does_not_count(test: str) -> None:
    assert found(f"if {test}:\n import a\nelse:\n import b") == {"b"}


@pytest.mark.parametrize("test", ['sys.platform == "linux"', "not TYPE_CHECKING", 'os.name == "posix"'])
def test_a_branch_that_is_always_taken_counts_alone(test: str) -> None:
    assert found(f"if {test}:\n import a\nelse:\n import b") == {"a"}


def test_a_branch_that_nobody_can_know_counts_both_ways() -> None:
    assert found("if sys.version_info > (3, 12):\n import a\nelse:\n import b") == {"a", "b"}


def test_relative_imports_are_resolved() -> None:
    assert found("from . import x\nfrom .y import z\nfrom .. import w", "a.b.c") == {
        "a.b",
        "a.b.x",
        "a.b.y",
        "a.b.y.z",
        "a",
        "a.w",
    }
    assert found("from .y import z", "a.b", package=True) == {"a.b.y", "a.b.y.z"}


@pytest.fixture
def library(tmp_path: Path) -> str:
    files = {
        "top.py": "import pkg.used\nimport unheard_of",
        "pkg/__init__.py": "",
        "pkg/used.py": "def late():\n from pkg import lazy",
        "pkg/lazy.py": "import dropped.inner",
        "pkg/unused.py": "",
        "dropped/__init__.py": "import pkg.unused",
        "dropped/inner.py": "",
        "broken.py": "def",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return str(tmp_path)


def test_the_closure_follows_imports_and_takes_parents(library: str) -> None:
    modules = closure(["top"], [library], {"dropped"})
    assert [module.name for module in modules] == ["pkg", "pkg.lazy", "pkg.used", "top"]
    assert [module.destination for module in modules] == ["pkg/__init__.pyc", "pkg/lazy.pyc", "pkg/used.pyc", "top.pyc"]


def test_a_root_that_is_not_there_is_an_error(library: str) -> None:
    with pytest.raises(OcelotError, match='cannot find the module "nothing"'):
        closure(["nothing"], [library], set())
    assert closure(["nothing"], [library], set(), optional={"nothing"}) == ()


def test_a_module_that_cannot_be_parsed_is_an_error(library: str) -> None:
    with pytest.raises(OcelotError, match='cannot read the module "broken"'):
        closure(["broken"], [library], set())


def test_submodules_are_found_by_looking(library: str) -> None:
    assert submodules("pkg", [library]) == ("pkg", "pkg.lazy", "pkg.unused", "pkg.used")


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ('x.decode("UTF-8-sig")', "encodings.utf_8_sig"),
        ('x.encode("latin1")', "encodings.latin_1"),
        ('open(x, encoding="punycode")', "encodings.punycode"),
        ('str(x, "ascii")', "encodings.ascii"),
    ],
)
def test_a_codec_that_is_named_counts(source: str, module: str) -> None:
    assert found(source) == {module}
