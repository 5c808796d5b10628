"""What is different between the configuration that runs and one that was read, and what a reload makes of it. Pure.

Differences are found field by field in the records themselves, so that a new key of the configuration needs nothing here: it
counts as one that a process is given at its start, unless :data:`LIVE` says that it holds at once.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import fields as fields_of

from ocelot.config import structs
from ocelot.config.dependencies import edges
from ocelot.config.graph import Edges, order, reversed_edges
from ocelot.config.values import format_duration
from ocelot.states import signal_name
from ocelot.wire.protocol import Difference, EntryChange

Processes = Mapping[str, structs.Process]

LIVE = frozenset(
    {
        "type",
        "essential",
        "restartPolicy",
        "shutdownSignal",
        "reloadSignal",
        "terminationGracePeriod",
        "dependsOn",
        "replicas",
        "schedule",
        "preStart",
        "postStop",
    }
)
"""Keys of a process that are looked at whenever they matter, and not given to it at its start."""

LIVE_SECTIONS = frozenset(
    {"control", "logLevel", "hostname", "host", "metrics", "onFatal", "shutdown", "shutdownTimeout"}
)
"""Keys beside the processes that hold at once. The others are for the next start of ocelot, or of the machine."""


def differences(before: Struct, after: Struct) -> list[Difference]:
    """Every field that is not the same, with values as a file would show them. Without ``effect``: that is the caller's."""
    found: list[Difference] = []
    _compare(before, after, (), found)
    return found


def compare_processes(running: Processes, wanted: Processes, scaled: Container[str] = ()) -> list[EntryChange]:
    """What was removed (dependants first), changed and added (what they depend on first).

    ``scaled``: entries of ``running`` whose replicas are not those of a file.
    """
    gone = [name for name in reversed(order(edges(running))) if name not in wanted]
    found = [EntryChange(name=name, change="removed", effect="restart") for name in gone]
    for name in order(edges(wanted)):
        if name not in running:
            found.append(EntryChange(name=name, change="added", effect="restart"))
        elif running[name] != wanted[name]:
            found.append(_changed(name, running[name], wanted[name], scaled=name in scaled))
    return found


def with_scale(running: Processes, wanted: Processes, scaled: Iterable[str]) -> Processes:
    """``wanted`` with the numbers of replicas that ``scaled`` entries have now, where it has replicas of them at all."""
    kept = {
        name: msgspec.structs.replace(wanted[name], replicas=running[name].replicas)
        for name in scaled
        if name in wanted and wanted[name].replicas is not None
    }
    return {name: kept.get(name, config) for name, config in wanted.items()}


def _changed(name: str, before: structs.Process, after: structs.Process, *, scaled: bool) -> EntryChange:
    fields = differences(before, after)
    for each in fields:
        live = _head(each.path) in LIVE and not _renames(each)
        each.effect = "live" if live else "restart"
        each.scaled = scaled and each.path == "replicas"
    needed = any(each.effect == "restart" for each in fields)
    return EntryChange(name=name, change="changed", effect="restart" if needed else "live", fields=fields)


def _renames(each: Difference) -> bool:
    """Whether other processes come in place of those that are there: ``web`` and ``web[0]`` are not the same one."""
    return each.path == "replicas" and None in (each.before, each.after)


def compare_sections(running: structs.Sections, wanted: structs.Sections) -> list[Difference]:
    """What differs beside the processes."""
    found = differences(without_processes(running), without_processes(wanted))
    for each in found:
        live = _head(each.path.removeprefix("postSwitch.handoff.")) in LIVE_SECTIONS
        each.effect = "live" if live else "reboot"
    return found


def processes_of(config: structs.Sections) -> Processes | None:
    """Those of a file; None if it hands off to something else than supervising."""
    if isinstance(config, structs.SuperviseFile):
        return config.processes
    handoff = config.post_switch.handoff if isinstance(config, structs.Bootstrap) else None
    return handoff.processes if isinstance(handoff, structs.Supervise) else None


def without_processes(config: structs.Sections) -> structs.Sections:
    """Everything else that a file says."""
    if isinstance(config, structs.SuperviseFile):
        return msgspec.structs.replace(config, processes={})
    if isinstance(config, structs.Bootstrap) and isinstance(config.post_switch.handoff, structs.Supervise):
        handoff = msgspec.structs.replace(config.post_switch.handoff, processes={})
        return msgspec.structs.replace(config, post_switch=msgspec.structs.replace(config.post_switch, handoff=handoff))
    return config


def shutdown_timeout_of(config: structs.Sections) -> float | None:
    """Seconds; None: it follows from the grace periods."""
    if isinstance(config, structs.SuperviseFile):
        return config.shutdown_timeout
    handoff = config.post_switch.handoff if isinstance(config, structs.Bootstrap) else None
    return handoff.shutdown_timeout if isinstance(handoff, structs.Supervise) else None


def with_live_sections(running: structs.Sections, wanted: structs.Sections) -> structs.Sections:
    """``running`` with those sections of ``wanted`` that hold at once."""
    changed = {
        field.name: getattr(wanted, field.name)
        for field in fields_of(type(running))
        if field.encode_name in LIVE_SECTIONS and hasattr(wanted, field.name)
    }
    merged = msgspec.structs.replace(running, **changed)
    if isinstance(merged, structs.Bootstrap) and isinstance(merged.post_switch.handoff, structs.Supervise):
        handoff = msgspec.structs.replace(merged.post_switch.handoff, shutdown_timeout=shutdown_timeout_of(wanted))
        return msgspec.structs.replace(merged, post_switch=msgspec.structs.replace(merged.post_switch, handoff=handoff))
    return merged


def ranks(names: Iterable[str], dependencies: Edges) -> list[list[str]]:
    """``names`` in the order of stopping: no rank depends, directly or not, on one before it."""
    chosen = set(names)
    dependants = reversed_edges(dependencies)
    rank: dict[str, int] = {}
    for name in reversed(order(dependencies)):
        above = max((rank[each] for each in dependants[name]), default=-1)
        rank[name] = above + (name in chosen)
    found: dict[int, list[str]] = {}
    for name in rank:
        if name in chosen:
            found.setdefault(rank[name], []).append(name)
    return [found[each] for each in sorted(found)]


# -- field by field


def _compare(before: Struct, after: Struct, path: tuple[str, ...], found: list[Difference]) -> None:
    for field in fields_of(type(before)):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new:
            _compare_values(old, new, (*path, field.encode_name), _format_of(field.type), found)


def _compare_values(old: Any, new: Any, path: tuple[str, ...], kind: str, found: list[Difference]) -> None:
    if isinstance(old, Struct) and type(old) is type(new):
        _compare(old, new, path, found)
    elif isinstance(old, dict) and isinstance(new, dict):
        _compare_entries(old, new, path, kind, found)
    elif (before := _by_name(old)) is not None and (after := _by_name(new)) is not None:
        _compare_entries(before, after, path, kind, found)
    else:
        shown = [None if value is None else _show(value, kind) for value in (old, new)]
        found.append(Difference(path=_joined(path), before=shown[0], after=shown[1]))


def _compare_entries(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...], kind: str, found: list[Difference]
) -> None:
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            found.append(Difference(path=_joined((*path, key)), before=_show(old[key], kind), after=None))
        elif key not in old:
            found.append(Difference(path=_joined((*path, key)), before=None, after=_show(new[key], kind)))
        elif old[key] != new[key]:
            _compare_values(old[key], new[key], (*path, key), kind, found)


def _by_name(values: Any) -> dict[str, Any] | None:
    """The records of a list by their name, or else their place; None if these are no records."""
    if not isinstance(values, tuple) or not all(isinstance(each, Struct) for each in values):
        return None
    names = [str(getattr(each, "name", None) or place) for place, each in enumerate(values)]
    return dict(zip(names, values, strict=True)) if len(set(names)) == len(names) else None


def _joined(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _head(path: str) -> str:
    return path.partition(".")[0]


def _format_of(annotation: Any) -> str:
    """The format that ``config.base`` gives to a kind of scalar, wherever in the annotation it stands."""
    for meta in getattr(annotation, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.extra:
            return str(meta.extra.get("format", ""))
    return next((kind for part in get_args(annotation) if (kind := _format_of(part))), "")


def _show(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind == "duration" and isinstance(value, float):
        return format_duration(value)
    if kind == "signal" and isinstance(value, int):
        return signal_name(value)
    if kind == "mode" and isinstance(value, int):
        return f"{value:04o}"
    if isinstance(value, str):
        return str(value)
    return msgspec.json.encode(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """A record as somebody would write it: without what is as it is by itself, and with units."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if not isinstance(value, Struct):
        return value
    tag = type(value).__struct_config__
    written = {str(tag.tag_field): tag.tag} if tag.tag_field else {}
    for field in fields_of(type(value)):
        inner = getattr(value, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if inner != default:
            kind = _format_of(field.type)
            formatted = kind and not isinstance(inner, Struct | tuple | dict | None)
            written[field.encode_name] = _show(inner, kind) if formatted else _plain(inner)
    return written
