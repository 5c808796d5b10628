"""Whether a program can be executed, found out before it is too late.

``exec`` mode unlinks the runtime and then calls execve(2): an ENOENT at that point (a missing interpreter looks the same
as a missing program) could hardly be explained any more. So what the kernel will check is looked at first: the file, its
permissions, its mount, its format, and the interpreter that it names, in an ELF header (elf(5)) or after ``#!``.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping

from ocelot.errors import OcelotError
from ocelot.linux.inherited import DEFAULT_PATH

_MACHINES = {"x86_64": (62, 3), "aarch64": (183,), "riscv64": (243,)}
"""e_machine values that the kernel of such a machine runs (x86_64 also runs i386)."""

_PT_INTERP = 3


def find(program: str, environment: Mapping[str, str]) -> str:
    """The path of ``program``: itself if it has a slash, else the first executable on PATH. Raises OcelotError."""
    if "/" in program:
        return program
    path = environment.get("PATH") or DEFAULT_PATH
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", program)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise OcelotError(
        f'cannot execute "{program}": it is in no folder of PATH ({path})', hint="write its whole path, or set PATH"
    )


def require(program: str, *, depth: int = 0) -> None:
    """Raise OcelotError, with the reason and what to do, unless execve(2) of the path ``program`` will work."""
    try:
        about = os.stat(program)
        noexec = bool(os.statvfs(program).f_flag & os.ST_NOEXEC)
    except OSError as error:
        raise _cannot(program, os.strerror(error.errno or 0), _missing_hint(program)) from error
    if not stat.S_ISREG(about.st_mode):
        raise _cannot(program, "it is not a regular file", "name a program")
    if noexec:
        raise _cannot(program, "its file system is mounted noexec", "remove noExec from that mount")
    if not about.st_mode & 0o111:
        raise _cannot(program, "it has no execute permission", f"chmod +x {program}")
    try:
        with open(program, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise _cannot(program, os.strerror(error.errno or 0), "") from error
    if head.startswith(b"#!"):
        _require_script(program, head, depth)
    elif head.startswith(b"\x7fELF"):
        _require_elf(program, head)
    else:
        raise _cannot(program, "it is neither an ELF program nor a script with #!", "a script must begin with #!")


def _require_script(program: str, head: bytes, depth: int) -> None:
    line = head[2:].split(b"\n", 1)[0].strip(b" \t")  # as the kernel reads it: nothing else ends a word
    interpreter = os.fsdecode(line.replace(b"\t", b" ").split(b" ", 1)[0])
    if not interpreter.strip():
        raise _cannot(program, "its #! line names no interpreter", "write one, such as #!/bin/sh")
    if interpreter.endswith("\r"):
        raise _cannot(program, "its first line ends with a carriage return", "save the script with Unix line ends")
    if not os.path.exists(interpreter):
        raise _cannot(program, f'its interpreter "{interpreter}" does not exist', "install it, or change the #! line")
    if depth < 4:  # as deep as the kernel goes
        require(interpreter, depth=depth + 1)


def _require_elf(program: str, head: bytes) -> None:
    order = "<" if head[5:6] == b"\x01" else ">"
    wide = head[4:5] == b"\x02"
    try:
        machine = struct.unpack_from(order + "H", head, 18)[0]
        interpreter = _elf_interpreter(head, order, wide)
    except struct.error:
        raise _cannot(program, "its ELF header is cut off", "copy the file again") from None
    here = os.uname().machine
    if machine not in _MACHINES.get(here, (machine,)):
        raise _cannot(
            program, f"it is made for another machine (ELF machine {machine}, this is {here})", f"use one for {here}"
        )
    if interpreter and not os.path.exists(interpreter):
        raise _cannot(
            program,
            f'its dynamic loader "{interpreter}" does not exist',
            "the root file system has another libc, or none: use a static program",
        )


def _elf_interpreter(head: bytes, order: str, wide: bool) -> str:
    """The path in the PT_INTERP segment, "" for a static program or where it lies beyond ``head``."""
    offset = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    for index in range(count):
        at = offset + index * size
        if at + size > len(head):
            break
        kind = struct.unpack_from(order + "I", head, at)[0]
        if kind == _PT_INTERP:
            if wide:
                begin, length = (
                    struct.unpack_from(order + "Q", head, at + 8)[0],
                    struct.unpack_from(order + "Q", head, at + 32)[0],
                )
            else:
                begin, length = (
                    struct.unpack_from(order + "I", head, at + 4)[0],
                    struct.unpack_from(order + "I", head, at + 16)[0],
                )
            return os.fsdecode(head[begin : begin + length].split(b"\0", 1)[0])
    return ""


def _missing_hint(program: str) -> str:
    folder = os.path.dirname(program)
    if os.path.isdir(folder):
        return "check the path, or put the program into the root file system"
    return f'the folder "{folder}" does not exist either: is this the right root?'


def _cannot(program: str, why: str, hint: str) -> OcelotError:
    return OcelotError(f'cannot execute "{program}": {why}', hint=hint)
