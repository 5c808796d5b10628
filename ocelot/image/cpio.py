"""The cpio "newc" format that the kernel unpacks as its initramfs (Documentation/driver-api/early-userspace/
buffer-format.rst), written and read without root: devices are entries like any other.

What is written depends on the entries alone: owner 0, time 0, inode numbers counted. Hard links are not used.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ocelot.errors import OcelotError

MAGIC = b"070701"
_HEADER = 110
_TRAILER = "TRAILER!!!"

MAX_SIZE = 0xFFFFFFFF
"""Of a file, in bytes: the header has eight digits for it."""


@dataclass(frozen=True)
class Entry:
    """One file. ``path`` is relative; ``mode`` carries the type, as in stat(2); ``data`` of a link is its target."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, stat.S_IFREG | mode, data)


def link(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, os.fsencode(target))


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    return Entry(path, stat.S_IFCHR | mode, b"", (major, minor))


def arrange(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Sorted, parents before children, missing parents added. OcelotError when two entries disagree about a path.

    The kernel silently drops a file whose folder does not exist yet.
    """
    known: dict[str, Entry] = {}
    for entry in entries:
        path = entry.path.strip("/")
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise OcelotError(f'cannot put "{entry.path}" into an archive', hint="use a plain path below the root")
        entry = Entry(path, entry.mode, entry.data, entry.device)
        if path in known and known[path] != entry:
            raise OcelotError(f'cannot put "/{path}" into the archive twice, with different contents')
        known[path] = entry
    for path in tuple(known):
        parent = os.path.dirname(path)
        while parent and parent not in known:
            known[parent] = folder(parent)
            parent = os.path.dirname(parent)
    for path in known:
        parent = os.path.dirname(path)
        if parent and not stat.S_ISDIR(known[parent].mode):
            raise OcelotError(f'cannot put "/{path}" into the archive: "/{parent}" is not a folder')
    return tuple(known[path] for path in sorted(known, key=lambda name: name.split("/")))


def write(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive, in pieces. Entries are taken in the order given: see :func:`arrange`."""
    number = 0
    for number, entry in enumerate(entries, start=1):
        yield from _record(number, entry)
    yield from _record(number + 1, Entry(_TRAILER, 0))


def _record(number: int, entry: Entry) -> Iterator[bytes]:
    name = os.fsencode(entry.path) + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    yield MAGIC + b"".join(b"%08X" % field for field in fields) + name + _padding(_HEADER + len(name))
    yield entry.data + _padding(len(entry.data))


def _padding(length: int) -> bytes:
    return b"\0" * (-length % 4)


def read(archive: bytes, offset: int = 0) -> tuple[tuple[Entry, ...], int]:
    """The entries of the archive that begins at ``offset``, and where it ends. OcelotError when it is damaged."""
    entries: list[Entry] = []
    while True:
        header = archive[offset : offset + _HEADER]
        if len(header) < _HEADER or header[:6] != MAGIC:
            raise OcelotError(f"cannot read the archive: no entry at byte {offset}")
        try:
            fields = [int(header[6 + 8 * index : 14 + 8 * index], 16) for index in range(13)]
        except ValueError as error:
            raise OcelotError(f"cannot read the archive: damaged entry at byte {offset}") from error
        _, mode, _, _, _, _, size, _, _, major, minor, name_size, _ = fields
        start = offset + _HEADER + name_size + (-(_HEADER + name_size) % 4)
        name = os.fsdecode(archive[offset + _HEADER : offset + _HEADER + name_size].rstrip(b"\0"))
        offset = start + size + (-size % 4)
        if offset > len(archive) + 3:
            raise OcelotError("cannot read the archive: it ends early")
        if name == _TRAILER:
            return tuple(entries), min(offset, len(archive))
        entries.append(Entry(name, mode, archive[start : start + size], (major, minor)))


def take_folder(source: str, destination: str) -> Iterator[Entry]:
    """Entries for the folder ``source`` and everything in it, under the path ``destination``.

    Modes come down to "may be executed" or not: the umask of whoever made the folder does not show.
    """
    yield folder(destination)
    for found in sorted(os.scandir(source), key=lambda entry: entry.name):
        yield from take(found.path, f"{destination}/{found.name}")


def take(source: str, destination: str) -> Iterator[Entry]:
    """Entries for the file, link or folder ``source`` under the path ``destination``."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        yield link(destination, os.readlink(source))
    elif stat.S_ISDIR(status.st_mode):
        yield from take_folder(source, destination)
    elif stat.S_ISREG(status.st_mode):
        yield file(destination, _read(source, status.st_size), 0o755 if status.st_mode & 0o100 else 0o644)
    else:
        raise OcelotError(f'cannot take "{source}" in: it is neither a file, a link nor a folder')


def _read(source: str, size: int) -> bytes:
    if size > MAX_SIZE:
        raise OcelotError(f'cannot take "{source}" in: it has {size} bytes, and the format ends at {MAX_SIZE}')
    try:
        with open(source, "rb") as opened:
            return opened.read()
    except OSError as error:  # that of a read, as of files in /proc, would not name the file
        raise OcelotError(f'cannot take "{source}" in: {os.strerror(error.errno or 0)}') from error
