"""Compose files (docker-compose.yml, compose.yaml): what their services run, in one machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import IO, Any

import yaml

from ocelot.config.nodes import MAX_NODES
from ocelot.convert import words
from ocelot.convert.draft import Draft, Entry, seconds
from ocelot.errors import OcelotError, describe

_CONDITIONS = {
    "service_started": "Started",
    "service_healthy": "Healthy",
    "service_completed_successfully": "CompletedSuccessfully",
}
_WHY = {
    "image": "its files must be in the root file system",
    "build": "its files must be in the root file system",
    "ports": "processes share one network: it listens itself",
    "expose": "processes share one network",
    "networks": "processes share one network; other services are at 127.0.0.1",
    "network_mode": "processes share one network",
    "links": "other services are at 127.0.0.1",
    "volumes": "mount it in the phases of a bootstrap file",
    "tmpfs": "mount it in the phases of a bootstrap file",
    "read_only": "mount the root read-only in a bootstrap file",
    "devices": "processes see the devices of the machine",
    "privileged": "processes have what ocelot has; see capabilities",
    "sysctls": "write it under sysctl in a bootstrap file",
    "hostname": "the machine has one hostname",
    "container_name": "the name is the service's",
    "labels": "there are no labels",
    "logging": "see log",
    "extra_hosts": "write /etc/hosts",
    "dns": "write /etc/resolv.conf",
    "security_opt": "see capabilities and noNewPrivileges",
    "configs": "put the file into the root file system",
    "secrets": "put the file into the root file system",
    "profiles": "ocelot starts every process",
    "cap_drop": "name what it may have in capabilities.bounding",
    "platform": "",
    "pull_policy": "",
}
_Convert = Callable[[Any, Entry, str], None]
_SILENT = {"init", "version", "container_name", "pull_policy", "platform"}


def read(path: str) -> Draft:
    """Raises OcelotError."""
    try:
        with open(path, encoding="utf-8") as file:
            document = _loaded(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise OcelotError(f'cannot read "{path}": {" ".join(str(error).split())}') from None
    if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
        raise OcelotError(f'cannot convert "{path}": it has no services', hint="is it a compose file?")
    draft = Draft(path)
    for key in document:
        if key not in ("services", "version", "name") and not str(key).startswith("x-"):
            draft.lose(f"{key}: {_short(document[key])}", _WHY.get(key, "there is no counterpart"))
    folder = os.path.dirname(os.path.abspath(path))
    for name, service in document["services"].items():
        if not isinstance(service, dict):
            raise OcelotError(f'cannot convert "{path}": services.{name} is no mapping')
        try:
            filled = _interpolated(service, draft)
        except RecursionError:
            raise OcelotError(f'cannot convert "{path}": services.{name} has an alias of itself') from None
        draft.entries.append(_service(str(name), filled, folder))
    _tidy_dependencies(draft)
    return draft


def _loaded(file: IO[str]) -> Any:
    """What is in the file, unless it is more than a configuration may be once its aliases are written out."""
    loader = yaml.SafeLoader(file)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _size(root, {}) > MAX_NODES:
            raise yaml.YAMLError(f"it has more than {MAX_NODES} values when its aliases are written out")
        return loader.construct_document(root)
    except _UNREADABLE as error:  # a value that looks like a date and is none, a tag on a value that it does not fit
        raise yaml.YAMLError(describe(error)) from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values ``node`` is, with aliases written out; an alias within what it stands for is none."""
    if id(node) not in known:
        known[id(node)] = 0
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        nodes = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in nodes)
    return known[id(node)]


_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::?([-?+])([^}]*))?\}|(\w+))")


def _interpolated(value: Any, draft: Draft) -> Any:
    """``${NAME:-default}`` from the environment, as compose does it."""

    def fill(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        name = match[1] or match[4]
        found = os.environ.get(name)
        if match[2] == "+":
            return match[3] if found else ""
        if not found:
            found = match[3] if match[2] == "-" else ""
            if match[2] != "-":
                draft.lose(f"${{{name}}}", "it is not set here: nothing was put in")
        return found or ""

    if isinstance(value, str):
        return _VARIABLE.sub(fill, value)
    if isinstance(value, dict):
        return {key: _interpolated(item, draft) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, draft) for item in value]
    return value


def _service(name: str, service: Mapping[str, Any], folder: str) -> Entry:
    entry = Entry(re.sub(r"\s", "-", name))
    _command(service, entry)
    rest = dict(service)
    for key, convert in _KEYS.items():
        if key in rest:
            value = rest.pop(key)
            if value is not None:
                _take(key, value, convert, entry, folder)
    for key in ("command", "entrypoint"):
        rest.pop(key, None)
    for key, value in rest.items():
        if key not in _SILENT and not str(key).startswith("x-"):
            entry.lose(f"{key}: {_short(value)}", _WHY.get(key, "there is no counterpart"))
    return entry


_UNREADABLE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""What reading a value of an unexpected form ends in: a list in place of a mapping, a word in place of a number."""


def _take(key: str, value: Any, convert: _Convert, entry: Entry, folder: str) -> None:
    try:
        convert(value, entry, folder)
    except _UNREADABLE:
        entry.lose(f"{key}: {_short(value)}", "it could not be read")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is wanted")
    return value


def _command(service: Mapping[str, Any], entry: Entry) -> None:
    parts: list[str] = []
    for key in ("entrypoint", "command"):
        value = service.get(key)
        if isinstance(value, str):
            parts += words.split(value, f"{key} of {entry.name}")
        elif isinstance(value, list):
            parts += [str(item) for item in value]
    if parts:
        entry.keys |= words.program(parts)
    else:
        entry.keys["program"] = "/path/to/its/program"
        entry.withheld = "the file does not say what it runs: that is in its image; fill in program and arguments"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _environment(value: Any, entry: Entry, _folder: str) -> None:
    if isinstance(value, dict):
        pairs = list(value.items())
    else:  # without a sign, the value is that of whoever calls compose, as it is for null
        parts = [str(item).partition("=") for item in _list(value)]
        pairs = [(key, text if sign else None) for key, sign, text in parts]
    found = {}
    for key, item in pairs:
        item = os.environ.get(str(key)) if item is None else item
        if item is None:
            entry.lose(f"environment {key}", "it is not set here")
        else:
            found[str(key)] = str(item).lower() if isinstance(item, bool) else str(item)
    if found:
        entry.keys["environmentVariables"] = found


def _env_file(value: Any, entry: Entry, folder: str) -> None:
    files = [
        item if isinstance(item, dict) else {"path": item} for item in (value if isinstance(value, list) else [value])
    ]
    for item in files[:-1]:
        entry.lose(f"env_file: {item['path']}", "one file only: the last wins; put them together")
    for item in files[-1:]:
        entry.keys["environmentFile"] = os.path.join(folder, str(item["path"]))
        if item.get("required") is False:
            entry.lose(f"env_file: {_short(item)}", "the file must exist, or leave the key out")


def _depends_on(value: Any, entry: Entry, _folder: str) -> None:
    if isinstance(value, list):
        entry.keys["dependsOn"] = {str(name): {"condition": "Started"} for name in value}
        return
    found = {}
    for name, how in value.items():
        how = how or {}
        one: dict[str, Any] = {"condition": _CONDITIONS.get(how.get("condition", "service_started"), "Started")}
        if how.get("restart"):
            one["restart"] = True
        if how.get("required") is False:
            one["required"] = False
        found[str(name)] = one
    entry.keys["dependsOn"] = found


def _tidy_dependencies(draft: Draft) -> None:
    """What could not be converted cannot be waited for, and what was stripped of its probe not for being healthy."""
    live = {entry.name: entry for entry in draft.entries if not entry.withheld}
    for entry in draft.entries:
        wanted = entry.keys.get("dependsOn", {})
        for name in list(wanted):
            if name not in live:
                entry.lose(f"depends_on: {name}", "it was not converted")
                del wanted[name]
            elif wanted[name]["condition"] == "Healthy" and "readinessProbe" not in live[name].keys:
                entry.lose(
                    f"depends_on: {name}: service_healthy", "its health check is in its image: give it a readinessProbe"
                )
                wanted[name]["condition"] = "Started"
        if not wanted:
            entry.keys.pop("dependsOn", None)


def _healthcheck(value: Any, entry: Entry, _folder: str) -> None:
    test = value.get("test")
    if value.get("disable") or test in (None, ["NONE"], "NONE"):
        return
    kind, *command = ["CMD-SHELL", test] if isinstance(test, str) else [str(item) for item in test]
    if kind not in ("CMD", "CMD-SHELL") or not command:
        raise ValueError("the first word says what the others are")
    if kind == "CMD-SHELL":
        command = ["/bin/sh", "-c", command[0]]
    # zero stands for the default
    period = _time(value.get("interval"), 0.0) or 30.0
    timeout = _time(value.get("timeout"), 0.0) or 30.0
    retries = int(value.get("retries") or 3)
    probe = {
        "handler": {"type": "exec", "command": command},
        "period": seconds(period),
        "timeout": seconds(min(timeout, period)),
        "failureThreshold": retries,
    }
    start = _time(value.get("start_period"), 0.0)
    if start:
        interval = min(_time(value.get("start_interval"), 0.0) or 5.0, start)
        entry.keys["startupProbe"] = {
            "handler": probe["handler"],
            "period": seconds(interval),
            "timeout": seconds(min(timeout, interval)),
            "failureThreshold": max(1, round(start / interval)) + retries,
        }
    entry.keys["readinessProbe"] = probe


def _time(value: Any, default: float) -> float:
    found = words.span(str(value)) if value is not None else None
    return default if found is None else found


def _restart(value: Any, entry: Entry, _folder: str) -> None:
    text, _, count = str(value).partition(":")
    kind = {"always": "Always", "on-failure": "OnFailure", "unless-stopped": "UnlessStopped"}.get(text)
    if kind:
        entry.keys["restartPolicy"] = {"type": kind} | ({"maxRetries": int(count)} if count.isdigit() else {})


def _deploy(value: Any, entry: Entry, folder: str) -> None:
    known = {"replicas": _scale, "resources": _resources, "restart_policy": _restart_policy}
    for key, item in value.items():
        if key in known:
            _take(f"deploy.{key}", item, known[key], entry, folder)
        else:
            entry.lose(f"deploy.{key}: {_short(item)}", "there is no counterpart")


def _resources(value: Any, entry: Entry, folder: str) -> None:
    limits = value.get("limits") or {}
    for name, convert in (("memory", _memory), ("cpus", _cpus), ("pids", _pids)):
        if name in limits:
            convert(limits[name], entry, folder)
    if value.get("reservations"):
        entry.lose("deploy.resources.reservations", "there are only limits")


def _restart_policy(value: Any, entry: Entry, folder: str) -> None:
    """That of ``deploy``, which wins over ``restart``."""
    entry.keys.pop("restartPolicy", None)
    _restart({"any": "always", "on-failure": "on-failure"}.get(value.get("condition", "any"), "no"), entry, folder)
    policy = entry.keys.get("restartPolicy")
    if policy is None:
        return
    if value.get("max_attempts") is not None:
        policy["maxRetries"] = int(value["max_attempts"])
    if value.get("delay") is not None:
        policy |= {"backoff": seconds(_time(value["delay"], 0.0)), "multiplier": 1}
    if value.get("window") is not None:
        policy["resetAfter"] = seconds(_time(value["window"], 60.0))


def _scale(value: Any, entry: Entry, _folder: str) -> None:
    if int(value) > 1:
        entry.keys["replicas"] = int(value)
    elif int(value) == 0:
        entry.withheld = "it has no replicas"


def _resource(entry: Entry, key: str, value: Any) -> None:
    entry.keys.setdefault("resources", {})[key] = value


def _memory(value: Any, entry: Entry, _folder: str) -> None:
    found = words.size(str(value))
    if found is None:
        entry.lose(f"memory: {value}", "it is no size")
    else:
        _resource(entry, "memoryMax", found)


def _cpus(value: Any, entry: Entry, _folder: str) -> None:
    _resource(entry, "cpuMax", f"{float(value) * 100:g}%")


def _pids(value: Any, entry: Entry, _folder: str) -> None:
    if int(value) > 0:
        _resource(entry, "pidsMax", int(value))


def _ulimits(value: Any, entry: Entry, _folder: str) -> None:
    limits = {}
    for name, limit in value.items():
        if isinstance(limit, dict):
            limits[name] = {key: _unlimited(limit[key]) for key in ("soft", "hard") if key in limit}
        else:
            limits[name] = _unlimited(limit)
    entry.keys["limits"] = limits


def _unlimited(value: Any) -> Any:
    return "unlimited" if str(value) == "-1" else int(value)


def _user(value: Any, entry: Entry, _folder: str) -> None:
    user, _, group = str(value).partition(":")
    entry.keys["user"] = user
    if group:
        entry.keys["group"] = group


def _signal(value: Any, entry: Entry, _folder: str) -> None:
    text = str(value).upper()
    entry.keys["shutdownSignal"] = int(text) if text.isdigit() else "SIG" + text.removeprefix("SIG")


def _grace(value: Any, entry: Entry, _folder: str) -> None:
    entry.keys["terminationGracePeriod"] = seconds(max(_time(value, 10.0), 1.0))


def _capabilities(value: Any, entry: Entry, _folder: str) -> None:
    entry.keys["capabilities"] = {"ambient": ["CAP_" + str(name).upper().removeprefix("CAP_") for name in _list(value)]}


def _tty(value: Any, entry: Entry, _folder: str) -> None:
    if value:
        entry.keys["stdin"] = "pty"


def _stdin_open(value: Any, entry: Entry, _folder: str) -> None:
    if value and "stdin" not in entry.keys:
        entry.keys["stdin"] = "pty"
        entry.lose("stdin_open: true", "its standard input is a terminal, not a pipe: ocelotctl attach types into it")


def _plain(key: str) -> Any:
    def convert(value: Any, entry: Entry, _folder: str) -> None:
        entry.keys[key] = value if isinstance(value, int) else str(value)

    return convert


def _groups(value: Any, entry: Entry, _folder: str) -> None:
    entry.keys["supplementaryGroups"] = [str(name) for name in _list(value)]


_KEYS = {
    "working_dir": _plain("workingDirectory"),
    "environment": _environment,
    "env_file": _env_file,
    "user": _user,
    "group_add": _groups,
    "depends_on": _depends_on,
    "healthcheck": _healthcheck,
    "restart": _restart,
    "stop_signal": _signal,
    "stop_grace_period": _grace,
    "scale": _scale,
    "deploy": _deploy,
    "mem_limit": _memory,
    "cpus": _cpus,
    "pids_limit": _pids,
    "ulimits": _ulimits,
    "oom_score_adj": _plain("oomScoreAdjust"),
    "cap_add": _capabilities,
    "tty": _tty,
    "stdin_open": _stdin_open,
}
