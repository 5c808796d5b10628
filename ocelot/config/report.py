"""What is wrong with a file, for people and for programs."""

from __future__ import annotations

import msgspec

from ocelot.config.findings import Finding, printable
from ocelot.config.loading import Loaded

_RED, _YELLOW, _BOLD, _DIM, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_WIDTH = 100


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The JSON form of what validation found."""

    valid: bool
    errors: list[Finding]
    warnings: list[Finding]


def render(loaded: Loaded, filename: str, *, colour: bool = False) -> str:
    """Each problem in file order with its source line and a caret, ending in a newline; empty when there is none."""
    findings = sorted((*loaded.errors, *loaded.warnings), key=lambda finding: (finding.line, finding.column))
    return "".join(_problem(finding, printable(filename), colour) for finding in findings)


def summary(loaded: Loaded, *, strict: bool = False) -> str:
    """``Configuration is valid``, or how many problems there are."""
    if loaded.valid(strict=strict):
        return "Configuration is valid"
    counts = [_count(len(loaded.errors), "error"), _count(len(loaded.warnings), "warning")]
    return f"Configuration is not valid: {', '.join(count for count in counts if count)}"


def to_json(loaded: Loaded, *, strict: bool = False) -> bytes:
    """``{"valid": ..., "errors": [...], "warnings": [...]}``; ``strict`` lets warnings make the file invalid."""
    report = Report(valid=loaded.valid(strict=strict), errors=loaded.errors, warnings=loaded.warnings)
    return msgspec.json.encode(report)


def _problem(finding: Finding, filename: str, colour: bool) -> str:
    place = f"{filename}:{finding.line}:{finding.column}" if finding.line else filename
    path = f"{printable(finding.path)}: " if finding.path else ""
    hint = f" ({printable(finding.hint)})" if finding.hint else ""
    message, severity = printable(finding.message), finding.severity
    if colour:
        tint = _RED if severity == "error" else _YELLOW
        place, severity_text, hint = f"{_BOLD}{place}{_PLAIN}", f"{tint}{severity}{_PLAIN}", f"{_DIM}{hint}{_PLAIN}"
    else:
        severity_text = severity
    text = f"{place}: {severity_text}: {path}{message}{hint}\n"
    if finding.also_line and finding.also_line < finding.line:
        text += _excerpt(finding.also_line, 0, finding.also_source)
    if finding.line and finding.source and finding.column <= len(finding.source) + 1:  # it may have been cut
        text += _excerpt(finding.line, finding.column, finding.source)
    if finding.also_line > finding.line:
        text += _excerpt(finding.also_line, 0, finding.also_source)
    return text


def _excerpt(line: int, column: int, source: str) -> str:
    """The source line with its number and a caret below ``column``; of a long line, the part around it."""
    start = max(0, min(column - 1, len(source)) - _WIDTH + 20) if len(source) > _WIDTH else 0
    shown = source[start : start + _WIDTH]
    text = f"  {line:>4} | {shown}\n"
    if 0 < column <= len(source) + 1:
        indent = "".join("\t" if letter == "\t" else " " for letter in source[start : column - 1])
        text += f"       | {indent}^\n"
    return text


def _count(number: int, noun: str) -> str:
    if not number:
        return ""
    return f"{number} {noun}" + ("" if number == 1 else "s")
