"""Import what a boot imports, and write the bundle of it (``ocelot.bundle``).

Run as a program in an interpreter of its own, which imports from the new runtime alone: what is imported here is what
will be imported there. Arguments: the file to write, the path of the libraries in the finished runtime, and the folders
in which they lie now. The same runtime gives the same bytes.
"""

from __future__ import annotations

# Nothing else may be imported here: what this module brings along is not taken from the new runtime.
import _sre  # type: ignore[import-not-found]
import builtins
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import Any

START = (
    "ocelot.beginning",
    "ocelot.life.booting",
    "ocelot.life.failure",
    "bootstrap.power_button",
    "supervisor.control.server",
    "yaml._yaml",
)
"""What a boot imports at first, and what it imports a little later."""


class Record:
    """The texts and patterns that are compiled while modules are imported; see ``ocelot.bundle.Compiled``."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.named: set[tuple[str, str]] = set()
        self.patterns: dict[tuple[str | bytes, int], tuple[object, ...]] = {}

    def during(self, work: Callable[[], None]) -> None:
        """Note what ``dataclasses``, ``attr`` and ``re`` ask for while ``work`` runs."""
        from re import _compiler  # type: ignore[attr-defined]

        really = builtins.exec, builtins.compile, _compiler.compile

        def run(text: Any, *scopes: Any, **more: Any) -> None:
            if isinstance(text, str) and sys._getframe(1).f_globals["__name__"] == "dataclasses":
                self.texts.add(text)
            really[0](text, *scopes, **more)

        def compile_text(text: Any, filename: str, mode: str, *flags: Any, **more: Any) -> CodeType:
            # a hash of its own salts each text with __hash__ in it: another at the next start
            if sys._getframe(1).f_globals["__name__"] == "attr._make" and "def __hash__" not in text:
                self.named.add((text, filename))
            code: CodeType = really[1](text, filename, mode, *flags, **more)
            return code

        def compile_pattern(pattern: Any, flags: int = 0) -> Any:
            _compiler._sre = watched = _Watched()
            try:
                made = really[2](pattern, flags)
            finally:
                _compiler._sre = _sre
            self.patterns[pattern, int(flags)] = watched.arguments
            return made

        builtins.exec, builtins.compile, _compiler.compile = run, compile_text, compile_pattern  # type: ignore[assignment]
        try:
            _compiler.compile("", 0)  # as re does while it is imported itself
            work()
        finally:
            builtins.exec, builtins.compile, _compiler.compile = really

    def compiled(self) -> dict[str, object]:
        """What they become, in an order that is always the same."""
        return {
            "texts": {text: compile(text, "<string>", "exec", dont_inherit=True) for text in sorted(self.texts)},
            "named": {
                (text, file): compile(text, file, "exec", dont_inherit=True) for text, file in sorted(self.named)
            },
            "patterns": dict(sorted(self.patterns.items(), key=repr)),
        }


class _Watched:
    """``_sre`` as it is, but for a ``compile`` that notes its arguments."""

    arguments: tuple[object, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(_sre, name)

    def compile(self, pattern: Any, flags: int, code: list[int], groups: int, index: Any, names: Any) -> Any:
        # as plain numbers: some are of subclasses of int, which marshal does not write
        self.arguments = (int(flags), [int(word) for word in code], groups, dict(index), tuple(names))
        return _sre.compile(pattern, flags, code, groups, index, names)


def archive(files: dict[str, tuple[str, str]], shown: str, compiled: dict[str, object], version: str) -> bytes:
    """The bundle. ``files``: for each module the folder it is in, and its path below it; ``shown`` stands for the folder."""
    modules = {
        name: (
            f"{shown}/{path}",
            0 if path.endswith(".so") else os.stat(f"{folder}/{path}").st_size,
            path.endswith("/__init__.pyc"),
        )
        for name, (folder, path) in sorted(files.items())
    }
    # later versions of marshal mark what is shared, which depends on all that this process did
    packed = marshal.dumps(compiled, 2)
    start = 0
    while True:  # the head holds an offset, whose size depends on it
        head = marshal.dumps({"version": version, "modules": modules, "compiled": (start, len(packed))}, 2)
        if start == 8 + len(head):
            return len(head).to_bytes(8, "little") + head + packed
        start = 8 + len(head)


def _place(name: str, folders: Sequence[str]) -> tuple[str, str] | None:
    origin = getattr(sys.modules[name], "__file__", None) or ""
    return next(
        ((folder, origin.removeprefix(f"{folder}/")) for folder in folders if origin.startswith(f"{folder}/")), None
    )


def _import() -> None:
    for name in START:
        __import__(name)


def main(output: str, shown: str, *folders: str) -> None:
    sys.path[:] = folders
    record = Record()
    record.during(_import)
    from ocelot.bundle import version

    places = {name: _place(name, folders) for name in sys.modules}
    files = {name: place for name, place in places.items() if place is not None}
    with open(output, "wb") as opened:
        opened.write(archive(files, shown, record.compiled(), version()))
    os.chmod(output, 0o644)


if __name__ == "__main__":
    main(*sys.argv[1:])
