"""What a converted file is made of, and how it is written: YAML, with a comment for everything that has no counterpart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass
class Entry:
    """One process. ``keys`` as they are written; ``about``: a word on what it is; ``lost``: settings without a counterpart.

    ``withheld``: why it can only be written as a comment: it could not run as it stands.
    """

    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    about: str = ""
    lost: list[str] = field(default_factory=list)
    withheld: str = ""

    def lose(self, setting: str, why: str) -> None:
        """``setting`` of the source (``Key=value``) is not in the result."""
        self.lost.append(f"{setting}: {why}" if why else setting)


@dataclass
class Draft:
    """A whole file. ``sections``: keys of the top level; ``lost``: settings of the source's global part."""

    source: str
    entries: list[Entry] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def lose(self, setting: str, why: str) -> None:
        self.lost.append(f"{setting}: {why}" if why else setting)

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    @property
    def losses(self) -> int:
        return len(self.lost) + sum(len(entry.lost) + bool(entry.withheld) for entry in self.entries)


def write(draft: Draft) -> str:
    """The YAML text. Comments keep the words of the source, so that nothing goes without being seen."""
    lines = [f"# Made by ocelot convert from {_one_line(draft.source)}", 'version: "1.0"']
    lines += _comments(draft.lost)
    for key, value in draft.sections.items():
        lines += _yaml({key: value})
    live = [entry for entry in draft.entries if not entry.withheld]
    lines += ["", "processes:" if live else "processes: {}"]
    for entry in draft.entries:
        lines += _entry(entry)
    return "\n".join(lines) + "\n"


def _entry(entry: Entry) -> list[str]:
    lines = []
    if entry.about:
        lines.append(f"  # {_one_line(entry.about)}")
    body = ["  " + line for line in _yaml({entry.name: entry.keys})]
    notes = ["    " + line for line in _comments(entry.lost)]
    if entry.withheld:
        lines.append(f"  # NOT CONVERTED: {_one_line(entry.withheld)}")
        lines += ["  #" + line for line in body] + [line.replace("    ", "  ", 1) for line in notes]
    else:
        lines += [body[0], *notes, *body[1:]]
    return [*lines, ""]


def _comments(lost: Iterable[str]) -> list[str]:
    return [f"# not taken over: {_one_line(text)}" for text in lost]


def _one_line(text: str) -> str:
    """Whatever the source says, a comment stays a comment."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key, as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(data: Mapping[str, Any]) -> list[str]:
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10**6)
    return str(text).splitlines()


def seconds(value: float) -> str:
    """A duration as the file has it: ``90s``, ``250ms``."""
    if value and value < 1:
        return f"{value * 1000:g}ms"
    return f"{value:g}s"
