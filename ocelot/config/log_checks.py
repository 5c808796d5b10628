"""What the keys of ``log`` mean together: destinations, formats, rotation, and several streams in one file."""

from __future__ import annotations

import os.path

from ocelot.config import structs
from ocelot.config.findings import Path, quoted
from ocelot.config.places import Places
from ocelot.config.program_checks import check_time
from ocelot.config.values import is_numeric_address

SMALL = 4096
"""Bytes below which a file is full after a few lines."""


def check_logs(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    first: dict[str, tuple[structs.Stream, Path]] = {}
    for name, process in processes.items():
        for kind, stream in (("stdout", process.log.stdout), ("stderr", process.log.stderr)):
            here = (*path, name, "log", kind)
            _destination(stream, here, places)
            _format(stream, here, places)
            if stream.rotation is not None:
                _rotation(stream, stream.rotation, (*here, "rotation"), places)
            if isinstance(stream.destination, structs.File):
                other, there = first.setdefault(os.path.normpath(stream.destination.path), (stream, here))
                if other.rotation != stream.rotation:
                    _two_minds(stream.destination.path, here, there, places)


def _destination(stream: structs.Stream, path: Path, places: Places) -> None:
    destination, here = stream.destination, (*path, "destination")
    if places.is_null(here):
        places.warn(here, "null means that nothing is set", "write {type: null} to throw the output away")
    if isinstance(destination, structs.File) and not destination.path.startswith("/"):
        places.error((*here, "path"), f"{quoted(destination.path)} is not an absolute path")
    elif isinstance(destination, structs.File) and destination.path.endswith("/"):
        places.error((*here, "path"), f"{quoted(destination.path)} is a folder", "name a file in it")
    elif isinstance(destination, structs.Syslog) and not destination.address.startswith("/"):
        _syslog_address(destination.address, (*here, "address"), places)
    elif isinstance(destination, structs.Direct) and places.given((*path, "onFull")):
        places.warn((*path, "onFull"), "has no effect: ocelot does not see what a direct stream carries", "remove it")


def _syslog_address(address: str, path: Path, places: Places) -> None:
    host, _, port = address.removeprefix("udp://").rpartition(":")
    if address.startswith("udp://") and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536:
        if is_numeric_address(host):
            return
        places.error(path, f"{quoted(host)} is not a numeric address", "names are not looked up here")
        return
    hint = 'write for example "/dev/log" or "udp://192.0.2.1:514"'
    places.error(path, f"{quoted(address)} is neither an absolute path nor udp://HOST:PORT", hint)


def _format(stream: structs.Stream, path: Path, places: Places) -> None:
    if stream.format == "json" and not isinstance(stream.destination, structs.Inherit | structs.File):
        kind = stream.destination.__struct_config__.tag
        places.warn((*path, "format"), f"has no effect with the destination {kind}", "it is for inherit and file")


def _rotation(stream: structs.Stream, rotation: structs.Rotation, path: Path, places: Places) -> None:
    if not isinstance(stream.destination, structs.File) and not places.broken((*path[:-1], "destination")):
        places.error(path, "only files are rotated", "remove it, or set the destination to {type: file, path: ...}")
        return
    size, interval = rotation.max_size_bytes, rotation.rotation_interval
    if size is None and interval is None and not places.broken(path):
        hint = "add maxSizeBytes, for example 10MB, or rotationInterval, for example 1d"
        places.error(path, "nothing says when to rotate", hint)
    if size == 0:
        places.error((*path, "maxSizeBytes"), "must be larger than 0", "leave it out for no limit")
    elif size is not None and size < SMALL:
        places.warn(
            (*path, "maxSizeBytes"), f"a file of {size} bytes is full after a few lines", "did you mean KB or MB?"
        )
    check_time(interval, (*path, "rotationInterval"), places)
    for key, number in (("maxFiles", rotation.max_files), ("maxAgeDays", rotation.max_age_days)):
        if number is not None and number < 1:
            places.error((*path, key), "must be at least 1", "leave it out for no limit")
    if rotation.max_files is None and rotation.max_age_days is None and not places.broken(path):
        places.warn(path, "old files are never removed", "add maxFiles or maxAgeDays")
    if rotation.compression == "lz4" and not _has_lz4():
        hint = "install ocelot-init[lz4], or write gzip"
        places.error((*path, "compression"), "lz4 needs the Python package lz4, which is not installed", hint)


def _has_lz4() -> bool:
    try:
        import lz4.frame  # noqa: F401 (in an image, looking for it without importing it would need more than this)
    except ImportError:
        return False
    return True


def _two_minds(file: str, here: Path, there: Path, places: Places) -> None:
    key = next((p for p in ((*here, "rotation"), (*here, "destination"), here) if places.given(p)), here)
    message = f"{quoted(file)} is rotated differently by {'.'.join(map(str, there))}"
    places.error(
        key, message, "streams that share a file share its rotation: write the same, or choose another path", also=there
    )
