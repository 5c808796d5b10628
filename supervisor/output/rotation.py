"""Rotated log files: their names, which of them go, and their compression.

``app.log`` becomes ``app.log.20261123T094500Z-1``: the time (UTC) and a number that makes it unique, then ``.gz`` or ``.lz4``.
Only names of exactly this form are ever compressed or removed. The name is given with link(2), which never replaces
somebody else's file, and then a new file takes the place of the log file: at no moment is there none.

A compressed file appears under its name when it is whole and on the disk, and only then its original goes. So whatever
ends a machine in between leaves the original, or both, and the next :func:`tidy` does the rest.

Nothing here needs trio: :func:`tidy` runs in a worker thread.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from ocelot.config import structs
from ocelot.errors import OcelotError, describe

SUFFIXES = {"gzip": ".gz", "lz4": ".lz4"}
DAY = 86400.0

STALE = 3600.0
"""Seconds after which the beginnings of a rotation were surely given up."""

_PART = ".part"
"""What follows the name of a compressed file that is not whole yet."""

_ROTATED = re.compile(
    r"([0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])T[0-9]{6}Z)-([0-9]{1,9})(\.gz|\.lz4)?(\.part|\.new)?",
    re.ASCII,
)
_BLOCK = 256 * 1024


class Rotated(NamedTuple):
    """One old log file. They sort by age, the oldest first. ``name`` has no folder; ``suffix`` is that of the compression."""

    stamp: str
    number: int
    suffix: str
    name: str

    @property
    def at(self) -> float:
        """When it was rotated, in seconds since the epoch."""
        return _epoch(self.stamp)


def parse(base: str, name: str) -> Rotated | None:
    """What ``name`` says if it is an old file of the log file ``base`` (both without folder)."""
    if not name.startswith(base + "."):
        return None
    match = _ROTATED.fullmatch(name, len(base) + 1)
    if match is None or match[4]:
        return None
    return Rotated(match[1], int(match[2]), match[3] or "", name)


def _epoch(stamp: str) -> float:
    """Seconds since the epoch, without what time.strptime imports."""
    year, month, day = int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8])
    hours, minutes, seconds = int(stamp[9:11]), int(stamp[11:13]), int(stamp[13:15])
    year -= month < 3  # years begin in March here, so that a leap day is the last of one
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 719_469
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def old_files(path: str) -> list[Rotated]:
    """The old files of the log file at ``path``, the oldest first. Raises OSError."""
    folder, base = os.path.split(path)
    with os.scandir(folder or ".") as entries:
        names = [entry.name for entry in entries if entry.name.startswith(base + ".")]
    return sorted(found for name in names if (found := parse(base, name)) is not None)


def doomed(files: list[Rotated], rotation: structs.Rotation, now: float) -> list[Rotated]:
    """Those of ``files`` (oldest first) that are too many or too old.

    What bears a time that is more than a day off is of a clock that was set back since, and so older than all the others:
    else whatever is rotated from then on would be the first to go. Less may be a file of after ``now``.
    """
    files = sorted(files, key=lambda file: file.at <= now + DAY)
    many = max(0, len(files) - rotation.max_files) if rotation.max_files is not None else 0
    days = rotation.max_age_days
    return [
        file for index, file in enumerate(files) if index < many or (days is not None and file.at < now - days * DAY)
    ]


class Stopped(Exception):
    """:func:`tidy` was told to stop."""


def tidy(path: str, rotation: structs.Rotation, now: float, stop: Callable[[], bool]) -> list[str]:
    """Remove what is too old or too many, then compress what is left, one file after the other.

    Blocks, for a worker thread; ``stop`` is asked often. Returns what went wrong, in words: then the originals are still there.
    """
    problems: list[str] = []
    folder = os.path.dirname(path)
    failed: set[str] = set()
    with suppress(Stopped):
        _remove_parts(path)
        while True:
            _check(stop)
            try:
                files = old_files(path)
            except OSError as error:
                return [f'cannot look for old files of "{path}": {describe(error)}']
            for file in doomed(files, rotation, now):
                files.remove(file)
                try:
                    os.unlink(os.path.join(folder, file.name))
                except FileNotFoundError:
                    pass
                except OSError as error:
                    problems.append(f'cannot remove the old log file "{file.name}": {describe(error)}')
            plain = [file.name for file in files if not file.suffix and file.name not in failed]
            if rotation.compression == "none" or not plain:
                break
            try:
                compress(os.path.join(folder, plain[0]), rotation.compression, stop)
            except (OSError, OcelotError) as error:
                failed.add(plain[0])
                why = describe(error) if isinstance(error, OSError) else error.message
                problems.append(f'cannot compress the old log file "{plain[0]}": {why}')
    return problems


def _check(stop: Callable[[], bool]) -> None:
    if stop():
        raise Stopped


def finish_interrupted(path: str) -> None:
    """The machine may have gone down between the two steps of a rotation: then the log file still has two names.

    For when nobody rotates it. Raises OSError.
    """
    files = old_files(path)
    if files:
        last = os.path.join(os.path.dirname(path), files[-1].name)
        if os.path.samestat(os.stat(path), os.stat(last)):
            os.unlink(last)


def _remove_parts(path: str) -> None:
    """What a compression or a rotation left behind when the machine went down."""
    folder, base = os.path.split(path)
    with suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            match = _ROTATED.fullmatch(entry.name, len(base) + 1) if entry.name.startswith(base + ".") else None
            if match is None or not match[4]:
                continue
            with suppress(OSError):
                # A rotation may be at work right now, in another thread
                if match[4] == _PART or entry.stat().st_mtime < _now() - STALE:
                    os.unlink(entry.path)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


# -- compression


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compress(path: str, method: str, stop: Callable[[], bool]) -> None:
    """Replace the file at ``path`` by its compressed form, with the same owner, mode and time.

    Raises OSError, OcelotError (no file, or no such method here), or Stopped; then the file is as it was.
    """
    target = path + SUFFIXES[method]
    part = target + _PART
    pack = compressor(method)
    # Whoever owns the folder may have put anything there: a fifo would hold the thread until somebody writes to it
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        about = os.fstat(source)
        if not stat.S_ISREG(about.st_mode):
            raise OcelotError("it is not a regular file", hint="remove it")
        sink = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                for piece in _packed(source, pack, stop):
                    _write_all(sink, piece)
                with suppress(PermissionError):
                    os.fchown(sink, about.st_uid, about.st_gid)
                with suppress(PermissionError):  # FAT has no modes
                    os.fchmod(sink, about.st_mode & 0o7777)
                os.utime(sink, ns=(about.st_atime_ns, about.st_mtime_ns))
                os.fsync(sink)
            finally:
                os.close(sink)
            os.rename(part, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise
    finally:
        os.close(source)
    os.unlink(path)


def compressor(method: str) -> Compressor:
    """A compressor that makes a whole file, header and all. Raises OcelotError when its package is not there."""
    if method == "gzip":
        import zlib

        return zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: with the header of gzip (RFC 1952)
    try:
        return _Lz4()
    except ImportError:
        raise OcelotError(
            "the Python package lz4 is not installed", hint="install ocelot-init[lz4], or write compression: gzip"
        ) from None


class _Lz4:
    def __init__(self) -> None:
        from lz4.frame import LZ4FrameCompressor

        self._frame = LZ4FrameCompressor(content_checksum=True)
        self._head: bytes = self._frame.begin()

    def compress(self, data: bytes, /) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.flush())


def _packed(source: int, pack: Compressor, stop: Callable[[], bool]) -> Iterator[bytes]:
    while block := os.read(source, _BLOCK):
        _check(stop)
        yield pack.compress(block)
    yield pack.flush()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
