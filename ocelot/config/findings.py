"""What is wrong with a file: one record a problem, with its place, and the words that all problems share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from msgspec import Struct

from ocelot.config.nodes import Node

Path = tuple[str | int, ...]
"""Where in the file: keys and list indexes from the top."""

SOURCE_LIMIT = 400
SHOWN_LIMIT = 160
WORD_LIMIT = 40


class Finding(Struct, frozen=True, kw_only=True, rename="camel"):
    """One problem. Lines and columns count from 1, columns in characters; 0 when the problem has no place in the file.

    ``also_line`` and ``also_source`` name a second place that the problem is about: the first of two duplicate keys.
    """

    severity: Literal["error", "warning"]
    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    source: str = ""
    also_line: int = 0
    also_source: str = ""

    def located(self, filename: str) -> str:
        """``file:line:column: path: message (hint)``, leaving out what is not known."""
        place = f"{filename}:{self.line}:{self.column}" if self.line else filename
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {path}{self.message}{hint}"


class Findings:
    """Collects the problems of one file while it is read, and cuts the offending lines out of its text."""

    def __init__(self, text: str = "") -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.broken: set[Path] = set()
        """What is wrong, or holds something that is: each place with all above it."""
        self.refused: set[Path] = set()
        """What is wrong itself."""
        self._lines = text.splitlines()

    def error(self, path: Path, node: Node | None, message: str, hint: str = "", *, also: Node | None = None) -> None:
        self.refuse(path)
        self.errors.append(self._finding("error", path, node, message, hint, also))

    def refuse(self, path: Path) -> None:
        """Nothing more is to be said about the value at ``path``."""
        self.refused.add(path)
        self.broken.update(path[:depth] for depth in range(len(path) + 1))

    def warn(self, path: Path, node: Node | None, message: str, hint: str = "", *, also: Node | None = None) -> None:
        self.warnings.append(self._finding("warning", path, node, message, hint, also))

    def error_at(self, line: int, column: int, message: str, hint: str = "") -> None:
        self.errors.append(
            Finding(
                severity="error",
                path="",
                line=line,
                column=column,
                message=message,
                hint=hint,
                source=self._source(line),
            )
        )

    def _finding(
        self,
        severity: Literal["error", "warning"],
        path: Path,
        node: Node | None,
        message: str,
        hint: str,
        also: Node | None,
    ) -> Finding:
        return Finding(
            severity=severity,
            path=path_text(path),
            line=node.line if node else 0,
            column=node.column if node else 0,
            message=message,
            hint=hint,
            source=self._source(node.line) if node else "",
            also_line=also.line if also else 0,
            also_source=self._source(also.line) if also else "",
        )

    def _source(self, line: int) -> str:
        return printable(self._lines[line - 1][:SOURCE_LIMIT]) if 0 < line <= len(self._lines) else ""


def path_text(path: Path) -> str:
    """``postSwitch.mounts[0].target``; keys that would be misread are quoted: ``sysctl["net.core.somaxconn"]``."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif step and step.replace("-", "").replace("_", "").isalnum():
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f'["{printable(step)}"]')
    return "".join(parts)


def printable(text: str) -> str:
    """``text`` without what could move a terminal's cursor: control characters become ``?``, a tab stays."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in text)


def quoted(text: str) -> str:
    """``text`` in double quotes for a message, on one line and of bearable length."""
    shown = text if len(text) <= SHOWN_LIMIT else text[: SHOWN_LIMIT - 3] + "..."
    return '"' + "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown) + '"'


def listed(words: Iterable[str], joint: str = "or") -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


def suggest(word: str, candidates: Collection[str]) -> str | None:
    """The candidate that ``word`` was probably meant to be: a few edits away, capitals and separators aside."""
    if len(word) > WORD_LIMIT:
        return None
    plain = _plain(word)
    for candidate in candidates:  # an abbreviation, or the other way round: warning, warn
        other = _plain(candidate)
        if min(len(plain), len(other)) >= 4 and (plain.startswith(other) or other.startswith(plain)):
            return candidate
    best, best_distance = None, (len(plain) + 3) // 3 if len(plain) > 2 else 1
    for candidate in candidates:
        other = _plain(candidate)
        if abs(len(other) - len(plain)) < best_distance:
            distance = _distance(plain, other)
            if distance < best_distance:
                best, best_distance = candidate, distance
    return best


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


def _distance(one: str, other: str) -> int:
    """Damerau-Levenshtein (optimal string alignment): swapped neighbours count once."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, opposite in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != opposite))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == opposite:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
