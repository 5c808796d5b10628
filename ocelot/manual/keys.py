"""ocelot-bootstrap(5): the keys of the configuration files, from their records: names, kinds of values, defaults, docstrings."""

from __future__ import annotations

import enum
import re
from inspect import cleandoc
from types import UnionType
from typing import Any, Literal, Union, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from ocelot import __version__
from ocelot.config import structs, vocabulary
from ocelot.manual.roff import Page, bold
from ocelot.states import signal_name

_KINDS = {
    "text": "text",
    "duration": "duration",
    "size": "size",
    "mode": "octal mode",
    "signal": "signal",
    "limit": "number, size or unlimited",
    "cpus": "number of processors",
}

_INTRODUCTION = """\
ocelot reads YAML 1.2. Keys are written in camelCase; a key that is not known is an error, null is as good as leaving an
optional key out, and a scalar keeps its text where text is wanted (``6379``, ``on``). ``ocelot bootstrap validate`` shows every problem of a
file with its line, ``ocelot bootstrap schema`` prints a JSON Schema for editors, ``ocelot bootstrap config-template`` a commented start.

A bootstrap file describes a whole machine: what is done before the switch to the real root, the switch, what is done after
it, and the hand-off. A supervise file, for ``ocelot supervise``, is about processes only.
"""

_VALUES = (
    ("duration", "A number with a unit, or several: 30s, 1m 30s, 250ms, 1.5s, 2h. A plain number is an error."),
    ("size", "Bytes: 65536, 10MB (powers of 1000), 512KiB (powers of 1024)."),
    ("octal mode", "Permission bits: 0644, with or without the zero."),
    (
        "signal",
        "SIGTERM, TERM or 15; also {type: name, value: SIGTERM}, {type: number, value: 15} and {type: sigterm}.",
    ),
    ("number of processors", "1.5, or 150%."),
)

_EXAMPLE = """\
preSwitch:
  modules: {names: [kernel/fs/9p/9p.ko.xz]}
switchRoot:
  rootFileSystem: {type: virtiofs, tag: rootfs, target: /}
postSwitch:
  handoff:
    mode: supervise
    processes:
      web:
        program: /usr/sbin/nginx
        arguments: [-g, daemon off;]
        restartPolicy: {type: OnFailure, backoff: 1s}
"""


def bootstrap() -> str:
    page = Page("ocelot-bootstrap", 5, "the configuration files of ocelot", __version__)
    page.section("Description")
    page.paragraphs(_INTRODUCTION)
    page.section("Values")
    for kind, meaning in _VALUES:
        page.tagged(bold(kind), meaning)
    page.section("Bootstrap file")
    found: dict[str, type] = {}
    _record(page, structs.Bootstrap, found)
    page.section("Supervise file")
    _record(page, structs.SuperviseFile, found)
    page.section("Records")
    done: set[str] = set()
    while left := [name for name in found if name not in done]:
        done.add(left[0])
        page.subsection(left[0])
        _record(page, found[left[0]], found)
    page.section("Example")
    page.example(_EXAMPLE.splitlines())
    page.section("Files")
    page.tagged("\\fI/etc/ocelot/bootstrap.yaml\\fR", "Read when no other file is named.")
    page.section("See also")
    page.synopsis(f"{bold('ocelot')}(1), {bold('ocelotctl')}(1)")
    return page.text()


def _record(page: Page, cls: Any, found: dict[str, type]) -> None:
    """What a record is for, and its keys. Records that it refers to are added to ``found``."""
    known = {field.name: field.encode_name for field in fields(cls)}
    documentation = cleandoc(cls.__doc__ or "")
    if documentation and documentation != structs.Base.__doc__ and not documentation.startswith(f"{cls.__name__}("):
        page.paragraphs(_in_words(documentation, known))
    tag_field, tag = cls.__struct_config__.tag_field, cls.__struct_config__.tag
    if tag_field:
        page.tagged(f"{bold(tag_field)}: {tag}", "What makes it one of this kind.")
    other = {**vocabulary.ALIASES.get(cls, {}), **vocabulary.SECONDS.get(cls, {})}
    for field in fields(cls):
        aliases = [alias for alias, meant in other.items() if meant == field.encode_name]
        also = f"Also written {' or '.join(f'``{alias}``' for alias in aliases)}." if aliases else ""
        page.tagged(bold(field.encode_name), f"{_kind(field.type, found)}{_default(field)}. {also}")
    for key in vocabulary.NULL_ONLY.get(cls, ()):
        page.tagged(bold(key), "Only null: not supported by this version.")


def _in_words(documentation: str, known: dict[str, str]) -> str:
    """A docstring as users read it: keys as they are written in the file, without the indentation."""

    def key(match: re.Match[str]) -> str:
        return f"``{known.get(match[1], match[1])}``"

    text = re.sub(r"``(\w+)``", key, re.sub(r"\bNone\b", "left out", documentation))
    return re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"``\1``", text)


def _kind(kind: Any, found: dict[str, type]) -> str:
    """The kind of a value in words."""
    members = [member for member in getattr(kind, "__args__", ()) if member is not type(None)]
    origin = get_origin(kind)
    if origin is Union or isinstance(kind, UnionType):
        return " | ".join(dict.fromkeys(_kind(member, found) for member in members))
    if hasattr(kind, "__metadata__"):
        return _KINDS[kind.__metadata__[0].extra["format"]]
    if origin is tuple:
        return f"list of {_kind(members[0], found)}"
    if origin is dict:
        return f"map of names to {_kind(members[1], found)}"
    if origin is Literal:
        return " | ".join(str(word) for word in kind.__args__)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        found.setdefault(kind.__name__, kind)
        return f"``{kind.__name__}``"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " | ".join(str(member.value) for member in kind)
    return {bool: "true | false", int: "number", float: "number", str: "text"}[kind]


def _default(field: FieldInfo) -> str:
    """``, required`` or ``; default ...``; nothing where it is simply not there."""
    if field.required:
        return ", required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None or isinstance(value, msgspec.Struct) or value in ((), {}, "") or isinstance(value, tuple | dict):
        return f"; default [{', '.join(map(str, value))}]" if isinstance(value, tuple) and value else ""
    form = getattr(field.type, "__metadata__", None)
    return f"; default {_written(value, form[0].extra['format'] if form else '')}"


def _written(value: Any, form: str) -> str:
    """A default as it would be written in the file."""
    match form:
        case "mode":
            return f"{value:04o}"
        case "signal":
            return signal_name(value)
        case "duration":
            return f"{value:g}s"
        case "limit" if value == -1:
            return "unlimited"
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)
