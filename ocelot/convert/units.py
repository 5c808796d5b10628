"""systemd's unit files as text: sections, continuations, drop-ins, quoting and specifiers (systemd.syntax(7), systemd.unit(5))."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field

from ocelot.errors import OcelotError

Section = dict[str, list[str]]


@dataclass
class Unit:
    """``name`` with its suffix; ``instance`` of a template. Every key has the list of its assignments."""

    name: str
    path: str
    sections: dict[str, Section] = field(default_factory=dict)
    instance: str = ""

    def all(self, section: str, key: str) -> list[str]:
        return self.sections.get(section, {}).get(key, [])

    def last(self, section: str, key: str, default: str = "") -> str:
        found = self.all(section, key)
        return found[-1] if found else default

    def words(self, section: str, key: str) -> list[str]:
        return [word for line in self.all(section, key) for word in line.split()]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]


def load(path: str) -> Unit:
    """The unit file and its drop-ins (``NAME.d/*.conf`` beside it). Raises OcelotError."""
    if os.path.realpath(path) == os.devnull:
        raise OcelotError(f'cannot convert "{path}": it is masked (a link to /dev/null)')
    name = os.path.basename(path)
    unit = Unit(name, path, instance=re.sub(r"^[^@]*@?|\.\w+$", "", name) if "@" in name else "")
    for file in [path, *sorted(glob.glob(f"{glob.escape(path)}.d/*.conf"))]:
        _parse(file, unit)
    return unit


def _parse(path: str, unit: Unit) -> None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise OcelotError(f'cannot read "{path}": {error.strerror}') from None
    section: Section | None = None
    for line in _joined(text):
        if line.startswith("[") and line.endswith("]"):
            section = unit.sections.setdefault(line[1:-1], {})
            continue
        key, equals, value = line.partition("=")
        if not equals or section is None:
            raise OcelotError(f'cannot read "{path}": {line}', hint="a unit file has [Section] and Key=value lines")
        values = section.setdefault(key.strip(), [])
        if value.strip():
            values.append(value.strip())
        else:
            values.clear()  # an empty assignment forgets the ones before it


def _joined(text: str) -> list[str]:
    """Lines, continued ones put together, comments out."""
    lines, held = [], ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        line = (held + line).strip()
        held = ""
        if line:
            lines.append(line)
    return lines


def expand(text: str, unit: Unit) -> str:
    """Specifiers: those that are known on another machine too; others stay as they are."""
    prefix = unit.stem.partition("@")[0]
    known = {
        "%": "%", "n": unit.name, "N": unit.stem, "p": prefix, "P": prefix, "i": unit.instance, "I": unit.instance,
        "j": prefix.rpartition("-")[2], "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc",
        "T": "/tmp", "V": "/var/tmp", "h": "/root", "u": "root", "U": "0", "g": "root", "G": "0", "s": "/bin/sh",
    }  # fmt: skip
    return re.sub(r"%(.)", lambda match: known.get(match[1], match.group()), text)


_ESCAPES = {"n": "\n", "t": "\t", "s": " ", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "r": "\r", "v": "\v"}  # fmt: skip


def split(text: str) -> list[str]:
    """Words, with systemd's quotes and escapes. Raises OcelotError for a quote that is not closed."""
    found: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            escape, size = _escape(text[at + 1 :])
            word, at = (word or "") + escape, at + 1 + size
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "\"'":
            quote, word = char, word or ""
        elif char.isspace():
            if word is not None:
                found.append(word)
            word = None
        else:
            word = (word or "") + char
        at += 1
    if quote:
        raise OcelotError(f"cannot read the command line {text}: a quote is not closed")
    return found if word is None else [*found, word]


def _escape(rest: str) -> tuple[str, int]:
    """What an escape stands for, and how long it is after the backslash."""
    if rest[0] == "x" and re.match(r"x[0-9a-fA-F]{2}", rest):
        return chr(int(rest[1:3], 16)), 3
    return _ESCAPES.get(rest[0], "\\" + rest[0]), 1
