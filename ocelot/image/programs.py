"""Taking a program of this machine into an image: the file, the interpreter of a script, and the shared libraries.

Everything lies at the same path as here, since loaders and scripts name absolute paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ocelot.errors import OcelotError
from ocelot.image import cpio, elf
from ocelot.linux.inherited import DEFAULT_PATH

_NEEDS_A_LIBRARY = ("python", "perl", "ruby", "node", "lua", "php", "tclsh", "guile")


def find(name: str, path: str | None = None) -> str | None:
    """The absolute path of the program ``name``; a bare name is looked up on ``path`` (colons, as PATH)."""
    if "/" in name:
        return name if os.path.isfile(name) else None
    places = [os.path.join(folder, name) for folder in (path or DEFAULT_PATH).split(":") if folder]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def take_program(path: str, destination: str | None = None, *, search: str | None = None) -> Iterator[cpio.Entry]:
    """Entries for the program at the absolute ``path`` and all it needs to start.

    ``search`` is the PATH that an ``env`` in a script's first line will see. OcelotError when something is missing.
    """
    with open(path, "rb") as opened:
        data = opened.read()
    yield cpio.file((destination or path).lstrip("/"), data, 0o755)
    if data.startswith(b"\x7fELF"):
        yield from take_libraries(path)
    elif data.startswith(b"#!"):
        yield from _take_interpreter(path, data, search)


def take_libraries(path: str) -> Iterator[cpio.Entry]:
    """Entries for the shared libraries and the loader of the ELF file ``path``."""
    libraries = elf.shared_libraries([path])
    home = next((os.path.dirname(entry.path) for entry in libraries if entry.name.startswith("libc.")), "/usr/lib")
    for entry in libraries:
        # where only the loader's cache leads, the image's loader, which has no cache, would not look
        place = entry.path if entry.everywhere else os.path.join(home, entry.name)
        with open(entry.path, "rb") as opened:
            yield cpio.file(place.lstrip("/"), opened.read(), 0o755)


def _take_interpreter(path: str, data: bytes, search: str | None) -> Iterator[cpio.Entry]:
    words = data.split(b"\n", 1)[0][2:].decode(errors="replace").split()
    if not words:
        raise OcelotError(f'cannot take "{path}" in: its first line names no interpreter')
    named = [words[0]]
    if os.path.basename(words[0]) == "env":
        named += [word for word in words[1:] if not word.startswith("-") and "=" not in word][:1]
    for name in named:
        base = os.path.basename(name)
        if base.startswith(_NEEDS_A_LIBRARY):
            raise OcelotError(
                f'cannot take "{path}" in: it is a script for {base}, whose library would be missing',
                hint="use a shell script or a binary, or bring everything with --include",
            )
        found = find(name, search)
        if found is None:
            raise OcelotError(f'cannot take "{path}" in: its interpreter "{name}" is not on this machine')
        yield from take_program(found)
