"""The JSON Schema (draft 2020-12) of the configuration files, for editors and for other validators.

It is made from the same records and tables as the converter. It is wider than the converter where a schema can't say
more (units, what several keys mean together), and never narrower: what the schema refuses, ``loading`` refuses.
"""

from __future__ import annotations

import enum
from types import UnionType
from typing import Any, Literal, Union, get_origin

import msgspec

from ocelot.config import structs, vocabulary
from ocelot.config.converting import record_fields
from ocelot.config.loading import Kind

Schema = dict[str, Any]

_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_DURATION: Schema = {
    "type": "string",
    "pattern": r"^\s*[0-9][\s\S]*[a-zA-Zµ]\s*$",
    "description": "A duration such as 30s, 1m 30s, 250ms or 1.5s.",
}
_SIGNAL: Schema = {
    "description": "A signal: SIGTERM, 15, {type: name, value: SIGTERM}, {type: number, value: 15} or {type: sigterm}.",
    "anyOf": [
        {"type": "string"},
        {"type": "integer", "minimum": 1, "maximum": 64},
        {
            "type": "object",
            "properties": {
                "type": {"type": ["string", "integer"], "minimum": 1, "maximum": 64},
                "value": {"type": ["string", "integer"]},
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
}
_FORMATS: dict[str, Schema] = {
    "text": _TEXT,
    "duration": _DURATION,
    "size": {"type": ["string", "number"], "minimum": 0, "description": "Bytes: 65536, 10MB, 512KiB."},
    "mode": {"type": ["string", "integer"], "minimum": 0, "description": "Octal permission bits: 0644."},
    "signal": _SIGNAL,
    "limit": {"type": ["string", "number"], "minimum": 0, "description": "A limit: 1024, 64MiB, unlimited."},
    "cpus": {"type": ["string", "number"], "minimum": 0, "description": "Processors: 1.5, or 150%."},
}
_SECONDS: Schema = {"type": ["number", "null"], "minimum": 0, "description": "A duration in seconds."}
_NULLABLE: Schema = {"type": "null"}


def schema(kind: Kind) -> Schema:
    """The schema of a bootstrap or supervise file as plain data."""
    top = structs.Bootstrap if kind == "bootstrap" else structs.SuperviseFile
    maker = _Maker()
    body = maker.record(top)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ocelot bootstrap file" if kind == "bootstrap" else "ocelot supervise file",
        **body,
        "$defs": dict(sorted(maker.definitions.items())),
    }


class _Maker:
    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def record(self, cls: Any) -> Schema:
        """The schema of one record, with every spelling of its keys."""
        properties: Schema = {}
        one_of: list[Schema] = []
        tag_field, tag = cls.__struct_config__.tag_field, cls.__struct_config__.tag
        required = []
        if tag_field:
            spellings = [tag, *(alias for alias, kind in vocabulary.TAG_ALIASES.items() if kind == tag)]
            values: Schema = {"enum": spellings} if len(spellings) > 1 else {"const": tag}
            # `type: null` is the word in YAML and the value in JSON
            properties[tag_field] = {"enum": ["null", None]} if tag == "null" else values
            required.append(tag_field)
        aliases = {**vocabulary.ALIASES.get(cls, {}), **vocabulary.SECONDS.get(cls, {})}
        for key, field in record_fields(cls).items():
            value = self.value(field.type)
            if not field.required:
                value = {"anyOf": [value, _NULLABLE]}
            properties[key] = value
            others = [alias for alias, meant in aliases.items() if meant == key]
            for alias in others:
                properties[alias] = _SECONDS if alias in vocabulary.SECONDS.get(cls, {}) else value
            if field.required and not others:
                required.append(key)
            elif field.required:
                one_of.append({"oneOf": [{"required": [each]} for each in (key, *others)]})
        if cls in (structs.Phase, structs.PostSwitch):
            properties["sysctl"] = {"anyOf": [{"type": "object", "additionalProperties": _TEXT}, _NULLABLE]}
        for key in vocabulary.NULL_ONLY.get(cls, ()):
            properties[key] = {"type": "null", "description": "Not supported by this version."}
        result: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if cls.__doc__ and cls.__doc__ != structs.Base.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("):
            result["description"] = cls.__doc__.strip().partition("\n")[0].replace("``", "")
        if required:
            result["required"] = required
        if one_of:
            result["allOf"] = one_of
        if cls is structs.Supervise:
            # a process beside "processes", which the loader takes with a warning
            result["additionalProperties"] = self.value(structs.Process)
        return result

    def value(self, kind: Any) -> Schema:
        """The schema of a value of the annotated type; null is added by ``record``."""
        members = [member for member in getattr(kind, "__args__", ()) if member is not type(None)]
        origin = get_origin(kind)
        if origin is Union or isinstance(kind, UnionType):
            if len(members) == 1:
                return self.value(members[0])
            return {"anyOf": [self.value(member) for member in members]}
        if hasattr(kind, "__metadata__"):
            return _FORMATS[kind.__metadata__[0].extra["format"]]
        if origin is tuple:
            return self._list(members[0])
        if origin is dict:
            item = self.value(kind.__args__[1])
            if kind.__args__[1] is structs.Text:
                item = {"anyOf": [item, _NULLABLE]}
            if kind.__args__[1] in vocabulary.LISTED:
                either = {"type": "object", "additionalProperties": {"anyOf": [item, _NULLABLE]}}
                return {"anyOf": [either, {"type": "array", "items": _TEXT}]}
            return {"type": "object", "additionalProperties": item}
        if origin is Literal:
            return _choice(kind.__args__)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            word = vocabulary.WORDS.get(kind)
            reference = self._reference(kind)
            return {"anyOf": [reference, self.value(record_fields(kind)[word].type)]} if word else reference
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            words = tuple(member.value for member in kind)
            return _any_case(words) if kind is structs.OnFailure else {"enum": list(words)}
        return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[kind]}

    def _list(self, kind: Any) -> Schema:
        items = self.value(kind)
        result: Schema = {"type": "array", "items": items}
        return {"anyOf": [result, items]} if kind in vocabulary.SINGLE else result

    def _reference(self, cls: Any) -> Schema:
        if cls.__name__ not in self.definitions:
            self.definitions[cls.__name__] = {}
            self.definitions[cls.__name__] = self.record(cls)
        return {"$ref": f"#/$defs/{cls.__name__}"}


def _choice(words: tuple[str, ...]) -> Schema:
    """One of some words; a word that looks like a number may be one (``version: 1.0``)."""
    numbers = [float(word) for word in words if word.replace(".", "").isdigit()]
    return {"enum": [*words, *numbers]}


def _any_case(words: tuple[str, ...]) -> Schema:
    """Words in any case. JSON Schema's patterns know no flags, so every letter stands for both of its forms."""
    pattern = "|".join("".join(f"[{letter.upper()}{letter.lower()}]" for letter in word) for word in words)
    return {"anyOf": [{"enum": list(words)}, {"type": "string", "pattern": f"^({pattern})$"}]}
