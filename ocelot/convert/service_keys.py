"""The keys of systemd's [Service] sections that have a counterpart, one short function each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ocelot.convert import words
from ocelot.convert.draft import Entry, seconds
from ocelot.convert.units import split


def run(found: Sequence[str]) -> dict[str, object]:
    """Directly, or through a shell when a variable is to be put in."""
    if any(re.search(r"\$(?!\$)", word) for word in found):
        return words.shell("exec " + shell_words(found))
    return words.program([word.replace("$$", "$") for word in found])


def shell_words(found: Sequence[str]) -> str:
    """``$A`` alone is split into words, ``${A}`` is one word, as systemd has it."""

    def one(word: str) -> str:
        if re.fullmatch(r"\$\w+", word):
            return word
        parts = re.split(r"(\$\{\w+\})", word)
        if len(parts) == 1:
            return shlex.quote(word.replace("$$", "$"))
        return "".join(f'"{part}"' if part.startswith("${") else shlex.quote(part) for part in parts if part)

    return " ".join(map(one, found))


def _text(ours: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        entry.keys[ours] = values[-1]

    return convert


def _number(ours: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        if re.fullmatch(r"-?\d+", values[-1]):
            entry.keys[ours] = int(values[-1])
        else:
            entry.lose(f"{ours}: {values[-1]}", "it is no number")

    return convert


def _lost(why: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        key = next(key for key, found in KEYS.items() if found is convert)
        for value in values:
            entry.lose(f"{key}={value}", why)

    return convert


def _quiet(values: list[str], entry: Entry) -> None:
    """Handled elsewhere."""


def _directory(values: list[str], entry: Entry) -> None:
    path = values[-1].removeprefix("-")
    if path == "~":
        entry.lose("WorkingDirectory=~", "write the home directory of its user")
    else:
        entry.keys["workingDirectory"] = path


def _environment(values: list[str], entry: Entry) -> None:
    found = {}
    for value in values:
        for word in split(value):
            name, _, text = word.partition("=")
            found[name] = text
    entry.keys["environmentVariables"] = found


def _environment_file(values: list[str], entry: Entry) -> None:
    entry.keys["environmentFile"] = values[-1].removeprefix("-")
    if values[-1].startswith("-"):
        entry.lose(f"EnvironmentFile={values[-1]}", "the file must exist, or leave the key out")
    for value in values[:-1]:
        entry.lose(f"EnvironmentFile={value}", "one file only: the last wins; put them together")


def _commands(ours: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        entry.keys[ours] = []
        for value in values:
            bare = re.sub(r"^[-@:+!|]*", "", value)
            found = words.shell("exec " + shell_words(split(bare))) if "$" in bare else words.program(split(bare))
            if value.startswith("-"):
                found = words.shell(f"{shell_words(split(bare))} || true")
            entry.keys[ours].append({"command": found.pop("program"), **found})

    return convert


def _reload(values: list[str], entry: Entry) -> None:
    match = re.fullmatch(r"-?/(?:usr/)?bin/kill\s+(?:-s\s+|-)(?:SIG)?(\w+)\s+\$\{?MAINPID\}?", values[-1])
    if match is not None and len(values) == 1:
        entry.keys["reloadSignal"] = int(match[1]) if match[1].isdigit() else f"SIG{match[1]}"
        return
    for value in values:
        entry.lose(f"ExecReload={value}", "a reload is a signal: see reloadSignal")


def _stream(stream: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        kind, _, path = values[-1].partition(":")
        if kind in ("journal", "inherit", "syslog+console", "journal+console"):
            return  # ocelot keeps the last lines, and writes them to its own output
        if kind in ("null", "syslog", "kmsg"):
            destination = {"type": kind}
        elif kind in ("file", "append", "truncate"):
            destination = {"type": "file", "path": path}
        else:
            entry.lose(f"Standard{stream.title()}={values[-1]}", "there is no counterpart")
            return
        entry.keys.setdefault("log", {})["stdout" if stream == "output" else "stderr"] = {"destination": destination}

    return convert


def _stdin(values: list[str], entry: Entry) -> None:
    if values[-1].startswith("tty"):
        entry.keys["stdin"] = "tty"
    elif values[-1] != "null":
        entry.lose(f"StandardInput={values[-1]}", "it is empty, or the console")


def _limit(name: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        soft, _, hard = values[-1].partition(":")
        pair = [_limit_value(text) for text in (soft, hard) if text]
        found = pair[0] if len(pair) == 1 else {"soft": pair[0], "hard": pair[1]}
        entry.keys.setdefault("limits", {})[name] = found

    return convert


def _limit_value(text: str) -> Any:
    if text == "infinity":
        return "unlimited"
    size = words.size(text)
    return int(text) if text.isdigit() else size if size else text


def _resource(ours: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        text = values[-1]
        value: Any = words.size(text) if ours.startswith("memory") else text
        if text == "infinity":
            return
        if ours == "pidsMax":
            value = int(text) if text.isdigit() else None
        if value is None or (text.endswith("%") and ours != "cpuMax"):
            entry.lose(f"{ours}: {text}", "a share of the machine must be written as a number")
        else:
            entry.keys.setdefault("resources", {})[ours] = value

    return convert


def _folder(root: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        for name in " ".join(values).split():
            entry.lose(
                f"a folder {root}/{name} of its user", "make it under tmpfiles in a bootstrap file, or in the image"
            )

    return convert


def _ioclass(values: list[str], entry: Entry) -> None:
    known = {"1": "realtime", "realtime": "realtime", "2": "best-effort", "best-effort": "best-effort", "3": "idle", "idle": "idle"}  # fmt: skip
    if values[-1] in known:
        entry.keys.setdefault("ioprio", {})["class"] = known[values[-1]]
    else:
        entry.lose(f"IOSchedulingClass={values[-1]}", "there is no counterpart")


def _iolevel(values: list[str], entry: Entry) -> None:
    if values[-1].isdecimal():
        entry.keys.setdefault("ioprio", {"class": "best-effort"})["level"] = int(values[-1])
    else:
        entry.lose(f"IOSchedulingPriority={values[-1]}", "it is no number")


def _capabilities(ours: str) -> Callable[[list[str], Entry], None]:
    def convert(values: list[str], entry: Entry) -> None:
        names = " ".join(values).split()
        if any(name.startswith("~") for name in names):
            entry.lose(
                f"capabilities.{ours} {' '.join(names)}", "name those that it may have, not those that it may not"
            )
        else:
            entry.keys.setdefault("capabilities", {})[ours] = names

    return convert


def _yes(values: list[str], entry: Entry) -> None:
    if values[-1].lower() in ("yes", "true", "on", "1"):
        entry.keys["noNewPrivileges"] = True


def _codes(values: list[str], entry: Entry) -> None:
    numbers = [int(word) for value in values for word in value.split() if word.isdigit()]
    others = [word for value in values for word in value.split() if not word.isdigit()]
    if numbers:
        entry.keys.setdefault("restartPolicy", {})["successExitCodes"] = [0, *numbers]
    for word in others:
        entry.lose(f"SuccessExitStatus={word}", "only exit statuses can be a success")


def _reload_signal(values: list[str], entry: Entry) -> None:
    if "notify" in entry.keys:
        word = values[-1]
        entry.keys["reloadSignal"] = int(word) if word.isdigit() else f"SIG{word.removeprefix('SIG')}"


def _start_timeout(values: list[str], entry: Entry) -> None:
    timeout = words.span(values[-1])
    if entry.keys.get("notify") == "systemd" and timeout:
        entry.keys["notify"] = {"type": "systemd", "timeout": seconds(timeout)}
    elif timeout and "notify" not in entry.keys:
        entry.lose(f"TimeoutStartSec={values[-1]}", "without notify or a probe it counts as started at once")


def _watchdog(values: list[str], entry: Entry) -> None:
    span = words.span(values[-1])
    if span:
        notify = entry.keys.get("notify")
        entry.keys["notify"] = (notify if isinstance(notify, dict) else {"type": "systemd"}) | {
            "watchdog": seconds(span)
        }


KEYS: dict[str, Callable[[list[str], Entry], None]] = {
    "ExecStartPre": _commands("preStart"),
    "ExecStopPost": _commands("postStop"),
    "ExecReload": _reload,
    "ReloadSignal": _reload_signal,
    "ExecStartPost": _lost("nothing is run after a start: let another process depend on it"),
    "ExecStop": _lost("a stop is a signal to the whole group: see shutdownSignal"),
    "ExecCondition": _lost("nothing is started on a condition"),
    "WorkingDirectory": _directory,
    "Environment": _environment,
    "EnvironmentFile": _environment_file,
    "User": _text("user"),
    "Group": _text("group"),
    "SupplementaryGroups": lambda values, entry: entry.keys.update(supplementaryGroups=" ".join(values).split()),
    "UMask": _text("umask"),
    "Nice": _number("nice"),
    "OOMScoreAdjust": _number("oomScoreAdjust"),
    "IOSchedulingClass": _ioclass,
    "IOSchedulingPriority": _iolevel,
    "NoNewPrivileges": _yes,
    "CapabilityBoundingSet": _capabilities("bounding"),
    "AmbientCapabilities": _capabilities("ambient"),
    "StandardOutput": _stream("output"),
    "StandardError": _stream("error"),
    "StandardInput": _stdin,
    "MemoryMax": _resource("memoryMax"),
    "MemoryLimit": _resource("memoryMax"),
    "MemoryHigh": _resource("memoryHigh"),
    "CPUQuota": _resource("cpuMax"),
    "TasksMax": _resource("pidsMax"),
    "RuntimeDirectory": _folder("/run"),
    "StateDirectory": _folder("/var/lib"),
    "CacheDirectory": _folder("/var/cache"),
    "LogsDirectory": _folder("/var/log"),
    "ConfigurationDirectory": _folder("/etc"),
    "RuntimeDirectoryMode": _lost("give that mode to the folder"),
    "StateDirectoryMode": _lost("give that mode to the folder"),
    "RuntimeDirectoryPreserve": _quiet,
    "SuccessExitStatus": _codes,
    "TimeoutStartSec": _start_timeout,
    "TimeoutSec": _quiet,
    "TimeoutStopSec": _quiet,
    "WatchdogSec": _watchdog,
    "Restart": _quiet,
    "RestartSec": _quiet,
    "KillSignal": _quiet,
    "SendSIGKILL": _quiet,
    "StartLimitBurst": _quiet,
    "StartLimitInterval": _quiet,
    "StartLimitIntervalSec": _quiet,
    "PIDFile": _lost("its main process is the one that was started"),
    "RemainAfterExit": _lost("a oneshot that is done stays done: dependants use CompletedSuccessfully"),
    "BusName": _lost("its name on the bus is not waited for"),
    "LimitAS": _limit("as"),
    **{
        f"Limit{name.upper()}": _limit(name)
        for name in [
            "core",
            "cpu",
            "data",
            "fsize",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ]
    },
}
