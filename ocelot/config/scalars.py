"""What one scalar means where a certain type is wanted: text as it stands, true and false, numbers, durations, ...

Each function takes the findings, the node and its path, and returns the value or INVALID. The text form of YAML 1.1's
booleans and numbers stays text (``on``, ``0644``, ``1e3``) unless a key asks for something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ocelot.config import values
from ocelot.config.findings import Findings, Path, quoted
from ocelot.config.nodes import Mapping, Node, Scalar, Sequence

INVALID: Any = object()
"""Stands for a value that could not be read; the reason is among the findings."""

Convert = Callable[[Findings, Node, Path], Any]


def describe(node: Node) -> str:
    """What kind of thing a node is, for messages."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    assert isinstance(node, Scalar)
    return "empty" if node.is_null else quoted(node.text)


def text(findings: Findings, node: Node, path: Path) -> Any:
    """A scalar's text as it stands in the file."""
    if not isinstance(node, Scalar):
        hint = ""
        if isinstance(node, Sequence) and path and path[-1] in ("program", "command", "path"):
            hint = 'write the program here and the rest under "arguments"'
        findings.error(path, node, f"must be text, not {describe(node)}", hint)
        return INVALID
    if "\0" in node.text:
        findings.error(path, node, "contains a NUL character, which no path or argument can hold")
        return INVALID
    return node.text


TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_MEANT = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "1": "true",
    "no": "false",
    "off": "false",
    "n": "false",
    "0": "false",
}


def boolean(findings: Findings, node: Node, path: Path) -> Any:
    """A plain ``true`` or ``false``; INVALID for anything else, which is added to ``findings``."""
    if isinstance(node, Scalar) and node.plain and node.text in TRUE + FALSE:
        return node.text in TRUE
    hint = ""
    if isinstance(node, Scalar):
        word = node.text.lower()
        meant = _MEANT.get(word) or (word if word in ("true", "false") else None)
        if meant:
            hint = f"write {meant}" + (" without quotes" if not node.plain else "")
    findings.error(path, node, f"must be true or false, not {describe(node)}", hint)
    return INVALID


_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)


def integer(findings: Findings, node: Node, path: Path) -> Any:
    """A plain whole number of less than 20 digits, else INVALID as above."""
    if isinstance(node, Scalar) and _INTEGER.fullmatch(node.text) and len(node.text) < 20:
        if node.plain:
            return int(node.text)
        findings.error(path, node, "must be a number, not text", "remove the quotes")
        return INVALID
    hint = ""
    if isinstance(node, Scalar) and _INTEGER.fullmatch(node.text.replace("_", "").lstrip("0")):
        hint = f"write {node.text.replace('_', '').lstrip('0')}"
    findings.error(path, node, f"must be a whole number, not {describe(node)}", hint)
    return INVALID


def number(findings: Findings, node: Node, path: Path) -> Any:
    """A plain finite number, else INVALID as above."""
    if isinstance(node, Scalar) and _NUMBER.fullmatch(node.text):
        parsed = float(node.text)
        if node.plain and parsed - parsed == 0:  # neither infinite nor NaN
            return parsed
        findings.error(path, node, "must be a number, not text" if not node.plain else "is too large", "")
        return INVALID
    findings.error(path, node, f"must be a number, not {describe(node)}")
    return INVALID


def seconds(findings: Findings, node: Node, path: Path) -> Any:
    """A key that ends in Secs: a plain number of seconds."""
    count = number(findings, node, path)
    if count is not INVALID and not 0 <= count <= values.MAX_DURATION:
        findings.error(path, node, "must be a number of seconds from 0")
        return INVALID
    return count


def _parsed(parse: Callable[[str], Any], noun: str) -> Convert:
    def convert(findings: Findings, node: Node, path: Path) -> Any:
        if not isinstance(node, Scalar):
            findings.error(path, node, f"must be {noun}, not {describe(node)}")
            return INVALID
        try:
            return parse(node.text)
        except ValueError as error:
            message, _, hint = str(error).partition(": ")
            findings.error(path, node, message, hint)
            return INVALID

    return convert


_signal_word = _parsed(values.parse_signal, "a signal")


def _signal(findings: Findings, node: Node, path: Path) -> Any:
    """``SIGTERM``, 15, ``{type: name, value: SIGTERM}``, ``{type: number, value: 15}`` or ``{type: sigterm}``."""
    if not isinstance(node, Mapping):
        return _signal_word(findings, node, path)
    kind = node.entries.get("type")
    value = node.entries.get("value")
    others = [key for key in node.entries if key not in ("type", "value")]
    if others:
        key = node.entries[others[0]][0]
        findings.error((*path, others[0]), key, f"unknown key {quoted(others[0])}", "the keys here are type and value")
        return INVALID
    if value is not None:
        if kind is not None and not (isinstance(kind[1], Scalar) and kind[1].text.lower() in ("name", "number")):
            findings.error((*path, "type"), kind[1], f"must be name or number, not {describe(kind[1])}")
            return INVALID
        return _signal_word(findings, value[1], (*path, "value"))
    if kind is None:
        findings.error(path, node, "the signal is missing", 'write for example "SIGTERM"')
        return INVALID
    if isinstance(kind[1], Scalar) and kind[1].text.lower() in ("name", "number"):
        findings.error(path, node, '"value" is missing', "write for example {type: name, value: SIGTERM}")
        return INVALID
    return _signal_word(findings, kind[1], (*path, "type"))


FORMATS: dict[str, Convert] = {
    "text": text,
    "duration": _parsed(values.parse_duration, "a duration"),
    "size": _parsed(values.parse_size, "a size"),
    "mode": _parsed(values.parse_mode, "an octal mode"),
    "signal": _signal,
    "limit": _parsed(values.parse_limit, "a limit"),
    "cpus": _parsed(values.parse_cpus, "a share of processors"),
}
