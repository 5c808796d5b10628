"""Nodes to the records of ``structs``, collecting every problem on the way.

msgspec's own converter stops at the first problem and knows no positions, and YAML 1.2 scalars need the type that is
wanted before they mean anything. What each record takes is read from its annotations once, when the first node of its
kind comes along: a boot pays for the records that its file uses.
"""

from __future__ import annotations

import enum
from types import UnionType
from typing import Any, Literal, Union, get_origin

import msgspec
from msgspec.structs import fields as struct_fields

from ocelot.config import structs, vocabulary
from ocelot.config.findings import Findings, Path, listed, quoted, suggest
from ocelot.config.nodes import Mapping, Node, Scalar, Sequence
from ocelot.config.scalars import (
    FALSE,
    FORMATS,
    INVALID,
    TRUE,
    Convert,
    boolean,
    describe,
    integer,
    number,
    seconds,
    text,
)


class _Field:
    """A key of a record. ``convert`` is made when the key is first seen."""

    __slots__ = ("_convert", "key", "name", "required", "type")

    def __init__(self, key: str, name: str, kind: Any, required: bool) -> None:
        self.key = key
        self.name = name
        self.type = kind
        self.required = required
        self._convert: Convert | None = None

    @property
    def convert(self) -> Convert:
        if self._convert is None:
            self._convert = _converter(self.type)
        return self._convert


_plans: dict[type, dict[str, _Field]] = {}


def record_fields(cls: type) -> dict[str, _Field]:
    """The keys of a record, in the order of its definition."""
    plan = _plans.get(cls)
    if plan is None:
        plan = _plans[cls] = {
            field.encode_name: _Field(field.encode_name, field.name, field.type, field.required)
            for field in struct_fields(cls)
        }
        if cls in (structs.Phase, structs.PostSwitch):
            plan["sysctl"]._convert = _sysctl
    return plan


def read_record(findings: Findings, cls: Any, node: Node, path: Path, *, siblings: tuple[Any, ...] = ()) -> Any:
    """A record of class ``cls`` from a mapping. ``siblings`` are the other kinds it could have been.

    So that the checks can go on and find the rest, a record survives wrong values as far as it can: a key that may be
    left out gets its default, a required text is empty, a wrong item of a list becomes None. Else INVALID.
    """
    if isinstance(node, Scalar) and not node.is_null and cls in vocabulary.WORDS:
        word, node = node, Mapping(node.line, node.column)
        node.entries[vocabulary.WORDS[cls]] = (word, word)
    if not isinstance(node, Mapping):
        findings.error(path, node, f"must be a mapping, not {describe(node)}", _record_hint(cls, node))
        return INVALID
    plan = record_fields(cls)
    tag_field = cls.__struct_config__.tag_field
    aliases = vocabulary.ALIASES.get(cls, {})
    in_seconds = vocabulary.SECONDS.get(cls, {})
    found: dict[str, Any] = {}
    seen: dict[str, Scalar] = {}
    strays: dict[str, tuple[Scalar, Node]] = {}
    for key, (key_node, value) in node.entries.items():
        if key == tag_field:
            continue
        field = plan.get(aliases.get(key) or in_seconds.get(key) or key)
        if field is None:
            if cls is structs.Supervise and isinstance(value, Mapping) and "program" in value.entries:
                strays[key] = (key_node, value)
            elif not _is_ignorable(cls, key, value):
                _unknown_key(findings, cls, key_node, value, (*path, key), siblings)
            continue
        if field.name in seen:
            first = seen[field.name]
            message = f"{quoted(first.text)} in line {first.line} is the same key"
            findings.error((*path, key), key_node, message, "remove one of them", also=first)
            continue
        seen[field.name] = key_node
        if isinstance(value, Scalar) and value.is_null:
            if field.required:
                findings.error((*path, key), key_node, "must not be empty")
                found[field.name] = INVALID
            continue
        convert = seconds if key in in_seconds else field.convert
        found[field.name] = convert(findings, value, (*path, key))
    if strays:
        _stray_processes(findings, node, path, strays, found)
    return _built(findings, cls, node, path, found)


def _built(findings: Findings, cls: Any, node: Node, path: Path, found: dict[str, Any]) -> Any:
    """The record from what was found, with empty text in place of a required text that is wrong or missing."""
    for field in record_fields(cls).values():
        if field.required and field.name not in found:
            findings.error(path, node, f'"{field.key}" is missing')
        elif not field.required or found[field.name] is not INVALID:
            continue
        if field.type is not structs.Text:
            return INVALID
        findings.refuse((*path, field.key))
        found[field.name] = ""
    return cls(**{name: value for name, value in found.items() if value is not INVALID})


def _record_hint(cls: Any, node: Node) -> str:
    if isinstance(node, Sequence):
        return "it stands alone, without a dash or brackets" if len(node.items) == 1 else ""
    if cls is structs.RestartPolicy and isinstance(node, Scalar):
        return f"write {{type: {node.text}}}"
    if cls is structs.BootScript and isinstance(node, Scalar):
        return f"write {{path: {node.text}}}"
    if cls in (structs.OnFatal, structs.Shutdown) and isinstance(node, Scalar):
        return f"write {{action: {node.text}}}"
    if cls is structs.Command and isinstance(node, Scalar):
        return f"write {{command: {node.text}}}"
    if cls is structs.Schedule and isinstance(node, Scalar):
        return f'write {{cron: "{node.text}"}}' if " " in node.text else f"write {{every: {node.text}}}"
    if cls is structs.Process and isinstance(node, Scalar):
        return 'it needs at least "program"' if node.is_null else f"write {{program: {node.text}}}"
    if cls is structs.Stream and isinstance(node, Scalar) and node.text.startswith("/"):
        return f"write {{destination: {{type: file, path: {node.text}}}}}"
    return ""


# -- keys that a record does not have --------------------------------------------------------------


def _is_ignorable(cls: Any, key: str, value: Node) -> bool:
    return isinstance(value, Scalar) and value.is_null and key in vocabulary.NULL_ONLY.get(cls, ())


_MANY = 20
"""Keys that are too many to be listed in a hint."""


def _unknown_key(findings: Findings, cls: Any, key: Scalar, value: Node, path: Path, siblings: tuple[Any, ...]) -> None:
    from ocelot.config import foreign

    word = key.text
    if word in vocabulary.NOT_BUILT.get(cls, ()):
        findings.error(path, key, f"{quoted(word)} is not supported by this version", "leave it out")
        return
    misplaced = vocabulary.MISPLACED.get(cls, {}).get(word) or foreign.meaning(cls, word)
    if not misplaced and isinstance(value, Mapping) and "program" in value.entries:
        misplaced = foreign.PROCESSES.get(cls, "")
    if misplaced:
        findings.error(path, key, f"{quoted(word)} is not a key here", misplaced)
        return
    owners = [other for other in siblings if other is not cls and word in record_fields(other)]
    if owners:
        tag_field = cls.__struct_config__.tag_field
        kinds = listed(quoted(str(other.__struct_config__.tag)) for other in owners)
        message = f'{quoted(word)} is not a key of {tag_field} "{cls.__struct_config__.tag}"'
        findings.error(path, key, message, f"it belongs to {tag_field} {kinds}")
        return
    known = [*record_fields(cls), *vocabulary.ALIASES.get(cls, ())]
    if cls.__struct_config__.tag_field:
        known.insert(0, cls.__struct_config__.tag_field)
    meant = suggest(word, known)
    if meant:
        hint = f'did you mean "{meant}"?'
    elif len(known) <= _MANY:
        hint = f"the keys here are {listed(known, 'and')}"
    else:
        hint = "`ocelot supervise config-template` shows all keys"
    findings.error(path, key, f"unknown key {quoted(word)}", hint)


def _stray_processes(
    findings: Findings, node: Mapping, path: Path, strays: dict[str, tuple[Scalar, Node]], found: dict[str, Any]
) -> None:
    """A mapping with a program beside ``processes`` is taken as a process: the documentation's own example has one."""
    home = node.entries.get("processes")
    processes = found.get("processes", {})
    if processes is INVALID:
        processes = {}
    for name, (key, value) in strays.items():
        process = read_record(findings, structs.Process, value, (*path, name))
        if home and isinstance(home[1], Mapping) and name in home[1].entries:
            first = home[1].entries[name][0]
            findings.error((*path, name), key, f"the process {quoted(name)} is also in line {first.line}", also=first)
            continue
        place = f'indent it below "processes" in line {home[0].line}' if home else 'put it below "processes"'
        findings.warn((*path, name), key, f"{quoted(name)} is taken as a process", place)
        if process is not INVALID:
            processes = {**processes, name: process}
    found["processes"] = processes


# -- types -----------------------------------------------------------------------------------------


def _converter(kind: Any) -> Convert:
    """What reads a value of the annotated type ``kind``. ``X | None`` reads X: null was dealt with before."""
    members = [member for member in getattr(kind, "__args__", ()) if member is not type(None)]
    origin = get_origin(kind)
    if origin is Union or isinstance(kind, UnionType):
        return _converter(members[0]) if len(members) == 1 else _tagged(tuple(members))
    if hasattr(kind, "__metadata__"):
        return FORMATS[kind.__metadata__[0].extra["format"]]
    if origin is tuple:
        return _list(members[0])
    if origin is dict:
        return _map(kind.__args__[1])
    if origin is Literal:
        return _choice(kind.__args__, any_case=False)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return lambda findings, node, path: read_record(findings, kind, node, path)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choose = _choice(tuple(member.value for member in kind), any_case=kind is structs.OnFailure)

        def member(findings: Findings, node: Node, path: Path) -> Any:
            word = choose(findings, node, path)
            return word if word is INVALID else kind(word)

        return member
    plain: dict[Any, Convert] = {bool: boolean, int: integer, float: number, str: text}
    return plain[kind]


def _tagged(kinds: tuple[Any, ...]) -> Convert:
    tag_field = kinds[0].__struct_config__.tag_field
    by_tag = {str(kind.__struct_config__.tag): kind for kind in kinds}

    def convert(findings: Findings, node: Node, path: Path) -> Any:
        if not isinstance(node, Mapping):
            hint = ""
            if isinstance(node, Scalar) and node.text in by_tag:
                hint = f"write {{{tag_field}: {node.text}}}"
            elif isinstance(node, Scalar) and structs.File in kinds and node.text.startswith("/"):
                hint = f"write {{type: file, path: {node.text}}}"
            findings.error(path, node, f"must be a mapping, not {describe(node)}", hint)
            return INVALID
        entry = node.entries.get(tag_field)
        if entry is None or (isinstance(entry[1], Scalar) and entry[1].plain and entry[1].text in ("", "~")):
            findings.error(path, node, f'"{tag_field}" is missing', f"write one of {listed(by_tag)}")
            return INVALID
        value = entry[1]
        if not isinstance(value, Scalar):
            findings.error((*path, tag_field), value, f"must be text, not {describe(value)}")
            return INVALID
        kind = by_tag.get(value.text) or by_tag.get(vocabulary.TAG_ALIASES.get(value.text, ""))
        if kind is None:
            _not_a_choice(findings, value, (*path, tag_field), tuple(by_tag))
            return INVALID
        return read_record(findings, kind, node, path, siblings=kinds)

    return convert


def _list(kind: Any) -> Convert:
    item = _converter(kind)

    def convert(findings: Findings, node: Node, path: Path) -> Any:
        if isinstance(node, Mapping) and kind in vocabulary.SINGLE:
            one = item(findings, node, path)
            return (None if one is INVALID else one,)
        if not isinstance(node, Sequence):
            hint = "start each item with a dash"
            if isinstance(node, Scalar) and node.text and kind is structs.Text:
                words = node.text.split() if path[-1] == "command" else [node.text]
                hint = f"write [{', '.join(map(quoted, words))}]"
            findings.error(path, node, f"must be a list, not {describe(node)}", hint)
            return INVALID
        items: list[Any] = []
        for index, each in enumerate(node.items):
            if isinstance(each, Scalar) and each.is_null:
                hint = 'remove the dash, or write "" for an empty text'
                findings.error((*path, index), each, "the item is empty", hint if not each.text else "put it in quotes")
                items.append(None)
            else:
                value = item(findings, each, (*path, index))
                items.append(None if value is INVALID else value)
        return tuple(items)

    return convert


def _map(kind: Any) -> Convert:
    item = _converter(kind)

    def convert(findings: Findings, node: Node, path: Path) -> Any:
        if isinstance(node, Sequence) and kind in vocabulary.LISTED:
            return _from_names(findings, kind, node, path)
        if not isinstance(node, Mapping):
            hint = ""
            if isinstance(node, Sequence):
                hint = "write `name: value` without dashes"
            elif kind in vocabulary.LISTED and isinstance(node, Scalar) and node.text:
                hint = f"write [{node.text}]"
            findings.error(path, node, f"must be a mapping, not {describe(node)}", hint)
            return INVALID
        result: dict[str, Any] = {}
        for key, (key_node, value) in node.entries.items():
            if text(findings, key_node, (*path, key)) is INVALID:
                continue
            if isinstance(value, Scalar) and value.is_null and kind is structs.Text:
                result[key] = ""
            elif isinstance(value, Scalar) and value.is_null and kind in vocabulary.LISTED:
                result[key] = kind()
            else:
                result[key] = item(findings, value, (*path, key))
        return {key: value for key, value in result.items() if value is not INVALID}

    return convert


def _from_names(findings: Findings, kind: Any, node: Sequence, path: Path) -> dict[str, Any]:
    """A map from a list of its keys: each value is all defaults."""
    result: dict[str, Any] = {}
    for index, each in enumerate(node.items):
        if isinstance(each, Scalar) and each.is_null:
            findings.error((*path, index), each, "the item is empty", "remove the dash")
            continue
        name = text(findings, each, (*path, index))
        if name is INVALID:
            continue
        if name in result:
            findings.error((*path, index), each, f"{quoted(name)} is in the list twice", "remove one of them")
        result[name] = kind()
    return result


def _choice(words: tuple[str, ...], *, any_case: bool) -> Convert:
    by_word = {(word.lower() if any_case else word): word for word in words}

    def convert(findings: Findings, node: Node, path: Path) -> Any:
        word = text(findings, node, path)
        if word is INVALID:
            return INVALID
        chosen = by_word.get(word.lower() if any_case else word)
        if chosen is None:
            assert isinstance(node, Scalar)
            _not_a_choice(findings, node, path, words)
            return INVALID
        return chosen

    return convert


def _not_a_choice(findings: Findings, node: Scalar, path: Path, words: tuple[str, ...]) -> None:
    meant = suggest(node.text, words)
    hint = f'did you mean "{meant}"?' if meant and len(words) > 1 else ""
    findings.error(path, node, f"must be {listed(words)}, not {quoted(node.text)}", hint)


def _sysctl(findings: Findings, node: Node, path: Path) -> Any:
    """A map of texts where plain true and false become 1 and 0, and nothing may be empty."""
    result = _map(structs.Text)(findings, node, path)
    if result is INVALID or not isinstance(node, Mapping):
        return INVALID
    for key, (_, value) in node.entries.items():
        if isinstance(value, Scalar) and value.plain and value.text in TRUE + FALSE:
            result[key] = "1" if value.text in TRUE else "0"
        if result.get(key) == "":
            findings.error((*path, key), value, "a sysctl needs a value")
            del result[key]
    return result
