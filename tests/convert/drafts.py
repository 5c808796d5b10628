"""What the tests of converting share: a file is read, and a process of the draft looked at."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from ocelot.convert.command import check, convert
from ocelot.convert.draft import Draft, write


def made(folder: Path, name: str, text: str) -> Draft:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return convert([str(path)])


def keys(draft: Draft, name: str) -> dict[str, Any]:
    """As the written file has them, which ocelot accepts."""
    text = write(draft)
    assert check(text) == []
    found = yaml.safe_load(text)["processes"][name]
    assert isinstance(found, dict)
    return found


def losses(draft: Draft, name: str) -> str:
    entry = draft.entry(name)
    assert entry is not None
    return "\n".join(entry.lost)
