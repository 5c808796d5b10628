"""``ocelot convert``: reads files of another supervisor and prints a file for ``ocelot supervise``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence

from ocelot.convert import compose, procfile, supervisord, systemd
from ocelot.convert.draft import Draft, write
from ocelot.errors import OcelotError, UsageError

FORMATS = ("supervisord", "systemd", "procfile", "compose")


def run(options: argparse.Namespace) -> int:
    """0: converted; 1: not, or with losses under --strict. What was lost is told on standard error, too."""
    draft = convert(options.files, options.format)
    text = write(draft)
    problems = check(text)
    if options.output:
        try:
            with open(options.output, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise OcelotError(f'cannot write "{options.output}": {error.strerror}') from None
    else:
        sys.stdout.write(text)
    done = sum(not entry.withheld for entry in draft.entries)
    told = f"{done} of {len(draft.entries)} converted" if done < len(draft.entries) else f"{done} converted"
    losses = draft.losses
    more = f", {losses} setting{'s' * (losses != 1)} without a counterpart (see the comments)" if losses else ""
    print(f"ocelot convert: {told}{more}", file=sys.stderr)
    for problem in problems:
        print(f"ocelot convert: look at this by hand: {problem}", file=sys.stderr)
    return 1 if problems or (options.strict and losses) else 0


def convert(files: Sequence[str], format: str | None = None) -> Draft:
    """Raises OcelotError: a file that cannot be read, UsageError: a format that cannot be found out."""
    format = format or detect(files[0])
    if format == "systemd":
        return systemd.read(files)
    if len(files) > 1:
        raise UsageError(f"cannot convert several files of the kind {format} at once", hint="convert them one by one")
    return {"supervisord": supervisord.read, "procfile": procfile.read, "compose": compose.read}[format](files[0])


def detect(path: str) -> str:
    """The format of a file, by its name, else by what it contains. Raises OcelotError, UsageError."""
    name = os.path.basename(path).lower()
    if os.path.isdir(path) or name.endswith((".service", ".socket", ".timer")):
        return "systemd"
    if name.startswith("procfile"):
        return "procfile"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 20)
    except OSError as error:
        raise OcelotError(f'cannot read "{path}": {error.strerror}') from None
    if re.search(r"^\[(program:|supervisord\]|unix_http_server\]|include\])", text, re.MULTILINE):
        return "supervisord"
    if re.search(r"^services:", text, re.MULTILINE):
        return "compose"
    raise UsageError(f'cannot tell what "{path}" is', hint=f"say it with --from {', '.join(FORMATS)}")


def check(text: str) -> list[str]:
    """What ``ocelot supervise validate`` would refuse in the result, by its own words."""
    from ocelot.config.loading import load

    return [f"line {found.line}: {found.message}" for found in load(text.encode(), "the result", "supervise").errors]
