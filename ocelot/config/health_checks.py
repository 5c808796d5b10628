"""What the keys of probes, notification and sockets mean together."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ocelot.config import structs
from ocelot.config.addresses import UNIX_MAX, parse_address, parse_statuses
from ocelot.config.findings import Path, quoted
from ocelot.config.places import Places, present
from ocelot.config.program_checks import check_program, check_time
from ocelot.config.values import format_duration, parse_pattern

T = TypeVar("T")

FIRST_SOCKET = 3
"""The number of the first descriptor that is passed on, sd_listen_fds(3)."""

_PROBES = {"readinessProbe": "readiness_probe", "livenessProbe": "liveness_probe", "startupProbe": "startup_probe"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, 5.6.2


def check_health(process: structs.Process, path: Path, places: Places) -> None:
    """Probes, ``notify`` and ``sockets`` of one process."""
    for key, name in _PROBES.items():
        probe = getattr(process, name)
        if probe is not None:
            _probe(key, probe, process, (*path, key), places)
    if process.notify is not None:
        _notify(process.notify, len(process.sockets), (*path, "notify"), places)
    _no_restart(process, path, places)
    _sockets(process.sockets, (*path, "sockets"), places)


def check_listeners(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    """No two sockets of a set may listen on the same address."""
    seen: dict[str, tuple[str, Path]] = {}
    for name, process in processes.items():
        for index, socket in present(process.sockets):
            here = (*path, name, "sockets", index, "listen")
            try:
                shown = parse_address(socket.listen).shown
            except ValueError:
                continue
            if shown in seen:
                other, first = seen[shown]
                message = f"{quoted(socket.listen)} is also listened on by {quoted(other)} in line {places.line(first)}"
                places.error(here, message, also=first)
            else:
                seen[shown] = (name, here)


def _no_restart(process: structs.Process, path: Path, places: Places) -> None:
    """What condemns a process is mostly meant to have it started again, and that is not the default."""
    if process.restart_policy.type is not structs.RestartType.NEVER or places.broken((*path, "restartPolicy")):
        return
    keys: list[Path] = [("livenessProbe",)] if process.liveness_probe is not None else []
    if process.notify is not None and process.notify.kind == "systemd" and process.notify.watchdog:
        keys.append(("notify", "watchdog"))
    for key in keys:
        message = "stops the process and does not start it again: restartPolicy is Never"
        places.warn((*path, *key), message, "write `restartPolicy: {type: OnFailure}`, or Always")


# -- probes ----------------------------------------------------------------------------------------


def _probe(key: str, probe: structs.Probe, process: structs.Process, path: Path, places: Places) -> None:
    for name in ("period", "timeout"):
        check_time(getattr(probe, name), (*path, name), places)
    if places.given((*path, "timeout")) and probe.timeout > probe.period > 0:
        message = f"is longer than the period of {format_duration(probe.period)}"
        places.error((*path, "timeout"), message, "shorten it, or lengthen the period")
    for name, value in (("failureThreshold", probe.failure_threshold), ("successThreshold", probe.success_threshold)):
        if value < 1:
            places.error((*path, name), "must be at least 1")
    if probe.success_threshold > 1 and key != "readinessProbe":
        places.error((*path, "successThreshold"), f"must be 1: one success is enough for a {key}", "remove it")
    here = (*path, "handler")
    match probe.handler:
        case structs.HttpGet():
            _http(probe.handler, here, places)
        case structs.TcpSocket() | structs.Grpc():
            _endpoint(probe.handler.host, probe.handler.port, here, places)
        case structs.UnixSocket():
            _unix(probe.handler.path, here, places)
        case structs.ExecCommand():
            _command(probe.handler.command, here, places)
        case structs.LogPattern():
            _log(key, probe.handler, process, path, places)


def _endpoint(host: str, port: int, path: Path, places: Places) -> None:
    if not host or any(letter.isspace() or letter in "/@" for letter in host):
        places.error((*path, "host"), f"{quoted(host)} is neither an address nor a host name")
    elif host.startswith("[") or ("%" in host and ":" in host):
        places.error((*path, "host"), f"{quoted(host)} is not an address", "write an IPv6 address without brackets")
    if not 0 < port < 65536:
        places.error((*path, "port"), f"there is no port {port}", "write 1 to 65535")


def _http(handler: structs.HttpGet, path: Path, places: Places) -> None:
    _endpoint(handler.host, handler.port, path, places)
    if not handler.path.startswith("/"):
        hint = f'write "/{handler.path}"' if "://" not in handler.path else "write host, port and path apart"
        places.error((*path, "path"), f"{quoted(handler.path)} does not begin with a slash", hint)
    elif any(not "!" <= letter <= "~" for letter in handler.path):
        places.error((*path, "path"), f"{quoted(handler.path)} cannot be the path of a URL", "percent-encode it")
    for name, value in handler.headers.items():
        if not _TOKEN.fullmatch(name):
            places.error((*path, "headers", name), f"{quoted(name)} cannot be the name of a header", key=True)
        elif any(letter in "\r\n\0" for letter in value):
            places.error((*path, "headers", name), "the value of a header is one line")
    if handler.expected_status is not None:
        _parse(partial(parse_statuses, handler.expected_status), (*path, "expectedStatus"), places)


def _unix(name: str, path: Path, places: Places) -> None:
    if not name.startswith(("/", "@")):
        places.error((*path, "path"), f"{quoted(name)} is not an absolute path")
    elif len(name.encode()) > UNIX_MAX:
        message = f"is longer than {UNIX_MAX} bytes, the limit of unix(7)"
        places.error((*path, "path"), message, "choose a shorter path")


def _command(command: tuple[str, ...], path: Path, places: Places) -> None:
    if not command:
        places.error((*path, "command"), "must not be empty", "write for example [/bin/true]")
    elif command[0] is not None:
        check_program(command[0], (*path, "command", 0), places)


def _log(key: str, handler: structs.LogPattern, process: structs.Process, path: Path, places: Places) -> None:
    here = (*path, "handler")
    if key == "livenessProbe":
        hint = "use it as readinessProbe or startupProbe"
        places.error((*here, "type"), "a line of the log says nothing about being alive later", hint)
    if not handler.pattern:
        places.error((*here, "pattern"), "must not be empty")
    try:
        parse_pattern(handler.pattern)
    except ValueError as error:
        places.error((*here, "pattern"), str(error))
    destinations = [process.log.stdout.destination, process.log.stderr.destination]
    if all(isinstance(each, structs.Null | structs.Direct) for each in destinations):
        places.error((*here, "type"), "ocelot does not see the output of this process", "let log.stdout be relayed")
    without = ["timeout"] if key == "startupProbe" else ["timeout", "failureThreshold", "successThreshold"]
    for name in without:
        if places.given((*path, name)):
            places.warn((*path, name), "has no effect: it is ready with the first line that matches", "remove it")


# -- notification ----------------------------------------------------------------------------------


def _notify(notify: structs.Notify, sockets: int, path: Path, places: Places) -> None:
    here = (*path, "fd")
    if places.broken((*path, "type")):
        return
    if notify.type is None and notify.fd is None:
        places.error(path, '"type" is missing', "write systemd, or {fd: 3}")
        return
    if notify.kind == "fd" and notify.fd is None:
        places.error(path, '"fd" is missing', "write {fd: 3}")
    elif notify.fd is not None and notify.kind != "fd":
        places.error(here, f"has no meaning with type {notify.kind}", "write {fd: 3} alone, or remove it")
    elif notify.fd is not None and not 2 < notify.fd < 1024:
        places.error(here, f"{notify.fd} cannot be a descriptor for this", "write a number from 3 to 1023")
    elif notify.fd is not None and notify.fd < FIRST_SOCKET + sockets:
        message = f"descriptor {notify.fd} is one of its sockets: they begin at {FIRST_SOCKET}"
        places.error(here, message, f"write {FIRST_SOCKET + sockets} or more")
    check_time(notify.watchdog, (*path, "watchdog"), places)
    check_time(notify.timeout, (*path, "timeout"), places)
    if notify.watchdog is not None and notify.kind != "systemd":
        places.error((*path, "watchdog"), "needs type systemd: a descriptor carries no WATCHDOG=1", "remove it")
    if notify.kind != "systemd" and places.given((*path, "reload")):
        places.error((*path, "reload"), "needs type systemd: a descriptor carries no RELOADING=1", "remove it")


# -- sockets ---------------------------------------------------------------------------------------


def _sockets(sockets: tuple[structs.Socket, ...], path: Path, places: Places) -> None:
    names: dict[str, int] = {}
    for index, socket in present(sockets):
        here = (*path, index)
        if not socket.name or len(socket.name) > 255 or any(not " " <= c <= "~" or c == ":" for c in socket.name):
            message = f"{quoted(socket.name)} cannot be the name of a socket"
            places.error((*here, "name"), message, "use letters, digits, dots and hyphens, sd_listen_fds(3)")
        elif socket.name in names:
            first = (*path, names[socket.name], "name")
            message = f"{quoted(socket.name)} is also the name in line {places.line(first)}"
            places.error((*here, "name"), message, also=first)
        names.setdefault(socket.name, index)
        if socket.backlog < 1:
            places.error((*here, "backlog"), "must be at least 1")
        address = _parse(partial(parse_address, socket.listen), (*here, "listen"), places)
        if address is None:
            continue
        if address.kind != "unix" or address.path.startswith("@"):
            for key in ("mode", "user", "group"):
                if places.given((*here, key)):
                    places.error((*here, key), "belongs to unix sockets that are files", "remove it")
        if address.kind == "udp" and places.given((*here, "backlog")):
            places.warn((*here, "backlog"), "has no effect: datagrams have no connections to wait", "remove it")


def _parse(parse: Callable[[], T], path: Path, places: Places) -> T | None:
    try:
        return parse()
    except ValueError as error:
        message, _, hint = str(error).partition(": ")
        places.error(path, message, hint)
        return None
