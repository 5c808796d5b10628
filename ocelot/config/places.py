"""Where in the file a value of the configuration came from, for problems that show only once all of it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ocelot.config.findings import Findings, Path
from ocelot.config.nodes import Mapping, Node, Scalar, Sequence

_SPELLINGS = {
    "environmentVariables": ("environment",),
    "environment": ("environmentVariables",),
    "path": ("command",),
    "timeout": ("timeoutSecs",),
    "shutdownTimeout": ("shutdownTimeoutSecs",),
}


T = TypeVar("T")


def present(items: Iterable[T]) -> Iterator[tuple[int, T]]:
    """The items of a list with their indexes, without those that could not be read."""
    return ((index, item) for index, item in enumerate(items) if item is not None)


class Places:
    """Reports problems by key path. Paths are those of the records; other spellings in the file are followed."""

    def __init__(self, document: Node | None, findings: Findings) -> None:
        self._document = document
        self._findings = findings
        self._refused = set(findings.refused)
        self.booting = False
        """Whether the file is about to be carried out: then what is on the machine tells more than a guess from the file."""

    def error(self, path: Path, message: str, hint: str = "", *, also: Path | None = None, key: bool = False) -> None:
        """``key``: it is about the last key of ``path``, not about its value, which may stand in another line."""
        node, actual, _ = self._locate(path)
        if self._is_said(path, actual):
            return
        node = (self._key(path) if key else None) or node
        self._findings.error(actual, node, message, hint, also=self._locate(also)[0] if also else None)

    def warn(self, path: Path, message: str, hint: str = "", *, also: Path | None = None, key: bool = False) -> None:
        """As above."""
        node, actual, _ = self._locate(path)
        if self._is_said(path, actual):
            return
        node = (self._key(path) if key else None) or node
        self._findings.warn(actual, node, message, hint, also=self._locate(also)[0] if also else None)

    def _is_said(self, path: Path, actual: Path) -> bool:
        """Whether the value there was refused before: nothing more is known about it."""
        return path in self._refused or actual in self._refused

    def given(self, path: Path) -> bool:
        """Whether the file says anything but null there."""
        node, _, exact = self._locate(path)
        return exact and not (isinstance(node, Scalar) and node.is_null)

    def is_null(self, path: Path) -> bool:
        """Whether the key is there and holds nothing."""
        node, _, exact = self._locate(path)
        return exact and isinstance(node, Scalar) and node.is_null

    def broken(self, path: Path) -> bool:
        """Whether something at ``path`` or below it is wrong, so that the record there holds less than the file."""
        _, actual, _ = self._locate(path)
        return actual in self._findings.broken

    def line(self, path: Path) -> int:
        """The line of the value at ``path``, or of what is nearest above it; 0 in an empty file."""
        node, _, _ = self._locate(path)
        return node.line if node else 0

    def index(self, path: Path, text: str) -> int:
        """Which item of the list at ``path`` reads ``text``; the first, or 0."""
        node, _, _ = self._locate(path)
        items = node.items if isinstance(node, Sequence) else ()
        return next((i for i, item in enumerate(items) if isinstance(item, Scalar) and item.text == text), 0)

    def _key(self, path: Path) -> Scalar | None:
        holder, _, _ = self._locate(path[:-1])
        entry = holder.entries.get(str(path[-1])) if isinstance(holder, Mapping) else None
        return entry[0] if entry else None

    def _locate(self, path: Path) -> tuple[Node | None, Path, bool]:
        """The node at ``path`` (or the nearest above it), the path as the file spells it, and whether it is that."""
        node, parent = self._document, None
        actual: list[str | int] = []
        for index, step in enumerate(path):
            if isinstance(node, Mapping):
                if step == 0:  # a single record where a list could be
                    continue
                key = _spelling(node, str(step))
                if key is None and step == "processes":  # a process beside "processes"
                    continue
                if key is None and index and path[index - 1] == "processes" and parent and step in parent.entries:
                    node, key = parent, str(step)
                    actual.pop()
                if key is None:
                    return node, (*actual, *path[index:]), False
                parent, node = node, node.entries[key][1]
                actual.append(key)
            elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                actual.append(step)
            else:
                return node, (*actual, *path[index:]), False
        return node, tuple(actual), True


def _spelling(node: Mapping, key: str) -> str | None:
    return next((each for each in (key, *_SPELLINGS.get(key, ())) if each in node.entries), None)
