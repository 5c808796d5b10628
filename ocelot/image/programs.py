"""The programs that an image must hold, and taking one in: the file, the interpreter of a script, the shared libraries.

Everything lies at the same path as here, since loaders and scripts name absolute paths.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress

from ocelot.config.structs import Bootstrap, Exec, ExecCommand, FatalAction, Hook, Process, Shell, Supervise
from ocelot.errors import OcelotError
from ocelot.image import cpio, elf
from ocelot.linux.inherited import DEFAULT_PATH
from ocelot.linux.mountinfo import is_below

_NEEDS_A_LIBRARY = ("python", "perl", "ruby", "node", "lua", "php", "tclsh", "guile")


def named_programs(config: Bootstrap) -> Iterator[tuple[str, str, str]]:
    """(program, who names it, the PATH it is looked up on) of what is started from the initramfs.

    Without switchRoot it stays the root, and all that the file names is. What preSwitch itself mounts or makes is left out.
    """
    for name, user, path in _all_named(config):
        needed = _not_made(config, name)
        if needed:
            yield needed, user, path


def _not_made(config: Bootstrap, name: str) -> str:
    """What must be there for ``name``: itself, what a link of preSwitch points to, or nothing where that mounts or makes it."""
    phase = config.pre_switch
    links = {link.target: link.source for link in phase.symlinks}
    links |= {item.path: item.target or item.content or "" for item in phase.tmpfiles if item.type == "L"}
    if name in links:
        name = os.path.normpath(os.path.join(os.path.dirname(name), links[name]))
    mounted = any(mount.target is not None and is_below(name, mount.target) for mount in phase.mounts)
    written = any(item.path == name and item.type in "fF" for item in phase.tmpfiles)
    return "" if mounted or written else name


def _all_named(config: Bootstrap) -> Iterator[tuple[str, str, str]]:
    early = config.pre_switch
    yield from _hooks(early.hooks, "preSwitch", early.environment)
    if config.on_fatal.action is FatalAction.SHELL:
        yield config.on_fatal.shell, "onFatal.shell", _path({})
    if config.switch_root is not None:
        return
    late = config.post_switch
    environment = {**early.environment, **late.environment}
    yield from _hooks(late.hooks, "postSwitch", environment)
    handoff = late.handoff
    if handoff is not None and handoff.boot_script is not None:
        yield handoff.boot_script.path, "the boot script", _path({**environment, **handoff.boot_script.environment})
    match handoff:
        case Supervise():
            for name, process in handoff.processes.items():
                yield from _of_process(name, process, environment)
        case Shell() | Exec():
            yield handoff.program, "the hand-off", _path(environment)


def _of_process(name: str, process: Process, environment: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    path = _path({**environment, **process.environment_variables})
    yield process.program, f'the process "{name}"', path
    for command in (*process.pre_start, *process.post_stop):
        yield command.command, f'the process "{name}", before or after it', path
    for probe in (process.readiness_probe, process.liveness_probe, process.startup_probe):
        if probe is not None and isinstance(probe.handler, ExecCommand):
            yield probe.handler.command[0], f'a probe of the process "{name}"', path


def _hooks(hooks: Sequence[Hook], phase: str, environment: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for hook in hooks:
        yield hook.command, f'the {phase} hook "{hook.name}"', _path({**environment, **hook.environment})


def _path(environment: dict[str, str]) -> str:
    return environment.get("PATH", DEFAULT_PATH)


def find(name: str, path: str | None = None) -> str | None:
    """The absolute path of the program ``name``; a bare name is looked up on ``path`` (colons, as PATH)."""
    if "/" in name:
        return name if os.path.isfile(name) else None
    return next((place for place in places(name, path) if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def places(name: str, path: str | None = None) -> list[str]:
    """Where the program ``name`` may lie; a bare name is looked up on ``path``."""
    return [name] if "/" in name else [f"{folder}/{name}" for folder in (path or DEFAULT_PATH).split(":") if folder]


def take_program(path: str, *, search: str | None = None, present: Container[str] = ()) -> Iterator[cpio.Entry]:
    """Entries for the program at the absolute ``path`` and all it needs to start.

    ``search`` is the PATH that an ``env`` in a script's first line will see; what is in ``present`` (absolute paths) is
    in the image already. OcelotError when something is missing.
    """
    with open(path, "rb") as opened:
        data = opened.read()
    place = path
    if data.startswith(b"\x7fELF"):
        found = elf.read_elf(path)
        if found.rpath or found.runpath:  # $ORIGIN in them is the folder that the program itself lies in
            place = os.path.realpath(path)
    yield cpio.file(place.lstrip("/"), data, 0o755)
    if place != path:
        yield cpio.link(path.lstrip("/"), place)
    if data.startswith(b"\x7fELF"):
        yield from take_libraries(path)
    elif data.startswith(b"#!"):
        yield from _take_interpreter(path, data, search, present)


def complete_program(brought: cpio.Entry, *, search: str | None, present: Container[str]) -> Iterator[cpio.Entry]:
    """Entries for what a program needs that was brought with ``--include``. OcelotError if it could not be started.

    Libraries that are not on this machine are expected to be brought too: it may be made for another C library.
    """
    path = f"/{brought.path}"
    if not brought.is_file:
        return
    if not brought.mode & 0o111:
        raise OcelotError(
            f'cannot start "{path}" of --include: it is not executable', hint="run chmod +x on its source"
        )
    if brought.data.startswith(b"#!"):
        yield from _take_interpreter(path, brought.data, search, present)
    elif brought.data.startswith(b"\x7fELF"):
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(brought.data)
            copy.flush()
            with suppress(OcelotError):
                yield from take_libraries(copy.name)


def take_libraries(path: str) -> Iterator[cpio.Entry]:
    """Entries for the shared libraries and the loader of the ELF file ``path``."""
    libraries = elf.shared_libraries([path])
    home = next((os.path.dirname(entry.path) for entry in libraries if entry.name.startswith("libc.")), "/usr/lib")
    for entry in libraries:
        # where only the loader's cache leads, the image's loader, which has no cache, would not look
        place = os.path.normpath(entry.path) if entry.everywhere else os.path.join(home, entry.name)
        with open(entry.path, "rb") as opened:
            yield cpio.file(place.lstrip("/"), opened.read(), 0o755)


def _take_interpreter(path: str, data: bytes, search: str | None, present: Container[str]) -> Iterator[cpio.Entry]:
    words = data.split(b"\n", 1)[0][2:].decode(errors="replace").split()
    if not words:
        raise OcelotError(f'cannot take "{path}" in: its first line names no interpreter')
    named = [words[0]]
    if os.path.basename(words[0]) == "env":
        named += _started_by_env(words[1:])
    for name in named:
        if any(place in present for place in places(name, search)):
            continue
        base = os.path.basename(name)
        if base.startswith(_NEEDS_A_LIBRARY):
            raise OcelotError(
                f'cannot take "{path}" in: it is a script for {base}, whose library would be missing',
                hint="use a shell script or a binary, or bring everything with --include",
            )
        found = find(name, search)
        if found is None:
            raise OcelotError(f'cannot take "{path}" in: its interpreter "{name}" is not on this machine')
        yield from take_program(found, search=search, present=present)


def _started_by_env(arguments: Sequence[str]) -> list[str]:
    """The program that env(1) starts with these arguments, if they name one."""
    words = iter(arguments)
    for word in words:
        word = word.removeprefix("--split-string=").removeprefix("-S")
        if word in ("-u", "--unset", "-C", "--chdir"):
            next(words, None)
        elif word and not word.startswith("-") and "=" not in word:
            return [word]
    return []
