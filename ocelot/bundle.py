"""What a boot imports, found without looking for it, and what the imports would compile, compiled.

Python looks for a module in folder after folder, and ``dataclasses``, ``attr`` and ``re`` write source text and compile it
at every start. On an emulated machine these two are half of the time that the imports take. The image builder
(``ocelot.image.rehearsal``) rehearses the imports and keeps their results here. Whatever is not in the bundle goes the
usual way, and without a bundle (on a desk) everything does.

The file: eight bytes with the length of the head (little-endian), the head, and what :class:`Compiled` is made of. Both are
marshal; the head is a dict of ``version``, ``modules`` (name: file in the runtime, its size, whether it is a package; size 0 for
an extension) and ``compiled`` (offset and size). The code of the modules stays where it is: twice would be too much for the
memory of a small guest.
"""

import _sre  # type: ignore[import-not-found]
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CodeType, ModuleType
    from typing import Any

# No "from __future__ import annotations" here: source text that is compiled here after all would inherit it.

NAME = "start.bundle"
"""Its name in the ``lib`` folder of a runtime."""


def version() -> str:
    """Bundles are good for exactly the interpreter that they were made by."""
    return f"{sys.version} {sys.implementation.cache_tag}"


class Bundle:
    """A finder and loader (PEP 451) for the modules in the file at ``path``. Raises OSError, ValueError."""

    def __init__(self, path: str) -> None:
        self._fd = _open_high(path)
        try:
            length = int.from_bytes(os.read(self._fd, 8), "little")
            head: dict[str, Any] = marshal.loads(os.read(self._fd, length))
            if head["version"] != version():
                raise ValueError(f'the bundle "{path}" is for another interpreter')
        except BaseException:
            os.close(self._fd)
            raise
        self.path = path
        self._modules: dict[str, tuple[str, int, bool]] = head["modules"]
        self._at: tuple[int, int] = head["compiled"]
        self._compiled: Compiled | None = None

    def find_spec(self, name: str, path: "Sequence[str] | None" = None, target: object = None) -> "ModuleSpec | None":
        entry = self._modules.get(name)
        if entry is None:
            return None
        origin, size, package = entry
        if not size:
            spec = ModuleSpec(name, ExtensionFileLoader(name, origin), origin=origin)
        else:
            spec = ModuleSpec(name, self, origin=origin, is_package=package)  # type: ignore[arg-type]
            if package:
                spec.submodule_search_locations = [origin.rpartition("/")[0]]
        spec.has_location = True
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        return None

    def exec_module(self, module: "ModuleType") -> None:
        name = module.__name__
        origin, size, _ = self._modules[name]
        names = module.__dict__
        hook = _HOOKS.get(name)
        if hook is not None and hook[0] == "before":
            names[hook[1]] = getattr(self._texts(), hook[2])
        exec(_code(origin, size), names)
        if hook is not None and hook[0] == "after":
            texts = self._texts()
            texts.compile_pattern = names[hook[1]]
            names[hook[1]] = getattr(texts, hook[2])

    def _texts(self) -> "Compiled":
        if self._compiled is None:
            offset, size = self._at
            self._compiled = Compiled(marshal.loads(os.pread(self._fd, size, offset)))
        return self._compiled

    def close(self) -> None:
        """Give everything back; later imports take the files of the runtime."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._modules = {}
        if self._compiled is not None:
            self._compiled.forget()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _code(path: str, size: int) -> "CodeType":
    """The code in the .pyc file at ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        code: CodeType = marshal.loads(memoryview(os.read(fd, size))[16:])  # less the header
    finally:
        os.close(fd)
    return code


def _open_high(path: str) -> int:
    """Open ``path`` on a number that no console will be put on: the kernel may start /init without descriptors."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    low = []
    while fd <= 2:
        low.append(fd)
        fd = os.dup(fd)
    for number in low:
        os.close(number)
    return fd


class Compiled:
    """What ``exec``, ``compile`` and ``re.compile`` would make of the texts and patterns that imports give them."""

    def __init__(self, found: "dict[str, Any]") -> None:
        self.code: Mapping[str, CodeType] = found["texts"]
        self.named: Mapping[tuple[str, str], CodeType] = found["named"]
        self.patterns: Mapping[tuple[Any, int], tuple[Any, ...]] = found["patterns"]
        self.compile_pattern: Callable[..., Any]

    def forget(self) -> None:
        self.code, self.named, self.patterns = {}, {}, {}

    def run(self, text: "Any", *scopes: "Any") -> None:
        """exec(text), for ``dataclasses``."""
        exec(self.code.get(text, text), *scopes)

    def compile(self, text: str, filename: str, mode: str) -> "Any":
        """compile(text, filename, mode), for ``attr``."""
        return self.named.get((text, filename)) or compile(text, filename, mode)

    def pattern(self, pattern: "Any", flags: int = 0) -> "Any":
        """re._compiler.compile(pattern, flags), for ``re``."""
        try:
            return _sre.compile(pattern, *self.patterns[pattern, int(flags)])
        except (KeyError, TypeError):
            return self.compile_pattern(pattern, flags)


_HOOKS = {
    "dataclasses": ("before", "exec", "run"),
    "attr._make": ("before", "compile", "compile"),
    "re._compiler": ("after", "compile", "pattern"),
}
"""Module: when a name in it is replaced, which, and by which method of :class:`Compiled`."""

opened: "Bundle | None" = None
"""The bundle in use."""


def use() -> None:
    """Import from this runtime's bundle, if it has one, until :func:`leave`."""
    global opened
    try:
        opened = Bundle(f"{sys.prefix}/lib/{NAME}")
    except (OSError, ValueError, EOFError, LookupError, ArithmeticError, TypeError):
        return
    sys.meta_path.insert(0, opened)


def leave(*, remove: bool = False) -> None:
    """The imports of the start are done. ``remove``: the file too, whose memory a machine gets back."""
    global opened
    if opened is None:
        return
    opened.close()
    if remove:
        from contextlib import suppress

        with suppress(OSError):
            os.unlink(opened.path)
    opened = None
