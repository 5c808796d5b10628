"""Standard output: how wide it is, whether it likes colour, and JSON on it."""

from __future__ import annotations

import io
import os
import sys


def print_json(value: object) -> None:
    """For programs, and on a terminal for eyes."""
    import json

    # Indented for eyes only: json's quick encoder cannot indent
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def columns() -> int | None:
    """The width of the terminal; None when the output goes elsewhere and may be as wide as it likes."""
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def moves_cursor() -> bool:
    """Whether the terminal, if there is one, can do more than print lines."""
    return os.environ.get("TERM", "dumb") != "dumb"


def tolerate() -> None:
    """Get along with the streams that we were given.

    What standard output cannot encode is shown as escapes: a locale may be older than UTF-8, a name no text at all. A stream that
    was closed (``>&-``) becomes /dev/null: else the connection to ocelot would get its number, and be taken for it.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115 (for as long as we live)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def colour(choice: str = "auto") -> bool:
    """Standard output is a terminal, and nobody said that it should stay plain (no-color.org), or ``choice`` decides."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
