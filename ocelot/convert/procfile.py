"""Procfile (foreman, Heroku): one command line a process."""

from __future__ import annotations

import os
import re

from ocelot.convert import words
from ocelot.convert.draft import Draft, Entry
from ocelot.errors import OcelotError

_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(.+)$")
BASE_PORT = 5000
"""foreman's first PORT; each further kind of process gets 100 more."""


def read(path: str) -> Draft:
    """Raises OcelotError."""
    draft = Draft(path)
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OcelotError(f'cannot read "{path}": {error}') from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise OcelotError(f"cannot read {path}:{number}: {line}", hint="a line is NAME: COMMAND")
        draft.entries.append(_process(match[1], match[2], folder, BASE_PORT + 100 * len(draft.entries)))
    return draft


def _process(name: str, command: str, folder: str, port: int) -> Entry:
    entry = Entry(name)
    entry.keys |= words.command_line(command, f'the command of "{name}"')
    entry.keys["workingDirectory"] = folder
    if re.search(r"\$\{?PORT\b", command):
        entry.keys["environmentVariables"] = {"PORT": str(port)}
    if os.path.exists(os.path.join(folder, ".env")):
        entry.keys["environmentFile"] = os.path.join(folder, ".env")
    if name == "release":
        entry.keys["type"] = "oneshot"
        entry.about = "a release command: other processes may wait for it with dependsOn"
    else:
        # foreman ends everything when one process ends
        entry.keys["essential"] = True
    return entry
