"""What a reload did or would do, as lines for people, from the plain data of a reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_EFFECTS = {"live": "no restart", "restart": "restart", "reboot": "needs a new start of ocelot"}
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def told(reply: dict[str, Any]) -> Iterator[str]:
    """A line for each field: ``web: environmentVariables.PORT: 80 -> 81 (restart)``. What is new or gone has one line."""
    for entry in reply["entries"]:
        sign = _SIGNS[entry["change"]]
        if entry["change"] == "changed":
            for field in entry["fields"]:
                yield f"{sign} {entry['name']}: {_field(field)}"
        else:
            yield f"{sign} {entry['name']}: {entry['change']}"
    for field in reply["sections"]:
        yield f"~ {_field(field)}"
    if reply["restarted"]:
        yield f"{'restarted' if reply['applied'] else 'would be restarted'}: {', '.join(reply['restarted'])}"
    for line in reply["failed"]:
        yield f"failed: {line}"
    if not (reply["entries"] or reply["sections"] or reply["problems"]):
        yield "nothing has changed"


def _field(field: dict[str, Any]) -> str:
    before, after = (_value(field[key]) for key in ("before", "after"))
    before += " (scaled)" if field["scaled"] else ""
    return f"{field['path']}: {before} -> {after} ({_EFFECTS[field['effect']]})"


def _value(value: str | None) -> str:
    if value is None:
        return "(not set)"
    return value if value and value == value.strip() else f'"{value}"'
