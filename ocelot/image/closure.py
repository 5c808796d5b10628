"""Which modules a set of modules can import: a static closure over their syntax trees.

Nothing is imported and nothing is run. An import counts wherever it stands (in a function, a ``try``), so that what is
loaded late is there when its time comes; what stands under ``if TYPE_CHECKING`` or is meant for another platform does
not count. The rest of the judgement (which of the reachable modules are never reached here) is the caller's ``drop``.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import cache
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    BuiltinImporter,
    ExtensionFileLoader,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from typing import Literal

from ocelot.errors import OcelotError


@dataclass(frozen=True)
class Module:
    """One module of the closure. ``origin`` is its file; ``package`` says whether it is a package."""

    name: str
    origin: str
    kind: Literal["source", "extension"]
    package: bool

    @property
    def destination(self) -> str:
        """Where it lies below the library folder: sources as ``.pyc``, extensions with the shortest suffix."""
        stem = self.name.replace(".", "/")
        if self.kind == "extension":
            return f"{stem}.so"
        return f"{stem}/__init__.pyc" if self.package else f"{stem}.pyc"


def closure(
    roots: Sequence[str], search: Sequence[str], drop: Collection[str], *, optional: Collection[str] = ()
) -> tuple[Module, ...]:
    """Every module reachable from ``roots``, sorted by name.

    ``search`` are the folders to look in, in order. Modules in ``drop``, and everything below them, are left out, as
    are built-in ones. An import that nothing answers is left out too: packages import much that is optional. A root
    that cannot be found is an error, unless it is ``optional`` (``from a import b`` may name a module or not).
    """
    found: dict[str, Module] = {}
    seen: set[str] = set()
    wanted = list(roots)
    while wanted:
        name = wanted.pop()
        if name in seen or _covered(name, drop):
            continue
        seen.add(name)
        if "." in name:
            wanted.append(name.rpartition(".")[0])
        module = _find(name, search)
        if module is None:
            if name in roots and name not in optional and name not in sys.builtin_module_names:
                raise OcelotError(f'cannot find the module "{name}"', hint=f"looked in {', '.join(search)}")
            continue
        found[name] = module
        if module.kind == "source":
            wanted.extend(imports_of(module))
    return tuple(found[name] for name in sorted(found))


def imports_of(module: Module) -> tuple[str, ...]:
    """What the source of ``module`` may import; nothing for an extension."""
    if module.kind == "extension":
        return ()
    return _imports_of(module, os.stat(module.origin).st_mtime_ns)


@cache
def _imports_of(module: Module, _changed: int) -> tuple[str, ...]:
    """Each source is read once for a build, which asks several times: that was half of what it took."""
    with open(module.origin, "rb") as source:
        text = source.read()
    try:
        tree = ast.parse(text, module.origin)
    except SyntaxError as error:
        raise OcelotError(f'cannot read the module "{module.name}": {error}') from error
    return tuple(imports(tree, module.name, package=module.package))


def submodules(package: str, search: Sequence[str]) -> tuple[str, ...]:
    """``package`` and every module below it, by looking at its folder; for packages that load by name."""
    module = _find(package, search)
    if module is None or not module.package:
        return (package,)
    names = [package]
    for entry in sorted(os.listdir(os.path.dirname(module.origin))):
        path = os.path.join(os.path.dirname(module.origin), entry)
        stem = entry.removesuffix(".py")
        if entry.endswith(".py") and stem != "__init__":
            names.append(f"{package}.{stem}")
        elif os.path.isfile(os.path.join(path, "__init__.py")):
            names.extend(submodules(f"{package}.{entry}", search))
    return tuple(names)


def imports(tree: ast.AST, module: str, *, package: bool) -> Iterator[str]:
    """The absolute names that ``tree``, the source of ``module``, may import. ``from a import b`` yields a and a.b."""
    for node in _live(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, package=package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call):
            yield from _encodings(node)


def _encodings(call: ast.Call) -> Iterator[str]:
    """The module behind a codec that a call names: ``x.decode("utf-8-sig")``, ``open(x, encoding="ascii")``."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "encoding"]
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("encode", "decode"):
        named += call.args[:1]
    elif isinstance(call.func, ast.Name) and call.func.id in ("str", "bytes"):
        named += call.args[1:2]
    for value in named:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            name = normalize_encoding(value.value).lower()
            yield f"encodings.{aliases.get(name, name)}"


def _absolute(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + (1 if package else 0)]
    return ".".join([*kept, node.module] if node.module else kept)


def _live(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of ``tree`` without branches that are never taken at run time on Linux."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If):
            verdict = _verdict(node.test)
            taken = [] if verdict is False else node.body
            other = [] if verdict is True else node.orelse
            pending.extend([*taken, *other])
        else:
            pending.extend(ast.iter_child_nodes(node))


def _verdict(test: ast.expr) -> bool | None:
    """What a test is known to be: TYPE_CHECKING is false, sys.platform is linux, os.name is posix, else unknown."""
    text = ast.unparse(test)
    if text in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "t.TYPE_CHECKING"):
        return False
    if text in ("not TYPE_CHECKING", "not typing.TYPE_CHECKING"):
        return True
    if isinstance(test, ast.BoolOp):
        verdicts = [_verdict(value) for value in test.values]
        if isinstance(test.op, ast.And):
            return False if False in verdicts else (True if all(verdicts) else None)
        return True if True in verdicts else (False if all(v is False for v in verdicts) else None)
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.comparators[0], ast.Constant):
        subject = ast.unparse(test.left)
        value = {"sys.platform": "linux", "os.name": "posix", "_os.name": "posix", "_sys.platform": "linux"}.get(
            subject
        )
        if value is not None and isinstance(test.ops[0], ast.Eq | ast.NotEq):
            return (value == test.comparators[0].value) == isinstance(test.ops[0], ast.Eq)
    if isinstance(test, ast.Call) and ast.unparse(test.func) == "sys.platform.startswith" and test.args:
        prefix = test.args[0]
        if isinstance(prefix, ast.Constant) and isinstance(prefix.value, str):
            return "linux".startswith(prefix.value)
    return None


def _covered(name: str, drop: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in drop for length in range(1, len(parts) + 1))


def _find(name: str, search: Sequence[str]) -> Module | None:
    if BuiltinImporter.find_spec(name) is not None:
        return None
    path = list(search)
    for part in _prefixes(name)[:-1]:
        spec = PathFinder.find_spec(part, path)
        if spec is None or spec.submodule_search_locations is None:
            return None
        path = list(spec.submodule_search_locations)
    spec = PathFinder.find_spec(name, path)
    return None if spec is None else _module(name, spec)


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _module(name: str, spec: ModuleSpec) -> Module | None:
    if spec.origin is None:
        return None  # a namespace package: only its members count
    package = spec.submodule_search_locations is not None
    if isinstance(spec.loader, SourceFileLoader):
        return Module(name, spec.origin, "source", package)
    if isinstance(spec.loader, ExtensionFileLoader) and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
        return Module(name, spec.origin, "extension", package)
    return None
