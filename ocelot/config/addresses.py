"""Addresses to listen on, as they are written: ``tcp://0.0.0.0:80``, ``udp://[::1]:53``, ``unix:///run/app.sock``."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ocelot.config.findings import quoted
from ocelot.config.values import is_numeric_address

UNIX_MAX = 107
"""Bytes of a unix socket's path, unix(7)."""


class Address(NamedTuple):
    """``host`` is numeric, without brackets; ``*`` is every address of this machine. ``path`` only for unix sockets."""

    kind: Literal["tcp", "udp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def shown(self) -> str:
        """The address with its kind, as it can be written."""
        if self.kind == "unix":
            return f"unix://{self.path}"
        return (
            f"{self.kind}://[{self.host}]:{self.port}" if ":" in self.host else f"{self.kind}://{self.host}:{self.port}"
        )


def parse_address(text: str) -> Address:
    """Raises ValueError with a message that says what is wrong, a colon, and how to mend it."""
    kind, separator, rest = text.partition("://")
    if not separator:
        kind, rest = ("unix" if text[:1] in ("/", "@") else "tcp"), text
    if kind == "unix":
        return _unix(rest, text)
    if kind not in ("tcp", "udp"):
        raise ValueError(f'{quoted(text)} has the unknown kind {quoted(kind)}: write "tcp://", "udp://" or "unix://"')
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise ValueError(f'{quoted(text)} is not HOST:PORT: write for example "{kind}://0.0.0.0:8080"')
    number = parse_port(port)
    if host == "localhost":
        host = "127.0.0.1"
    if host != "*" and not is_numeric_address(host):
        raise ValueError(f'{quoted(host)} is not a numeric address: names are not looked up here; "*" is every address')
    return Address("tcp" if kind == "tcp" else "udp", host.strip("[]"), number)


def parse_port(text: str) -> int:
    """A port from 1 to 65535. Raises ValueError."""
    number = int(text[:6]) if text.isascii() and text.isdigit() else 0
    if not 0 < number < 65536:
        raise ValueError(f"there is no port {text}: write 1 to 65535")
    return number


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """HTTP statuses as ranges, both ends included, from ``204``, ``200-299`` or ``200,404``. Raises ValueError."""
    ranges = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        words = (first, last if dash else first)
        if not all(len(word) == 3 and word.isascii() and word.isdigit() and word[0] in "12345" for word in words):
            raise ValueError(f'{quoted(text)} is not an HTTP status: write for example "204", "200-299" or "200,404"')
        low, high = int(words[0]), int(words[1])
        if low > high:
            raise ValueError(f"{quoted(part.strip())} is an empty range: write the smaller status first")
        ranges.append((low, high))
    return tuple(ranges)


def _unix(path: str, text: str) -> Address:
    if path[:1] not in ("/", "@") or len(path) < 2:
        raise ValueError(f'{quoted(text)} is not an absolute path: write for example "unix:///run/app.sock"')
    if len(path.encode()) > UNIX_MAX:
        raise ValueError(f"is longer than {UNIX_MAX} bytes, the limit of unix(7): choose a shorter path")
    return Address("unix", path=path)
