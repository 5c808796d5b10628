"""Which kernel modules to load, in which order: pure, from the text files that depmod(8) writes.

modules.dep names for each module the others whose symbols it needs; modules.softdep what it will want to find at run
time without needing a symbol (ext4 its checksum driver), by module name or by alias; modules.builtin what the kernel
carries in itself. insmod in any other order ends with "unknown symbol" and no name of a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


@dataclass(frozen=True)
class Resolution:
    """``order``: paths below the directory, to be loaded from first to last.

    ``required_by``: for each of them the names from the list that led to it. ``soft``: those that were only added by a
    soft dependency, which may fail. ``builtin``: names from the list that the kernel has built in. ``missing``: names
    for which there is no file. ``warnings``: lines for the operator.
    """

    order: tuple[str, ...] = ()
    required_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    soft: frozenset[str] = frozenset()
    builtin: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def module_name(path: str) -> str:
    """The name the kernel uses: ``kernel/fs/9p/9p.ko.xz`` is ``9p``, dashes are underscores."""
    return stem(path).rpartition("/")[2].replace("-", "_")


def stem(path: str) -> str:
    """``path`` without the suffix of a module."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if path.endswith(suffix):
            return path[: -len(suffix)]
    return path


def resolve(
    names: Sequence[str],
    *,
    dep_text: str | None,
    softdep_text: str = "",
    builtin_text: str = "",
    alias_text: str = "",
    exists: Callable[[str], bool],
) -> Resolution:
    """The order in which to load ``names`` and what they depend on.

    ``names`` are paths below the module directory, or bare module names (these need ``dep_text`` or ``builtin_text``).
    ``dep_text`` None: there is no modules.dep, and names are taken as written. ``exists`` tells whether a path below
    the directory is there. Raises nothing: what cannot be resolved is in ``missing`` and ``warnings``.
    """
    return _Resolver(dep_text, softdep_text, builtin_text, alias_text, exists).resolve(names)


class _Resolver:
    def __init__(
        self,
        dep_text: str | None,
        softdep_text: str,
        builtin_text: str,
        alias_text: str,
        exists: Callable[[str], bool],
    ) -> None:
        self.depends = None if dep_text is None else parse_dep(dep_text)
        self.by_name = {module_name(path): path for path in self.depends or ()}
        self.builtin = {module_name(line.strip()) for line in builtin_text.splitlines() if line.strip()}
        self.soft_of = parse_softdep(softdep_text)
        self.alias_text = alias_text
        self.exists = exists
        self.order: list[str] = []
        self.required_by: dict[str, list[str]] = {}
        self.hard: set[str] = set()
        self.seen: set[tuple[str, str, bool]] = set()
        self.warnings: list[str] = []

    def resolve(self, names: Sequence[str]) -> Resolution:
        builtin: list[str] = []
        missing: list[str] = []
        others: list[tuple[str, str]] = []
        for name in dict.fromkeys(names):
            path = self.find(name)
            if path is not None:
                # Without its compression (an image may carry it so) it is no less the module that was named.
                if "/" in name and path not in (name, f"{stem(name)}.ko"):
                    others.append((name, path))
                self.add(path, name, hard=True)
            elif module_name(name) in self.builtin:
                builtin.append(name)
            else:
                missing.append(name)
        if others:
            listed = ", ".join(f'"{path}" for "{name}"' for name, path in others)
            self._warn(f"{_count(others)} not there as the file says, taking {listed}")
        if self.depends is None:
            self._warn_of_order()
        return Resolution(
            order=tuple(self.order),
            required_by={path: tuple(wanting) for path, wanting in self.required_by.items()},
            soft=frozenset(self.order) - self.hard,
            builtin=tuple(builtin),
            missing=tuple(missing),
            warnings=tuple(self.warnings),
        )

    def find(self, name: str) -> str | None:
        """The path below the directory for ``name``: as written, another compression, or where the dep file has it."""
        bare = "/" not in name and stem(name) == name
        listed = self.by_name.get(module_name(name))
        for each in filter(None, (None if bare else name, listed)):
            for path in (each, *(stem(each) + suffix for suffix in SUFFIXES)):
                if self.exists(path):
                    return path
        return None

    def add(self, path: str, wanted: str, *, hard: bool, above: tuple[str, ...] = ()) -> None:
        """Put ``path`` into the order, after what it depends on. ``above``: the paths that led here."""
        if path in above:
            cycle = " -> ".join(module_name(each) for each in (*above[above.index(path) :], path))
            self._warn(f"modules depend on each other: {cycle}; loading them in the order found")
            return
        if (path, wanted, hard) in self.seen:
            return
        self.seen.add((path, wanted, hard))
        wanting = self.required_by.setdefault(path, [])
        if wanted not in wanting:
            wanting.append(wanted)
        if hard:
            self.hard.add(path)
        before, after = self.soft_of.get(module_name(path), ((), ()))
        for soft in self._soft_paths(before):
            self.add(soft, wanted, hard=False, above=(*above, path))
        for needed in self._dependencies(path):
            self.add(needed, wanted, hard=hard, above=(*above, path))
        if path not in self.order:
            self.order.append(path)
        for soft in self._soft_paths(after):
            if soft not in above:
                self.add(soft, wanted, hard=False, above=(*above, path))

    def _dependencies(self, path: str) -> Iterable[str]:
        if self.depends is None:
            return
        listed = self.depends.get(path)
        if listed is None:
            known = self.by_name.get(module_name(path))
            if known is None:
                self._warn(f'module "{path}" is not in the dep file: loading it without what it may depend on')
                return
            listed = self.depends[known]
        # modprobe's files list the whole closure, nearest first: what is needed first stands last.
        for needed in reversed(listed):
            found = self.find(needed)
            if found is not None:
                yield found
            elif module_name(needed) not in self.builtin:
                self._warn(f'module "{module_name(path)}" depends on "{needed}", which is not there')

    def _soft_paths(self, names: Iterable[str]) -> list[str]:
        found = []
        for name in names:
            for real in (name.replace("-", "_"), *self._aliases(name)):
                path = self.by_name.get(real)
                if path is not None and self.exists(path) and path not in found:
                    found.append(path)
        return found

    def _aliases(self, alias: str) -> list[str]:
        """The modules that carry ``alias``; a search in the text, which has some 20,000 lines."""
        found = []
        for spelling in dict.fromkeys((alias, alias.replace("_", "-"), alias.replace("-", "_"))):
            line = f"alias {spelling} "
            at = self.alias_text.find(line)
            while at != -1:
                if at == 0 or self.alias_text[at - 1] == "\n":
                    end = self.alias_text.find("\n", at)
                    found.append(self.alias_text[at + len(line) : end if end != -1 else None].strip())
                at = self.alias_text.find(line, at + 1)
        return found

    def _warn_of_order(self) -> None:
        """Without a dep file only well-known mistakes can be seen."""
        place = {module_name(path): index for index, path in enumerate(self.order)}
        for name, needed in KNOWN_ORDER:
            if name in place and needed in place and place[needed] > place[name]:
                self._warn(f'module "{needed}" is listed after "{name}", which needs it; a modules.dep would sort them')

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)


def _count(found: Sequence[object]) -> str:
    return "1 module is" if len(found) == 1 else f"{len(found)} modules are"


KNOWN_ORDER = (
    ("9p", "9pnet"),
    ("9p", "netfs"),
    ("9p", "fscache"),
    ("9pnet_virtio", "9pnet"),
    ("9pnet_virtio", "virtio"),
    ("9pnet_virtio", "virtio_ring"),
    ("9pnet_fd", "9pnet"),
    ("ext4", "jbd2"),
    ("ext4", "mbcache"),
    ("ext4", "crc16"),
    ("ext4", "crc32c_generic"),
    ("fscache", "netfs"),
    ("net_failover", "failover"),
    ("nfs", "sunrpc"),
    ("nfs", "lockd"),
    ("nfsv4", "nfs"),
    ("virtio", "virtio_ring"),
    ("virtio_blk", "virtio"),
    ("virtio_console", "virtio"),
    ("virtio_mmio", "virtio"),
    ("virtio_net", "net_failover"),
    ("virtio_net", "virtio"),
    ("virtio_pci", "virtio"),
    ("virtio_pci", "virtio_pci_legacy_dev"),
    ("virtio_pci", "virtio_pci_modern_dev"),
    ("virtio_pci", "virtio_ring"),
    ("virtiofs", "fuse"),
    ("virtiofs", "virtio"),
)
"""Pairs of a module and one that it needs, for lists without a dep file. Not complete, and need not be."""


def parse_dep(text: str) -> dict[str, tuple[str, ...]]:
    """modules.dep: the path of each module with the paths of what it needs."""
    table: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        path, colon, rest = line.partition(":")
        if colon and not line.startswith("#"):
            table[path.strip()] = tuple(rest.split())
    return table


def parse_softdep(text: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """modules.softdep: module name -> (wanted before, wanted after). Words without ``pre:`` or ``post:`` are ignored."""
    table: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0] != "softdep":
            continue
        lists: dict[str, list[str]] = {"pre:": [], "post:": []}
        current: list[str] | None = None
        for word in words[2:]:
            if word in lists:
                current = lists[word]
            elif current is not None:
                current.append(word)
        name = words[1].replace("-", "_")
        before, after = table.get(name, ((), ()))
        table[name] = ((*before, *lists["pre:"]), (*after, *lists["post:"]))
    return table
