"""Why a program could not be started, in words: the errno of execve(2) says little, the file itself says more.

ENOENT is the worst: it is the answer for a missing program, for a script whose interpreter is missing, and for a binary
whose dynamic loader is missing (a glibc program on a musl root).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from ocelot.errors import SpawnError

_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_ST_NOEXEC = 8  # statvfs(3) f_flag


def explain(
    program: str, step: str, number: int, working_directory: str | None, *, candidates: Sequence[str] = ()
) -> SpawnError:
    """The error for ``step`` having failed with errno ``number``. ``candidates``: the paths that were tried."""
    cause, hint = _cause(program, step, number, working_directory, candidates)
    return SpawnError(f'cannot start "{program}": {cause}', hint=hint, step=step, errno=number)


def _cause(
    program: str, step: str, number: int, working_directory: str | None, candidates: Sequence[str]
) -> tuple[str, str]:
    words = os.strerror(number) if number else "unknown reason"
    if step == "chdir" and working_directory is not None:
        return f'cannot enter "{working_directory}": {words}', "check workingDirectory"
    if step == "fork":
        return f"the kernel made no process: {words}", "check the pids limit, RLIMIT_NPROC and the free memory"
    if step == "pipe":
        return f"no descriptor is left: {words}", "raise RLIMIT_NOFILE"
    if step != "exec":
        return f"{step} failed: {words}", _hint(step, number)
    present = [path for path in candidates if os.path.lexists(_inside(path, working_directory))]
    path = _inside(present[0], working_directory) if present else ""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return _missing(program, path, candidates)
    if number in (errno.EACCES, errno.EPERM):
        return _denied(path, words)
    if number == errno.ENOEXEC:
        return _not_a_program(path)
    if number == errno.E2BIG:
        return words, "shorten the arguments or the environment"
    if number == errno.ETXTBSY:
        return "the file is open for writing", "finish writing it first"
    if number == errno.EAGAIN:  # execve(2): a change of user has brought it over RLIMIT_NPROC
        return "its user has as many processes as it may have", "raise limits.nproc"
    if number == errno.ELOOP:
        return words, "check the symbolic links on its path"
    return words, ""


def _hint(step: str, number: int) -> str:
    """What to do about a step of ``privileges`` that failed in the child."""
    if step == "cgroup":
        return "check that the memory and the number of its processes are below the limits of the cgroups above"
    if step.startswith("RLIMIT_") and number == errno.EPERM:
        return "raise the hard limit of whoever starts ocelot, or fs.nr_open for nofile"
    if step.startswith(("CAP_", "capset", "capability")) and number == errno.EPERM:
        return "ocelot itself must have the capability, and CAP_SETPCAP: see what the container was given"
    if step.startswith("CAP_") and number == errno.EINVAL:
        return "this kernel does not know the capability"
    if step in ("setgroups", "setgid", "setuid", "change of user", "setpriority", "ioprio_set", "oom_score_adj"):
        if number == errno.EINVAL:
            return "this user namespace has no such id" if step.startswith(("set", "change")) else ""
        return "only root may do this" if number in (errno.EPERM, errno.EACCES) else ""
    return ""


def _inside(path: str, working_directory: str | None) -> str:
    return path if working_directory is None else os.path.join(working_directory, path)


def _missing(program: str, path: str, candidates: Sequence[str]) -> tuple[str, str]:
    if not path:
        if "/" in program:
            return "there is no such file", "check the path, as the process sees it"
        folders = ":".join(dict.fromkeys(os.path.dirname(candidate) or "." for candidate in candidates))
        return f"not found on its PATH ({folders})", "write the whole path, or set PATH in environmentVariables"
    if os.path.islink(path) and not os.path.exists(path):
        return f'"{path}" is a symbolic link to nothing ("{os.readlink(path)}")', "mend the link or install its target"
    interpreter = _interpreter(path)
    if interpreter.endswith("\r"):
        return "its first line ends with a carriage return", "save the script with Unix line ends"
    if interpreter and not os.path.exists(interpreter):
        kind = "script's interpreter" if _head(path, 2) == b"#!" else "dynamic loader"
        hint = "install it" if kind[0] == "s" else "the program was built for another C library; use a static one"
        return f'its {kind} "{interpreter}" is missing', hint
    return "no such file", "check the path"


def _denied(path: str, words: str) -> tuple[str, str]:
    if not path:
        return words, "check the permissions of the folders on its path"
    if os.path.isdir(path):
        return f'"{path}" is a directory', "name the program inside it"
    try:
        flags = os.statvfs(path).f_flag
        mode = os.stat(path).st_mode
    except OSError:
        return words, ""
    if flags & _ST_NOEXEC:
        return f'"{path}" is on a file system that is mounted noexec', "remove noExec from its mount"
    if not mode & 0o111:
        return f'"{path}" is not executable', f"chmod +x {path}"
    return words, "check the permissions of the file, its folders and its interpreter"


def _not_a_program(path: str) -> tuple[str, str]:
    head = _head(path, 20)
    if not head:
        return "the file is empty", ""
    if head[:4] != b"\x7fELF":
        return "it is neither a binary nor a script that starts with #!", "add a line such as #!/bin/sh at its top"
    machine = struct.unpack("<H" if head[5] == 1 else ">H", head[18:20])[0] if len(head) == 20 else 0
    built_for = _MACHINES.get(machine, f"machine {machine}")
    return f"it was built for {built_for}, this is {os.uname().machine}", "use a program for this architecture"


def _head(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _interpreter(path: str) -> str:
    """The interpreter of a script (its #! line) or of a 64-bit ELF file (PT_INTERP, elf(5)); empty if there is none."""
    head = _head(path, 4096)
    if head[:2] == b"#!":
        words = head[2:].split(b"\n", 1)[0].strip(b" \t").split(None, 1) if b"\n" in head else []
        return os.fsdecode(head[2:].split(b"\n", 1)[0].strip(b" \t").split(b" ", 1)[0]) if words else ""
    if head[:5] != b"\x7fELF\x02" or len(head) < 64:
        return ""
    order = "<" if head[5] == 1 else ">"
    (table,) = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    for index in range(count):
        entry = table + index * size
        if entry + 56 > len(head):
            return ""
        (kind,) = struct.unpack_from(order + "I", head, entry)
        if kind == 3:
            (offset,) = struct.unpack_from(order + "Q", head, entry + 8)
            return os.fsdecode(head[offset : offset + 256].split(b"\0", 1)[0])
    return ""
