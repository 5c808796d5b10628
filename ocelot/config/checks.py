"""What several keys mean together, from the records alone: nothing here looks at a file system.

An error: the file cannot mean anything. A warning: it can be understood, but will surely disappoint.
"""

from __future__ import annotations

import os.path

from ocelot.config import structs
from ocelot.config.findings import Findings, Path, quoted
from ocelot.config.nodes import Node
from ocelot.config.phase_checks import check_phase, check_root
from ocelot.config.places import Places, present
from ocelot.config.process_checks import check_processes
from ocelot.config.program_checks import check_environment, check_program, check_time, check_working_directory
from ocelot.config.values import format_duration, is_numeric_address

_BELOW_ROOT_ANYWAY = ("/run/", "/tmp/", "/dev/", "/proc/", "/sys/")


def check(
    config: structs.Bootstrap | structs.SuperviseFile,
    document: Node | None,
    findings: Findings,
    *,
    booting: bool = False,
) -> None:
    """Add what is wrong with ``config`` to the findings; ``document`` tells where."""
    places = Places(document, findings)
    places.booting = booting
    _sections(config, places)
    if isinstance(config, structs.Bootstrap):
        _bootstrap(config, places)
    else:
        check_processes(config.processes, ("processes",), places)
        _shutdown_timeout(config.processes, config.shutdown_timeout, (), places)


# -- bootstrap files -------------------------------------------------------------------------------


def _bootstrap(config: structs.Bootstrap, places: Places) -> None:
    _console(config.console, places)
    check_phase(config.pre_switch, ("preSwitch",), places)
    check_phase(config.post_switch, ("postSwitch",), places)
    if config.switch_root is not None:
        root = config.switch_root.root_file_system
        check_root(root, ("switchRoot", "rootFileSystem"), places)
        if not places.broken(("switchRoot",)):
            _hidden_by_root(config, root, places)
    if config.post_switch.handoff is not None:
        _handoff(config.post_switch.handoff, ("postSwitch", "handoff"), places)
    elif not places.given(("postSwitch", "handoff")) and not places.given(("handoff",)):
        hint = "add it with mode supervise, shell or exec"
        places.error(("postSwitch",), '"handoff" is missing', hint)


def _console(console: str, places: Places) -> None:
    if not console:
        places.error(("console",), "must not be empty", 'write "console", or for example "ttyS0"')
    elif console.startswith("console="):
        name = console.removeprefix("console=").partition(",")[0]
        places.error(("console",), f"{quoted(console)} is no device", f'write "{name}"')
    elif "," in console:
        name = console.partition(",")[0]
        hint = f'write "{name}"; speed and parity belong to the kernel command line'
        places.error(("console",), f"{quoted(console)} is no device", hint)
    elif any(letter.isspace() for letter in console):
        places.error(("console",), f"{quoted(console)} is no device", 'write for example "ttyS0"')


def _handoff(handoff: structs.Handoff, path: Path, places: Places) -> None:
    if isinstance(handoff, structs.Supervise):
        check_processes(handoff.processes, (*path, "processes"), places)
        _shutdown_timeout(handoff.processes, handoff.shutdown_timeout, path, places)
        for name, process in handoff.processes.items():
            _foreign_init(process.program, (*path, "processes", name, "program"), places)
    else:
        check_program(handoff.program, (*path, "program"), places)
    script = handoff.boot_script
    if script is not None:
        here = (*path, "bootScript")
        check_program(script.path, (*here, "path"), places)
        check_working_directory(script.working_directory, here, places)
        check_environment(script.environment, (*here, "environment"), places)
        check_time(script.timeout, (*here, "timeout"), places)


def _foreign_init(program: str, path: Path, places: Places) -> None:
    if os.path.basename(program) in ("init", "systemd") and os.path.dirname(program) != "/usr/local/bin":
        places.warn(
            path,
            f"{quoted(program)} is an init, and most insist on being PID 1",
            "hand over to it with `mode: exec` instead",
        )


def _shutdown_timeout(processes: dict[str, structs.Process], timeout: float | None, path: Path, places: Places) -> None:
    here = (*path, "shutdownTimeout")
    check_time(timeout, here, places)
    if timeout is None or not processes:
        return
    longest, chain = _longest_stop(processes)
    if timeout < longest:
        needed = format_duration(longest)
        if len(chain) == 1:
            of = f"the longest terminationGracePeriod, {needed} of {quoted(chain[0])}"
        else:
            of = f"what stopping {' before '.join(map(quoted, chain))} may take, {needed}"
        places.warn(here, f"is shorter than {of}: it will be shared out", f'write at least "{needed}", or leave it out')


def _longest_stop(processes: dict[str, structs.Process]) -> tuple[float, list[str]]:
    """Seconds, and the names of the chain that takes so long, in the order of stopping."""
    from ocelot.config.dependencies import edges, stop_time
    from ocelot.config.graph import cycles, heaviest_chain

    weights = {name: stop_time(process) for name, process in processes.items()}
    needs = edges(processes)
    if not any(needs.values()) or cycles(needs):
        longest = max(weights, key=lambda name: weights[name])
        return weights[longest], [longest]
    chain = heaviest_chain(needs, weights)
    return sum(weights[name] for name in chain), chain


# -- what a root file system does to what comes after it -------------------------------------------


def _hidden_by_root(config: structs.Bootstrap, root: structs.Mount, places: Places) -> None:
    """Programs on a noExec root, and files to be made on a read-only one, which an overlay makes writable."""
    words = root.options.split(",")
    mounts = [mount for _, mount in present((*config.pre_switch.mounts, *config.post_switch.mounts))]
    if root.no_exec or "noexec" in words:
        line = places.line(("switchRoot", "rootFileSystem", "noExec" if root.no_exec else "options"))
        open_paths = [mount.target for mount in mounts if mount.target and not mount.no_exec]
        for path, program in _programs(config):
            if not _elsewhere(program, open_paths):
                places.warn(
                    path,
                    f"{quoted(program)} cannot be executed: the root file system is mounted noExec",
                    f"remove noExec in line {line}",
                )
    if (root.read_only or "ro" in words) and not root.overlay:
        writable = [mount.target for mount in mounts if mount.target and not mount.read_only]
        for path, name in _written(config):
            if not _elsewhere(name, writable):
                places.warn(
                    path,
                    f"{quoted(name)} cannot be made: the root file system is read-only",
                    "set `overlay: true` on it, or mount something writable there",
                )


def _elsewhere(name: str, mounts: list[str]) -> bool:
    """Whether ``name`` lies on another file system than the root."""
    return any(name.startswith(prefix) for prefix in _BELOW_ROOT_ANYWAY) or any(
        name == mount or name.startswith(mount.rstrip("/") + "/") for mount in mounts
    )


def _programs(config: structs.Bootstrap) -> list[tuple[Path, str]]:
    """Everything that is started from the new root, with its place."""
    found: list[tuple[Path, str]] = [
        (("postSwitch", "hooks", index, "command"), hook.command) for index, hook in present(config.post_switch.hooks)
    ]
    handoff = config.post_switch.handoff
    if handoff is None:
        return found
    here = ("postSwitch", "handoff")
    if handoff.boot_script is not None:
        found.append(((*here, "bootScript", "path"), handoff.boot_script.path))
    if isinstance(handoff, structs.Supervise):
        for name, process in handoff.processes.items():
            entry = (*here, "processes", name)
            found.append(((*entry, "program"), process.program))
            for key, commands in (("preStart", process.pre_start), ("postStop", process.post_stop)):
                found += [((*entry, key, index, "command"), each.command) for index, each in present(commands)]
    else:
        found.append(((*here, "program"), handoff.program))
    return found


def _written(config: structs.Bootstrap) -> list[tuple[Path, str]]:
    """Everything that is made in the new root, with its place."""
    phase = config.post_switch
    found: list[tuple[Path, str]] = [
        (("postSwitch", "tmpfiles", index, "path"), item.path) for index, item in present(phase.tmpfiles)
    ]
    found += [(("postSwitch", "symlinks", index, "target"), link.target) for index, link in present(phase.symlinks)]
    if isinstance(phase.handoff, structs.Supervise):
        for name, process in phase.handoff.processes.items():
            for stream in ("stdout", "stderr"):
                destination = getattr(process.log, stream).destination
                if isinstance(destination, structs.File):
                    path = ("postSwitch", "handoff", "processes", name, "log", stream, "destination", "path")
                    found.append((path, destination.path))
    return found


# -- the sections of both files --------------------------------------------------------------------


def _sections(config: structs.Sections, places: Places) -> None:
    _control(config.control, places)
    _metrics(config.metrics, places)
    if not config.host.exit_port or "/" in config.host.exit_port:
        places.error(("host", "exitPort"), f"{quoted(config.host.exit_port)} is not the name of a virtio-serial port")
    if config.hostname is not None:
        _hostname(config.hostname, places)
    check_program(config.on_fatal.shell, ("onFatal", "shell"), places)
    check_time(config.on_fatal.timeout, ("onFatal", "timeout"), places)
    check_time(config.shutdown.timeout, ("shutdown", "timeout"), places)
    if config.on_fatal.action is not structs.FatalAction.SHELL and not places.broken(("onFatal", "action")):
        for key in ("shell", "timeout"):
            if places.given(("onFatal", key)):
                places.warn(("onFatal", key), "has no effect without `action: shell`", "set the action, or remove it")


def _control(control: structs.Control, places: Places) -> None:
    if not control.socket.startswith("/"):
        places.error(("control", "socket"), f"{quoted(control.socket)} is not an absolute path")
    elif len(control.socket.encode()) > 107:
        places.error(("control", "socket"), "is longer than 107 bytes, the limit of unix(7)", "choose a shorter path")
    if control.group == "":
        places.error(("control", "group"), "must not be empty", "leave it out")
    for role in ("read", "operate", "admin"):
        for index, name in present(getattr(control.roles, role)):
            if not name.lstrip("@") or any(letter.isspace() or letter == ":" for letter in name):
                places.error(("control", "roles", role, index), f"{quoted(name)} is neither a user nor a @group")
    if control.vsock is not None and not 0 < control.vsock.port < _ANY_PORT:
        places.error(("control", "vsock", "port"), f"there is no port {control.vsock.port}", "write for example 9465")
    if not places.broken(("control",)):
        _who_gets_in(control, places)


_ANY_PORT = 0xFFFF_FFFF
"""VMADDR_PORT_ANY of vsock(7), and the first number that is no port."""


_GROUP_WRITE, _OTHERS_WRITE = 0o020, 0o002
"""unix(7): whoever may write to the file of a socket may connect to it."""


def _who_gets_in(control: structs.Control, places: Places) -> None:
    """A role is worth nothing to those who cannot open the socket, and the socket nothing to those without a role."""
    has_roles = bool(control.roles.read or control.roles.operate or control.roles.admin)
    if control.group is not None and not control.mode & _GROUP_WRITE:
        places.warn(
            ("control", "group"),
            f"has no effect: mode {control.mode:04o} keeps the group out of the socket",
            'set control.mode to "0660"',
        )
    elif control.group is not None and not has_roles:
        places.warn(
            ("control", "group"),
            "its members can open the socket, but may do nothing there",
            f"give them a role, for example control.roles.operate: [{_at(control.group)}]",
        )
    elif has_roles and not control.mode & _OTHERS_WRITE and control.group is None:
        places.warn(
            ("control", "roles"),
            f"nobody but root can open the socket: its mode is {control.mode:04o}, and no group is set",
            'set control.mode to "0666", or to "0660" and control.group',
        )


def _at(group: str) -> str:
    return f'"@{group.removeprefix("@")}"'


def _metrics(metrics: structs.Metrics, places: Places) -> None:
    if metrics.listen is None:
        return
    host, colon, port = metrics.listen.rpartition(":")
    path = ("metrics", "listen")
    if not colon or not port.isascii() or not port.isdigit():
        hint = f'write "0.0.0.0:{port}"' if port.isdigit() else 'write for example "0.0.0.0:9464"'
        places.error(path, f"{quoted(metrics.listen)} is not HOST:PORT", hint)
    elif not 0 < int(port[:6]) < 65536:
        places.error(path, f"there is no port {port[:20]}", "write 1 to 65535")
    elif not is_numeric_address(host):
        hint = f'write "0.0.0.0:{port}"' if not host or host == "*" else "names are not looked up here"
        places.error(path, f"{quoted(host)} is not a numeric address", hint)


def _hostname(hostname: str, places: Places) -> None:
    path = ("hostname",)
    if not hostname:
        places.error(path, "must not be empty", "leave it out")
    elif len(hostname.encode()) > 64:
        places.error(path, "is longer than 64 bytes, the limit of sethostname(2)")
    elif not all(letter.isascii() and (letter.isalnum() or letter in "-._") for letter in hostname):
        places.error(path, f"{quoted(hostname)} is not a host name", "use letters, digits, hyphens and dots")
