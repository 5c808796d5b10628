"""Whether the programs, scripts and modules that a configuration names are there. Never needed to boot.

Below a root that was given, a missing file is an error; on this machine it is a warning, since the file may well be meant
for another one. What preSwitch starts, and kernel modules, may also come from this machine: that is where an initramfs
is filled from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from ocelot.config import structs
from ocelot.config.findings import Findings, Path, quoted
from ocelot.config.nodes import Node
from ocelot.config.phase_checks import MODULE_SUFFIXES
from ocelot.config.places import Places, present
from ocelot.linux.inherited import DEFAULT_PATH

MAX_LINKS = 40

_MADE_AT_BOOT = ("/proc", "/sys", "/dev", "/run", "/tmp")


def check_files(
    config: structs.Bootstrap | structs.SuperviseFile, document: Node | None, findings: Findings, root: str | None
) -> None:
    """Add what is missing below ``root`` (or here) to the findings."""
    places = Places(document, findings)
    if root is not None and not os.path.isdir(root):
        findings.error((), None, f"there is no folder {quoted(root)}", "check the root that was given")
        return
    if isinstance(config, structs.SuperviseFile):
        look = _Look(places, (root or "/",), root, ())
        look.processes(config.processes, ("processes",), {})
        return
    made = _made_at_boot(config)
    both = (root or "/", "/") if config.switch_root is not None else (root or "/",)
    early = _Look(places, both, root, made)
    late = _Look(places, (root or "/",), root, made)
    early.phase(config.pre_switch, ("preSwitch",), config.pre_switch.environment)
    environment = config.pre_switch.environment | config.post_switch.environment
    late.phase(config.post_switch, ("postSwitch",), environment)
    handoff, here = config.post_switch.handoff, ("postSwitch", "handoff")
    if handoff is None:
        return
    if handoff.boot_script is not None:
        script = (*here, "bootScript", "path")
        late.program(handoff.boot_script.path, script, environment | handoff.boot_script.environment)
    if isinstance(handoff, structs.Supervise):
        late.processes(handoff.processes, (*here, "processes"), environment)
    else:
        late.program(handoff.program, (*here, "program"), environment)


def resolve(root: str, name: str) -> str | None:
    """The path of ``name`` as a process with the root folder ``root`` would see it, None if a link loops.

    Links in the tree lead to places in the tree, absolute ones too, so nothing outside of it is ever looked at.
    """
    parts: list[str] = []
    pending = name.split("/")[::-1]
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del parts[-1:]
            continue
        try:
            target = os.readlink(os.path.join(root, *parts, part))
        except OSError:
            parts.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            return None
        if target.startswith("/"):
            parts = []
        pending += target.split("/")[::-1]
    return os.path.join(root, *parts)


class _Look:
    """Looks below each of ``roots``, and reports what is in none of them."""

    def __init__(self, places: Places, roots: tuple[str, ...], given: str | None, made: Iterable[str]) -> None:
        self._places = places
        self._roots = tuple(dict.fromkeys(roots))
        self._given = given
        self._made = tuple(made)

    def phase(self, phase: structs.Phase, path: Path, environment: dict[str, str]) -> None:
        if phase.modules is not None:
            self._modules(phase.modules, (*path, "modules"))
        for index, hook in present(phase.hooks):
            self.program(hook.command, (*path, "hooks", index, "command"), environment | hook.environment)

    def processes(self, processes: dict[str, structs.Process], path: Path, environment: dict[str, str]) -> None:
        for name, process in processes.items():
            self.program(process.program, (*path, name, "program"), environment | process.environment_variables)
            for key, commands in (("preStart", process.pre_start), ("postStop", process.post_stop)):
                for index, each in present(commands):
                    here = (*path, name, key, index, "command")
                    self.program(each.command, here, environment | process.environment_variables)
            self._probes(process, (*path, name), environment | process.environment_variables)
            file = process.environment_file
            if file is not None and not self._is_made(file) and self._stat(file) is None:
                self._missing(f"{quoted(file)} does not exist", (*path, name, "environmentFile"))
            if process.user is not None or process.group is not None or process.supplementary_groups:
                self._accounts(process, (*path, name))
            if process.resources is not None and self._given is None:
                from ocelot.config.privilege_checks import check_machine

                check_machine(process.resources, (*path, name, "resources"), self._places)

    def _probes(self, process: structs.Process, path: Path, environment: dict[str, str]) -> None:
        probes = (process.readiness_probe, process.liveness_probe, process.startup_probe)
        for key, probe in zip(("readinessProbe", "livenessProbe", "startupProbe"), probes, strict=True):
            here = (*path, key, "handler")
            if probe is not None and isinstance(probe.handler, structs.ExecCommand):
                for index, word in present(probe.handler.command[:1]):
                    self.program(word, (*here, "command", index), environment)
            elif probe is not None and isinstance(probe.handler, structs.Grpc) and not _has_h2():
                message = "needs the package h2, which is not installed here"
                self._places.warn(
                    (*here, "type"), message, "install ocelot-init[grpc]; for an image, before it is built"
                )

    def _accounts(self, process: structs.Process, path: Path) -> None:
        from ocelot.linux import accounts

        known = accounts.read((self._given or "").rstrip("/"))
        if process.user is not None and not process.user.isdigit() and process.user not in known.users:
            self._missing(f"the user {quoted(process.user)} does not exist", (*path, "user"))
        groups = [(process.group, (*path, "group"))]
        groups += [(name, (*path, "supplementaryGroups", i)) for i, name in present(process.supplementary_groups)]
        for name, here in groups:
            if name is not None and not name.isdigit() and name not in known.groups:
                self._missing(f"the group {quoted(name)} does not exist", here)

    def program(self, program: str, path: Path, environment: dict[str, str]) -> None:
        if "/" not in program:
            folders = environment.get("PATH", DEFAULT_PATH).split(":")
            found = [self._stat(f"{folder}/{program}") for folder in folders if folder]
            if not any(each and stat.S_ISREG(each.st_mode) and each.st_mode & 0o111 for each in found):
                self._missing(f"{quoted(program)} is in no folder of PATH", path)
            return
        if not program.startswith("/") or self._is_made(program):
            return
        status = self._stat(program)
        if status is None:
            self._missing(f"{quoted(program)} does not exist", path)
        elif stat.S_ISDIR(status.st_mode):
            self._missing(f"{quoted(program)} is a folder", path)
        elif not status.st_mode & 0o111:
            self._missing(f"{quoted(program)} is not executable", path, f"run `chmod +x {program}`")

    def _modules(self, modules: structs.Modules, path: Path) -> None:
        roots = tuple(dict.fromkeys((*self._roots, "/")))
        folders = [each for root in roots for each in _module_folders(root, modules.directory)]
        if not folders and modules.names:
            self._missing(f"{quoted(modules.directory)} does not exist", (*path, "directory"))
            return
        builtin = "".join(_read(os.path.join(folder, "modules.builtin")) for folder in folders).split()
        for index, name in present(modules.names):
            base = _without_suffix(name)
            if "/" not in name or f"{base}.ko" in builtin:
                continue
            if not any(os.path.exists(os.path.join(f, base + s)) for f in folders for s in MODULE_SUFFIXES):
                self._missing(f"{quoted(name)} is not below {quoted(modules.directory)}", (*path, "names", index))
        dep = modules.dep_file_path
        if dep is not None and not dep.startswith("/") and not any(os.path.exists(f"{f}/{dep}") for f in folders):
            self._missing(f"{quoted(dep)} is not below {quoted(modules.directory)}", (*path, "depFilePath"))
        elif dep is not None and dep.startswith("/") and self._stat(dep) is None:
            self._missing(f"{quoted(dep)} does not exist", (*path, "depFilePath"))

    def _is_made(self, name: str) -> bool:
        return any(name == each or name.startswith(each.rstrip("/") + "/") for each in (*_MADE_AT_BOOT, *self._made))

    def _stat(self, name: str) -> os.stat_result | None:
        for root in self._roots:
            place = resolve(root, name)
            if place is not None:
                try:
                    return os.stat(place, follow_symlinks=False)
                except OSError:
                    continue
        return None

    def _missing(self, message: str, path: Path, hint: str = "") -> None:
        if self._given is not None:
            self._places.error(path, f"{message} below {quoted(self._given)}", hint)
        else:
            self._places.warn(path, f"{message} on this machine", hint or "--root DIR looks below another folder")


def _made_at_boot(config: structs.Bootstrap) -> list[str]:
    """Paths that the configuration itself brings into being."""
    made: list[str] = []
    for phase in (config.pre_switch, config.post_switch):
        made += [mount.target for _, mount in present(phase.mounts) if mount.target]
        made += [link.target for _, link in present(phase.symlinks)]
        made += [item.path for _, item in present(phase.tmpfiles)]
    return made


def _module_folders(root: str, directory: str) -> list[str]:
    """The modules folder and, inside of it, one for each kernel version, as far as they exist below ``root``."""
    folder = resolve(root, directory)
    if folder is None or not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return [folder, *sorted(entry.path for entry in entries if entry.is_dir())]


def _without_suffix(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in MODULE_SUFFIXES if name.endswith(suffix)), name)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _has_h2() -> bool:
    from importlib.util import find_spec

    return find_spec("h2") is not None
