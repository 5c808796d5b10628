"""Writing man(7): sections, paragraphs, tagged paragraphs, examples; groff and mandoc both read it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby


class Page:
    """A manual page as it grows. Text is plain: what stands in backticks becomes bold, nothing else is markup."""

    def __init__(self, name: str, section: int, summary: str, version: str) -> None:
        head = f".TH {quoted(name.upper())} {section} {_date()} {quoted(f'ocelot {version}')} {quoted('ocelot manual')}"
        self._lines = [head, ".nh", ".ad l"]
        self.section("Name")
        self._lines.append(f"{plain(name)} \\- {plain(summary)}")

    def section(self, title: str) -> None:
        self._lines.append(f".SH {quoted(title.upper())}")

    def subsection(self, title: str) -> None:
        self._lines.append(f".SS {quoted(title)}")

    def paragraphs(self, text: str) -> None:
        """Paragraphs are parted by empty lines; the lines of one are filled, but for indented ones, which stay as they are."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            for indented, lines in groupby(paragraph.splitlines(), lambda line: line.startswith(" ")):
                if indented:
                    self.example(line.strip() for line in lines)
                else:
                    self._part()
                    self._lines += _body(" ".join(lines))

    def _part(self) -> None:
        """A new paragraph; one that opens a section needs no request, and mandoc minds it."""
        if not self._lines[-1].startswith((".SH", ".SS")):
            self._lines.append(".PP")

    def tagged(self, tag: str, text: str) -> None:
        """A word or two, and what they mean. ``tag`` is roff already: see :func:`bold`, :func:`slanted`."""
        self._lines += [".TP", tag, *(_body(text) or ["\\&"])]

    def synopsis(self, words: str) -> None:
        """One command line, which is roff already."""
        self._part()
        self._lines.append(words)

    def example(self, lines: Iterable[str]) -> None:
        self._part()
        self._lines += [".nf", ".RS 4", *(plain(line) or "\\&" for line in lines), ".RE", ".fi"]

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def plain(text: str) -> str:
    """Text as it is: no escape, no request, hyphens that stay what they are when they are copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def bold(text: str) -> str:
    return f"\\fB{plain(text)}\\fR" if text else ""


def slanted(text: str) -> str:
    return f"\\fI{plain(text)}\\fR" if text else ""


def quoted(text: str) -> str:
    """An argument of a request."""
    return '"' + plain(text).replace('"', "\\(dq") + '"'


def _date() -> str:
    """Of today, or what a reproducible build says that it is (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)
    return now.strftime("%Y-%m-%d")


def _body(text: str) -> list[str]:
    """One filled paragraph, a sentence a line as roff likes it."""
    sentences = re.split(r"(?<=[.;:]) +(?=[A-Z`\"])", " ".join(text.split()))
    return [_marked(sentence) for sentence in sentences if sentence]


def _marked(text: str) -> str:
    parts = re.split(r"`+([^`]+)`+", text)
    marked = "".join(bold(part) if index % 2 else _inner(part) for index, part in enumerate(parts))
    return f"\\&{marked}" if marked[:1] in (".", "'") else marked


def _inner(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
