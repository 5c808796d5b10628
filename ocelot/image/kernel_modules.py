"""Which kernel modules an image needs, in the order in which they load, from what depmod(8) wrote about a kernel.

Dependencies are those of modules.dep, then those of modules.softdep, ``pre`` and ``post``, which often name an alias
(``crypto-crc32c``) with several providers: the generic one is taken, since the others are for particular processors.
Modules go in decompressed, since the archive as a whole is compressed better and PID 1 has less to do; only those that
a configuration names with their suffix stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bootstrap.module_order import SUFFIXES, module_name, parse_dep, parse_softdep, stem
from ocelot.errors import OcelotError
from ocelot.image import cpio


@dataclass(frozen=True)
class Tree:
    """One kernel's modules. Paths are relative to ``folder``, the host's ``.../lib/modules/VERSION``.

    ``depends`` maps a path to the paths it needs, ``soft`` a module's name to names or aliases that it wants before and
    after itself, ``aliases`` an alias to module names, ``builtin`` are names of what the kernel itself contains.
    """

    folder: str
    version: str
    depends: Mapping[str, tuple[str, ...]]
    soft: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    builtin: frozenset[str] = frozenset()

    def find(self, name: str) -> str | None:
        """The path of a module given as a path (any compression suffix) or as a bare name, or None."""
        if "/" in name:
            candidates = [name, *(f"{stem(name)}{suffix}" for suffix in SUFFIXES)]
            return next((path for path in candidates if path in self.depends), None)
        wanted = module_name(name)
        return next((path for path in self.depends if module_name(path) == wanted), None)

    def provider(self, name: str) -> str | None:
        """The path of the module ``name``, or of the one that best answers to it as an alias."""
        found = self.find(name)
        if found is not None:
            return found
        candidates = self.aliases.get(name, ())
        generic = [candidate for candidate in candidates if candidate.endswith("_generic")]
        return next((path for candidate in (*generic, *candidates) if (path := self.find(candidate))), None)

    def is_builtin(self, name: str) -> bool:
        return module_name(name) in self.builtin

    def load_order(self, paths: Iterable[str]) -> tuple[str, ...]:
        """``paths`` and all they need, each after what it needs. A cycle is cut where it closes."""
        order: list[str] = []
        visited: set[str] = set()

        def visit(path: str) -> None:
            if path in visited:
                return
            visited.add(path)
            before, after = self.soft_dependencies(path)
            for needed in (*before, *reversed(self.depends.get(path, ()))):
                visit(needed)
            order.append(path)
            for wanted in after:
                visit(wanted)

        for path in paths:
            visit(path)
        return tuple(order)

    def soft_dependencies(self, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The paths of what the module at ``path`` wants to be loaded before and after it, as far as they exist."""
        before, after = self.soft.get(module_name(path), ((), ()))
        return self._provided(before), self._provided(after)

    def _provided(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(path for name in names if (path := self.provider(name)) is not None)


def read_tree(modules_root: str, version: str) -> Tree:
    """The modules of kernel ``version`` below ``modules_root`` (its lib/modules, or the folder that holds VERSION).

    OcelotError when there are none, or when depmod has not run.
    """
    places = [os.path.join(modules_root, part, version) for part in ("lib/modules", "usr/lib/modules", "")]
    folder = next((place for place in places if os.path.isdir(place)), None)
    if folder is None:
        known = ", ".join(versions(modules_root)) or "none"
        raise OcelotError(
            f'cannot find the modules of kernel "{version}" below "{modules_root}"',
            hint=f"kernels there: {known}; see --modules-root",
        )
    dep = _read(folder, "modules.dep")
    if dep is None:
        raise OcelotError(f'cannot find modules.dep in "{folder}"', hint=f"run: depmod -b {modules_root} {version}")
    return Tree(
        folder,
        version,
        parse_dep(dep),
        parse_softdep(_read(folder, "modules.softdep") or ""),
        parse_alias(_read(folder, "modules.alias") or ""),
        frozenset(module_name(line) for line in (_read(folder, "modules.builtin") or "").splitlines()),
    )


def versions(modules_root: str) -> tuple[str, ...]:
    """The kernels whose modules lie below ``modules_root``."""
    places = [os.path.join(modules_root, part) for part in ("lib/modules", "usr/lib/modules", "")]
    found = {
        name
        for place in places
        if os.path.isdir(place)
        for name in os.listdir(place)
        if os.path.isfile(os.path.join(place, name, "modules.dep"))
    }
    return tuple(sorted(found))


def _read(folder: str, name: str) -> str | None:
    try:
        with open(os.path.join(folder, name)) as opened:
            return opened.read()
    except FileNotFoundError:
        return None


def parse_alias(text: str) -> dict[str, tuple[str, ...]]:
    """modules.alias: ``alias NAME MODULE``; patterns, which are for devices, are left out."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and "*" not in words[1]:
            found.setdefault(words[1], []).append(words[2])
    return {name: tuple(modules) for name, modules in found.items()}


def entries(tree: Tree, paths: Sequence[str], kept: Collection[str] = ()) -> Iterator[cpio.Entry]:
    """The modules ``paths`` and the reduced files of depmod, for /lib/modules/VERSION in the image.

    Those in ``kept`` stay compressed as they are.
    """
    base = f"lib/modules/{tree.version}"
    for path in paths:
        yield cpio.file(f"{base}/{placed(path, kept)}", _module(os.path.join(tree.folder, path), keep=path in kept))
    yield cpio.file(f"{base}/modules.dep", reduced_dep(tree, paths, kept))
    yield cpio.file(f"{base}/modules.softdep", reduced_softdep(tree, paths))
    yield cpio.file(f"{base}/modules.builtin", (_read(tree.folder, "modules.builtin") or "").encode())


def placed(path: str, kept: Collection[str] = ()) -> str:
    """The path of a module as it is in the image: without compression, unless it is ``kept``."""
    return path if path in kept else f"{stem(path)}.ko"


def reduced_dep(tree: Tree, paths: Sequence[str], kept: Collection[str] = ()) -> bytes:
    """modules.dep for ``paths`` alone."""
    lines = []
    for path in paths:
        needed = "".join(f" {placed(other, kept)}" for other in tree.depends[path])
        lines.append(f"{placed(path, kept)}:{needed}\n")
    return "".join(sorted(lines)).encode()


def reduced_softdep(tree: Tree, paths: Sequence[str]) -> bytes:
    """Soft dependencies among ``paths``, with aliases replaced by the module that was chosen for them."""
    lines = []
    for path in sorted(paths, key=module_name):
        words = []
        for when, wanted in zip(("pre:", "post:"), tree.soft_dependencies(path), strict=True):
            names = [module_name(found) for found in wanted if found in paths]
            words += [when, *names] if names else []
        if words:
            lines.append(f"softdep {module_name(path)} {' '.join(words)}\n")
    return "".join(lines).encode()


def _module(path: str, *, keep: bool) -> bytes:
    try:
        with open(path, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise OcelotError(f'cannot read the kernel module "{path}": {os.strerror(error.errno or 0)}') from error
    if keep or path.endswith(".ko"):
        return data
    from ocelot.image.compression import decompress_first

    try:
        return decompress_first(data)[0]
    except OcelotError as error:
        raise OcelotError(f'cannot unpack the kernel module "{path}": {error.message}', hint=error.hint) from error
