"""systemd units: services with their sockets and timers (systemd.service(5), .exec(5), .kill(5), .resource-control(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ocelot.convert import calendar_times, words
from ocelot.convert.draft import Draft, Entry, seconds
from ocelot.convert.service_keys import KEYS, run, shell_words
from ocelot.convert.units import Section, Unit, expand, load, split
from ocelot.errors import OcelotError

_SUFFIXES = (".service", ".socket", ".timer")

_SILENT = {
    "Unit": {
        "Description",
        "Documentation",
        "SourcePath",
        "DefaultDependencies",
        "IgnoreOnIsolate",
    },
    "Install": {"WantedBy", "RequiredBy", "Also", "DefaultInstance", "UpheldBy"},
    "Service": {"Type", "ExecStart", "GuessMainPID", "KillMode", "NotifyAccess", "SyslogIdentifier"},
}
_SANDBOX = re.compile(
    r"(Protect|Private|NoExec|Exec(?=Paths)|Restrict|SystemCall|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Lock|MemoryDeny|RemoveIPC|Dynamic|"
    r"Root|Mount|Device|IPAddress|Proc|Keyring|Secure|Load|SetCredential|AppArmor|SELinux|Smack|Network|Pass|NUMA|CPUAff|CPUSched|Delegate|Slice)"
)


def read(paths: Sequence[str]) -> Draft:
    """Unit files, or folders of them. What belongs together (a socket, a timer) is put together. Raises OcelotError."""
    units = {unit.name: unit for unit in map(load, _files(paths))}
    if not units:
        raise OcelotError("cannot convert: no unit file was found", hint="name .service, .socket and .timer files")
    draft = Draft(", ".join(sorted(units)) if len(units) < 6 else f"{len(units)} unit files")
    names = {unit.name for unit in units.values()}
    for unit in units.values():
        if unit.name.endswith(".service"):
            draft.entries.append(_service(unit, names))
    for unit in units.values():
        if unit.name.endswith(".socket"):
            _socket(unit, draft)
        elif unit.name.endswith(".timer"):
            _timer(unit, draft)
    _order(draft, units)
    return draft


def _files(paths: Sequence[str]) -> list[str]:
    found = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(_SUFFIXES))
            found += [each for each in inside if os.path.isfile(each)]  # not the masked ones
        else:
            found.append(path)
    return found


def _service(unit: Unit, names: set[str]) -> Entry:
    entry = Entry(unit.stem, about=expand(unit.last("Unit", "Description"), unit))
    service = unit.sections.get("Service", {})
    kind = unit.last("Service", "Type", "simple").lower()
    _command(unit, entry, kind)
    if unit.stem.endswith("@"):
        entry.withheld = entry.withheld or "it is a template: link or copy it to NAME@INSTANCE.service first"
    _kind(unit, entry, kind)
    sandbox = {key: values for key, values in service.items() if values and key not in KEYS and _SANDBOX.match(key)}
    if sandbox:
        settings = ", ".join(f"{key}={value}" for key, values in sandbox.items() for value in values)
        entry.lose(
            settings, "there is no sandbox of mounts, namespaces and system calls; see capabilities and noNewPrivileges"
        )
    for key, values in service.items():
        if not values or key in _SILENT["Service"] or key in sandbox:
            continue
        convert = KEYS.get(key)
        if convert is not None:
            convert([expand(value, unit) for value in values], entry)
        else:
            _lose(key, values, entry)
    _restarts(unit, entry)
    _stopping(unit, entry)
    if kind == "notify" and "reloadSignal" in entry.keys:
        notify = entry.keys["notify"]
        entry.keys["notify"] = {**(notify if isinstance(notify, dict) else {"type": notify}), "reload": False}
    for section in ("Unit", "Install"):
        for key, values in unit.sections.get(section, {}).items():
            if key not in _SILENT[section] | _ORDERING | {
                "StartLimitBurst",
                "StartLimitIntervalSec",
                "StartLimitInterval",
            }:
                _lose(key, values, entry)
    return entry


def _lose(key: str, values: Sequence[str], entry: Entry) -> None:
    why = "there is no counterpart"
    if key.startswith(("Condition", "Assert")):
        why = "nothing is started on a condition"
    for value in values:
        entry.lose(f"{key}={value}", why)


# -- commands


def _command(unit: Unit, entry: Entry, kind: str) -> None:
    commands = [_executable(line, unit, entry) for line in unit.all("Service", "ExecStart")]
    if not commands:
        entry.keys["program"] = "/bin/true"
        entry.withheld = "it has no ExecStart"
    elif len(commands) == 1:
        entry.keys |= run(commands[0])
    else:
        entry.keys |= words.shell(" && ".join(map(shell_words, commands)))


def _executable(line: str, unit: Unit, entry: Entry) -> list[str]:
    """The words of a command line, without systemd's prefixes."""
    prefixes = re.match(r"[-@:+!|]*", line)
    assert prefixes is not None
    found = split(expand(line[prefixes.end() :].strip(), unit))
    if not found:
        raise OcelotError(f"cannot convert {unit.name}: an empty command line")
    marks = prefixes.group()
    if "@" in marks and len(found) > 1:
        entry.lose(f"@ before {found[0]}", f"its name (argv[0]) is the program's, not {found[1]}")
        del found[1]
    if "-" in marks:
        entry.lose(f"- before {found[0]}", "its failure is not ignored")
    for mark in "+!":
        if mark in marks:
            entry.lose(f"{mark} before {found[0]}", "it runs as the user of the process")
    return found


def _kind(unit: Unit, entry: Entry, kind: str) -> None:
    if kind == "oneshot":
        entry.keys["type"] = "oneshot"
    elif kind.startswith("notify"):
        entry.keys["notify"] = "systemd"
        if kind == "notify-reload":
            entry.keys["reloadSignal"] = "SIGHUP"  # unless ReloadSignal= says otherwise
    elif kind == "forking":
        _stay_in_front(entry)
    elif kind == "dbus":
        entry.lose("Type=dbus", "its name on the bus is not waited for")


def _stay_in_front(entry: Entry) -> None:
    """A program that puts itself into the background looks as if it had ended."""
    arguments = entry.keys.get("arguments", [])
    if any("daemon on;" in word for word in arguments):
        entry.keys["arguments"] = [word.replace("daemon on;", "daemon off;") for word in arguments]
        entry.lose("daemon on", "daemon off takes its place: it must stay in the foreground")
    else:
        entry.withheld = (
            "it puts itself into the background (Type=forking): find its option to stay in the foreground "
            "(-f, -F, --foreground, --nodaemon), then take the comment signs away"
        )


# -- restarts and stops


def _restarts(unit: Unit, entry: Entry) -> None:
    kind = unit.last("Service", "Restart", "no")
    known = {"always": "Always", "on-failure": "OnFailure", "on-abnormal": "OnFailure", "on-abort": "OnFailure", "on-watchdog": "OnFailure"}  # fmt: skip
    policy = entry.keys.pop("restartPolicy", {})
    if kind in known:
        delay = words.span(unit.last("Service", "RestartSec", "100ms"))
        policy = {"type": known[kind], "backoff": seconds(0.1 if delay is None else delay), "multiplier": 1, **policy}
        burst = unit.last("Unit", "StartLimitBurst", unit.last("Service", "StartLimitBurst"))
        if burst.isdigit() and int(burst):
            policy["maxRetries"] = int(burst)
            window = unit.last("Unit", "StartLimitIntervalSec", unit.last("Unit", "StartLimitInterval", "10s"))
            policy["resetAfter"] = seconds(words.span(window) or 10.0)
        if kind not in ("always", "on-failure"):
            entry.lose(f"Restart={kind}", "OnFailure takes its place: an exit with another status counts too")
    elif kind == "on-success":
        entry.lose("Restart=on-success", "there is Always, OnFailure and Never")
    if policy:
        entry.keys["restartPolicy"] = policy


def _stopping(unit: Unit, entry: Entry) -> None:
    signal = unit.last("Service", "KillSignal", "SIGTERM")
    if signal not in ("SIGTERM", "TERM", "15"):
        entry.keys["shutdownSignal"] = int(signal) if signal.isdigit() else "SIG" + signal.removeprefix("SIG")
    text = unit.last("Service", "TimeoutStopSec", unit.last("Service", "TimeoutSec", "90s"))
    grace = words.span(text)
    if grace is None or grace == 0:
        entry.lose(f"TimeoutStopSec={text}", "there is always an end: 1h stands for it")
        grace = 3600.0
    entry.keys["terminationGracePeriod"] = seconds(grace)
    mode = unit.last("Service", "KillMode", "control-group")
    if mode == "mixed":
        entry.lose("KillMode=mixed", "the signal goes to the whole process group, not to the first process alone")
    elif mode != "control-group":
        entry.lose(f"KillMode={mode}", "a stop means the whole process group")
    if unit.last("Service", "SendSIGKILL", "yes").lower() in ("no", "false", "off", "0"):
        entry.lose("SendSIGKILL=no", "what is left after the grace period is killed")
    identifier = expand(unit.last("Service", "SyslogIdentifier"), unit)
    if identifier not in ("", entry.name):
        entry.lose(f"SyslogIdentifier={identifier}", "its lines carry the name of the process")


# -- what belongs to a service


_ORDERING = {"Requires", "Requisite", "Wants", "BindsTo", "PartOf", "After", "Before", "Conflicts", "Upholds"}


def _order(draft: Draft, units: dict[str, Unit]) -> None:
    """Between converted services only; the others are named in comments, the targets of the boot are there anyway."""
    for unit in units.values():
        entry = draft.entry(unit.stem) if unit.name.endswith(".service") else None
        if entry is None:
            continue
        needs = {name for key in ("Requires", "Requisite", "BindsTo") for name in unit.words("Unit", key)}
        follows = {name for key in ("BindsTo", "PartOf") for name in unit.words("Unit", key)}
        before = {other.name for other in units.values() if unit.name in other.words("Unit", "Before")}
        wanted: dict[str, Any] = {}
        for name in dict.fromkeys([*unit.words("Unit", "After"), *sorted(needs), *sorted(before)]):
            other = draft.entry(name.removesuffix(".service")) if name.endswith(".service") else None
            if other is not None and other is not entry and not other.withheld:
                one: dict[str, Any] = {} if name in needs else {"required": False}
                if name in follows:
                    one["restart"] = True
                wanted[other.name] = one
        if wanted:
            entry.keys["dependsOn"] = wanted
        for key in ("Requires", "Requisite", "BindsTo", "PartOf", "Wants", "Upholds", "After", "Before"):
            for name in unit.words("Unit", key):
                _strange(key, name, wanted, draft, entry)
        for name in unit.words("Unit", "Conflicts"):
            if not name.endswith(".target"):
                entry.lose(f"Conflicts={name}", "nothing is stopped because another starts")


def _strange(key: str, name: str, wanted: Mapping[str, Any], draft: Draft, entry: Entry) -> None:
    """What is said of a unit that is not here. Targets, slices and the like are nothing to wait for."""
    essential = key in ("Requires", "Requisite", "BindsTo")
    if not name.endswith(".service"):
        if essential and not name.endswith((".target", ".slice", ".mount", ".socket")):
            entry.lose(f"{key}={name}", "it is not among the converted units")
    elif draft.entry(name.removesuffix(".service")) is None:
        entry.lose(f"{key}={name}", "it is not among the converted units")
    elif key == "PartOf" and name.removesuffix(".service") not in wanted:
        entry.lose(f"PartOf={name}", "only what is started after another follows its restarts: see dependsOn")


def _socket(unit: Unit, draft: Draft) -> None:
    service = unit.last("Socket", "Service", f"{unit.stem}.service")
    entry = draft.entry(service.removesuffix(".service"))
    if entry is None:
        draft.lose(unit.name, f"{service} is not among the converted units")
        return
    section: Section = unit.sections.get("Socket", {})
    sockets: list[dict[str, Any]] = []
    for key, scheme in (("ListenStream", "tcp"), ("ListenDatagram", "udp")):
        for address in unit.all("Socket", key):
            address = expand(address, unit)
            if address.startswith("/"):
                listen = f"unix://{address}"
            elif address.isdigit():
                listen = f"{scheme}://[::]:{address}"
            else:
                listen = f"{scheme}://{address}"
            name = unit.last("Socket", "FileDescriptorName", unit.stem)
            one: dict[str, Any] = {"name": f"{name}-{len(sockets) + 1}" if sockets else name, "listen": listen}
            if listen.startswith("unix") and key == "ListenDatagram":
                entry.lose(f"ListenDatagram={address}", "unix sockets are streams")
                continue
            for theirs, ours in (("SocketMode", "mode"), ("SocketUser", "user"), ("SocketGroup", "group")):
                if unit.last("Socket", theirs) and listen.startswith("unix"):
                    one[ours] = unit.last("Socket", theirs)
            sockets.append(one)
    if sockets:
        entry.keys["sockets"] = sockets
    if unit.last("Socket", "Accept", "no").lower() in ("yes", "true"):
        entry.withheld = "its socket starts one process for each connection (Accept=yes)"
    known = {"ListenStream", "ListenDatagram", "SocketMode", "SocketUser", "SocketGroup", "Service", "Accept", "FileDescriptorName", "RemoveOnStop"}  # fmt: skip
    for key, values in section.items():
        if key not in known:
            for value in values:
                entry.lose(f"{unit.name}: {key}={value}", "there is no counterpart")


def _timer(unit: Unit, draft: Draft) -> None:
    service = unit.last("Timer", "Unit", f"{unit.stem}.service")
    entry = draft.entry(service.removesuffix(".service"))
    if entry is None:
        draft.lose(unit.name, f"{service} is not among the converted units")
        return
    schedule: dict[str, Any] = {}
    times = unit.all("Timer", "OnCalendar")
    found = calendar_times.cron(times[0]) if len(times) == 1 else None
    every = words.span(unit.last("Timer", "OnUnitActiveSec", unit.last("Timer", "OnUnitInactiveSec", "x")))
    if found is not None:
        schedule["cron"] = found[0]
        if found[1]:
            schedule["timezone"] = found[1]
    elif every:
        schedule["every"] = seconds(every)
    else:
        entry.withheld = f"cron cannot say when {unit.name} is due: {', '.join(times) or 'it has no calendar time'}"
    if schedule:
        entry.keys["schedule"] = schedule
    known = {"OnCalendar", "OnUnitActiveSec", "OnUnitInactiveSec", "Unit", "AccuracySec"}
    for key, values in unit.sections.get("Timer", {}).items():
        if key not in known:
            for value in values:
                entry.lose(f"{unit.name}: {key}={value}", "there is no counterpart")
