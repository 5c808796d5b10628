"""The keys that end an attachment and leave the process running, written as docker has it: ctrl-p,ctrl-q."""

from __future__ import annotations

from ocelot.errors import UsageError

DEFAULT = "ctrl-p,ctrl-q"


def parse(text: str) -> bytes:
    """The keys one after the other: characters, or ctrl- and a letter or one of ``@[\\]^_``. Nothing: none at all. Raises UsageError."""
    return b"".join(_key(word, text) for word in text.split(",")) if text else b""


def _key(word: str, text: str) -> bytes:
    name = word[5:].upper() if word[:5].lower() == "ctrl-" else ""
    if len(name) == 1 and "@" <= name <= "_":
        return bytes((ord(name) - 64,))
    if len(word) == 1 and word.isascii():
        return word.encode()
    raise UsageError(
        f'cannot detach with "{text}": "{word}" is no key',
        hint="write characters, or ctrl- and a letter or one of @[\\]^_, with commas between: ctrl-p,ctrl-q",
    )


class Detaching:
    """Finds ``keys`` among all that is typed. The beginning of them is kept back until it is clear what follows."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What goes on to the process, and whether all of the keys have come."""
        if not self._keys:
            return typed, False
        out = bytearray()
        for number in range(len(typed)):
            self._held += typed[number : number + 1]
            while not self._keys.startswith(self._held):
                out += self._held[:1]
                self._held = self._held[1:]
            if self._held == self._keys:
                self._held = b""
                return bytes(out), True
        return bytes(out), False
