"""The kernel command line, read as the kernel itself reads it (lib/cmdline.c, next_arg): blanks separate, double
quotes join, and quotes around a value or a whole word are taken off. After a lone ``--`` the words are init's arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ocelot.config.structs import FatalAction
from ocelot.states import LogLevel

_OWN = ("config", "log", "onfatal")


@dataclass(frozen=True, slots=True)
class Cmdline:
    """``words`` in order as (key, value); value None for a word without ``=``. ``arguments`` stood after ``--``."""

    words: tuple[tuple[str, str | None], ...] = ()
    arguments: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def value(self, key: str) -> str | None:
        """The last value given for ``key``, or None. Dashes and underscores are the same, as for the kernel."""
        wanted = _plain(key)
        found = None
        for name, value in self.words:
            if value is not None and _plain(name) == wanted:
                found = value
        return found

    def values(self, key: str) -> tuple[str, ...]:
        """Every value given for ``key``, in order."""
        return tuple(value for name, value in self.words if value is not None and _plain(name) == _plain(key))

    @property
    def config(self) -> str | None:
        """``ocelot.config=``: the path of the bootstrap file."""
        return self.value("ocelot.config")

    @property
    def log_level(self) -> LogLevel | None:
        """``ocelot.log=``: wins over ``logLevel`` of the file; None when absent or unknown (a warning then)."""
        return _level(self.value("ocelot.log"))

    @property
    def on_fatal(self) -> FatalAction | None:
        """``ocelot.onfatal=``: wins over ``onFatal.action`` of the file; None when absent or unknown (a warning then)."""
        return _action(self.value("ocelot.onfatal"))

    def module_parameters(self) -> dict[str, str]:
        """``module.param=value`` words by module (underscores in names), in the form that finit_module(2) takes."""
        collected: dict[str, list[str]] = {}
        for name, value in self.words:
            module, dot, parameter = name.partition(".")
            if not dot or not module or not parameter or module == "ocelot":
                continue
            text = parameter
            if value is not None:
                text += f'="{value}"' if " " in value or "\t" in value else f"={value}"
            collected.setdefault(_plain(module), []).append(text)
        return {module: " ".join(parameters) for module, parameters in collected.items()}


def parse(text: str) -> Cmdline:
    """Read a command line. Never raises: what is strange becomes a warning, since the boot must go on."""
    words: list[tuple[str, str | None]] = []
    arguments: tuple[str, ...] = ()
    tokens = _split(text.strip("\0\n"))
    for index, token in enumerate(tokens):
        if token == "--":
            arguments = tuple(_unquote(rest) for rest in tokens[index + 1 :])
            break
        words.append(_word(token))
    return Cmdline(tuple(words), arguments, tuple(_complaints(words)))


def read(path: str = "/proc/cmdline") -> Cmdline:
    """The running kernel's command line; an empty one when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read())
    except OSError as error:
        return Cmdline(warnings=(f"cannot read {path}: {error.strerror}",))


def _split(text: str) -> list[str]:
    tokens: list[str] = []
    current: list[str] = []
    quoted = False
    for char in text:
        if char == '"':
            quoted = not quoted
        if char in " \t\n" and not quoted:
            if current:
                tokens.append("".join(current))
                current = []
        else:
            current.append(char)
    if current:
        tokens.append("".join(current))
    return tokens


def _word(token: str) -> tuple[str, str | None]:
    token = _unquote(token)
    key, equals, value = token.partition("=")
    return key, _unquote(value) if equals else None


def _unquote(text: str) -> str:
    if text.startswith('"'):
        text = text[1:]
        return text[:-1] if text.endswith('"') else text
    return text


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _level(text: str | None) -> LogLevel | None:
    return next((level for level in LogLevel if text is not None and level.value == text.lower()), None)


def _action(text: str | None) -> FatalAction | None:
    return next((action for action in FatalAction if text is not None and action.value == text.lower()), None)


def _complaints(words: list[tuple[str, str | None]]) -> list[str]:
    found = []
    for name, value in words:
        prefix, _, key = name.partition(".")
        if prefix != "ocelot":
            continue
        if key not in _OWN:
            found.append(f'kernel command line: "{name}" is unknown (known: {", ".join("ocelot." + k for k in _OWN)})')
        elif value is None:
            found.append(f'kernel command line: "{name}" needs a value')
        elif key == "log" and _level(value) is None:
            found.append(f'kernel command line: "{name}={value}": not one of {", ".join(LogLevel)}')
        elif key == "onfatal" and _action(value) is None:
            found.append(f'kernel command line: "{name}={value}": not one of {", ".join(FatalAction)}')
    return found
