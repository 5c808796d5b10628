"""What everything that starts a program has in common: its name, folder, environment and deadline."""

from __future__ import annotations

from ocelot.config.findings import Path, quoted
from ocelot.config.places import Places


def check_program(program: str, path: Path, places: Places) -> None:
    if not program:
        places.error(path, "must not be empty")
    elif program.endswith("/"):
        places.error(path, f"{quoted(program)} is a folder, not a program")
    elif (any(letter in program for letter in " \t\n") and not program.startswith("/")) or " -" in program:
        places.warn(path, f"{quoted(program)} is taken as one name, spaces and all", 'write the rest under "arguments"')


def check_time(seconds: float | None, path: Path, places: Places) -> None:
    """A deadline of nothing can never be met."""
    if seconds == 0:
        places.error(path, "must be longer than 0s", "leave it out for the default")


def check_working_directory(directory: str | None, path: Path, places: Places) -> None:
    if directory is not None and not directory.startswith("/"):
        places.error((*path, "workingDirectory"), f"{quoted(directory)} is not an absolute path")


def check_environment(environment: dict[str, str], path: Path, places: Places) -> None:
    for name in environment:
        if not name or any(letter.isspace() or letter in "=\0" for letter in name):
            places.error((*path, name), f"{quoted(name)} cannot be the name of an environment variable", key=True)
