"""What the keys about users, limits, capabilities and resources mean together."""

from __future__ import annotations

import os
import signal

from ocelot.config import structs
from ocelot.config.findings import Path, quoted, suggest
from ocelot.config.places import Places, present
from ocelot.linux import capabilities

MIN_CPUS = 0.01
"""The kernel's smallest quota, a millisecond, of the usual period, 100 milliseconds."""


_SHELLS = ("sh", "ash", "bash", "dash", "fish", "ksh", "zsh")


def check_privileges(process: structs.Process, path: Path, places: Places) -> None:
    for key in ("user", "group"):
        _account(getattr(process, key), (*path, key), places)
    for index, name in present(process.supplementary_groups):
        _account(name, (*path, "supplementaryGroups", index), places)
    if process.umask is not None and process.umask > 0o777:
        places.error((*path, "umask"), f"0{process.umask:o} is not a umask", "write 0000 to 0777")
    _range(process.nice, -20, 19, (*path, "nice"), places, "-20 is the highest priority")
    _range(process.oom_score_adjust, -1000, 1000, (*path, "oomScoreAdjust"), places, "-1000 is never killed")
    if process.ioprio is not None:
        _io_priority(process.ioprio, (*path, "ioprio"), places)
    if process.limits is not None:
        _limits(process.limits, (*path, "limits"), places)
    if process.capabilities is not None:
        _capabilities(process, process.capabilities, (*path, "capabilities"), places)
    if process.resources is not None:
        _resources(process.resources, (*path, "resources"), places)


def check_terminals(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    """A terminal can be the controlling terminal of one session only; what a process writes to its own is ours to read."""
    first = ""
    for name, process in processes.items():
        if process.stdin != "null" and process.shutdown_signal == signal.SIGTERM and _is_interactive_shell(process):
            message = f"{quoted(process.program)} takes no notice of SIGTERM on a terminal: a stop takes all of its grace period"
            places.warn((*path, name, "stdin"), message, "write `shutdownSignal: SIGHUP`")
        if process.stdin == "pty" and isinstance(process.log.stdout.destination, structs.Direct):
            where = (*path, name, "log", "stdout", "destination")
            places.error(
                where, "cannot be direct with `stdin: pty`: ocelot reads what comes from the terminal", "leave it out"
            )
        if process.stdin != "tty":
            continue
        here = (*path, name, "stdin")
        if first:
            message = f"{quoted(first)} has the terminal already"
            places.error(here, message, "only one process can have it", also=(*path, first, "stdin"))
        first = first or name
        for stream in ("stdout", "stderr"):
            there = (*path, name, "log", stream, "destination")
            if isinstance(getattr(process.log, stream).destination, structs.Inherit) and places.given(there):
                places.warn(there, "goes to the terminal itself with `stdin: tty`", "leave it out")


def _is_interactive_shell(process: structs.Process) -> bool:
    arguments = process.arguments
    scripted = any(not text.startswith("-") or text.lstrip("-")[:1] == "c" for text in arguments if text is not None)
    return os.path.basename(process.program) in _SHELLS and not scripted


def _account(name: str | None, path: Path, places: Places) -> None:
    if name == "":
        places.error(path, "must not be empty", "leave it out")
    elif name is not None and (any(letter.isspace() or letter in ":," for letter in name) or name.startswith("-")):
        places.error(path, f"{quoted(name)} cannot be the name of a {'user' if path[-1] == 'user' else 'group'}")
    elif name is not None and name.isascii() and name.isdigit() and int(name) > 2**32 - 2:
        places.error(path, f"{quoted(name)} is too large for an id", f"the highest is {2**32 - 2}")


def _range(value: int | None, low: int, high: int, path: Path, places: Places, hint: str) -> None:
    if value is not None and not low <= value <= high:
        places.error(path, f"must be from {low} to {high}, not {value}", hint)


def _io_priority(priority: structs.IoPriority, path: Path, places: Places) -> None:
    _range(priority.level, 0, 7, (*path, "level"), places, "0 is the highest priority")
    if priority.scheduling_class == "idle" and 0 <= priority.level <= 7 and places.given((*path, "level")):
        places.warn((*path, "level"), "has no effect: the class idle has no levels", "remove it")


def _limits(limits: structs.Limits, path: Path, places: Places) -> None:
    for key, limit in limits.given():
        here = (*path, key)
        hard = limit.soft if limit.hard is None else limit.hard
        if hard != -1 and (limit.soft > hard or limit.soft == -1):
            places.error((*here, "soft"), "is higher than the hard limit", also=(*here, "hard"))
        if key == "nofile" and hard == -1:
            hint = "write a number; fs.nr_open, usually 1048576, is the highest"
            places.error(here, "the kernel has no unlimited number of descriptors", hint)
        elif key == "nice" and limit.soft > 40:
            places.error(here, f"must be from 0 to 40, not {limit.soft}", "it is 20 minus the lowest nice value")


def _capabilities(process: structs.Process, wanted: structs.Capabilities, path: Path, places: Places) -> None:
    if wanted.bounding is not None:
        _names(wanted.bounding, (*path, "bounding"), places)
    _names(wanted.ambient, (*path, "ambient"), places)
    if wanted.bounding is not None:
        bounding = {capabilities.number(name) for _, name in present(wanted.bounding)}
        for index, name in present(wanted.ambient):
            number = capabilities.number(name)
            if number is not None and number not in bounding and not places.broken((*path, "bounding")):
                message = f"{quoted(name)} is not in the bounding set"
                places.error((*path, "ambient", index), message, "add it there too", also=(*path, "bounding"))
    if wanted.ambient and process.user in (None, "root", "0"):
        hint = "set user, or name all that it may have under bounding"
        places.warn((*path, "ambient"), "has no effect for root, which has every capability of the bounding set", hint)


def _names(names: tuple[str, ...], path: Path, places: Places) -> None:
    for index, name in present(names):
        if capabilities.number(name) is None:
            meant = suggest(name.upper(), capabilities.NAMES)
            hint = f'did you mean "{meant}"?' if meant else "see capabilities(7) for the names"
            places.error((*path, index), f"there is no capability {quoted(name)}", hint)


def _resources(resources: structs.Resources, path: Path, places: Places) -> None:
    for key, value in (("memoryMax", resources.memory_max), ("memoryHigh", resources.memory_high)):
        if value == 0:
            places.error((*path, key), "must be more than 0", "leave it out for no limit")
    if resources.memory_max and resources.memory_high and resources.memory_high > resources.memory_max:
        message = "has no effect: it is higher than memoryMax"
        places.warn((*path, "memoryHigh"), message, "write less than memoryMax", also=(*path, "memoryMax"))
    if resources.cpu_max is not None and resources.cpu_max < MIN_CPUS:
        places.error((*path, "cpuMax"), "must be at least 1% of a processor")
    elif resources.cpu_max is not None and resources.cpu_max >= 1000:
        hint = f'write "{resources.cpu_max:g}%" for a share of one'
        places.warn((*path, "cpuMax"), f"means {resources.cpu_max:g} whole processors", hint)
    if resources.pids_max is not None and resources.pids_max < 1:
        places.error((*path, "pidsMax"), "must be at least 1", "leave it out for no limit")
    for index, limit in present(resources.io_max):
        _io_max(limit, (*path, "ioMax", index), places)


def _io_max(limit: structs.IoMax, path: Path, places: Places) -> None:
    given = {key: getattr(limit, key) for key in ("rbps", "wbps", "riops", "wiops")}
    if all(value is None for value in given.values()) and not places.broken(path):
        places.error(path, "limits nothing", "add rbps, wbps, riops or wiops")
        return
    major, colon, minor = limit.device.partition(":")
    if not limit.device.startswith("/dev/") and not (colon and major.isdigit() and minor.isdigit()):
        hint = 'write for example "/dev/vda" or "253:0"'
        places.error((*path, "device"), f"{quoted(limit.device)} is not a block device", hint)
    for key, value in given.items():
        if value is not None and value < 1:
            places.error((*path, key), "must be at least 1", "leave it out for no limit")


def check_machine(resources: structs.Resources, path: Path, places: Places) -> None:
    """Whether this machine could enforce ``resources``; a warning, since the file may be meant for another one."""
    try:
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="utf-8") as file:
            controllers = file.read().split()
    except OSError:
        message = "this machine has no cgroup v2 at /sys/fs/cgroup: the process would not start here"
        places.warn(path, message, "boot with systemd.unified_cgroup_hierarchy=1, or mount it")
        return
    for name in resources.controllers:
        if name not in controllers:
            message = f"this machine has no cgroup v2 controller {quoted(name)}: the process would not start here"
            places.warn(path, message, f"run `cat {os.path.join('/sys/fs/cgroup', 'cgroup.controllers')}` to see them")
