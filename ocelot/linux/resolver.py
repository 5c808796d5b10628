"""Host names without the C library: /etc/hosts, then DNS over UDP (RFC 1035), in the task that asks.

getaddrinfo(3) would load name service modules into PID 1 and needs threads; this needs a socket. Answers are IPv4
addresses first, since that is what ``ip=`` can set up, then IPv6.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from ocelot.errors import OcelotError

PORT = 53
RESOLV_CONF = "/run/ocelot/resolv.conf"
"""The name servers that ``ip=`` gave. It outlives the switch of the root; a file system may link to it."""
TRY_WITHIN = 2.0
TRIES = 3

_A, _AAAA, _CNAME = 1, 28, 5
_FAMILIES = {_A: socket.AF_INET, _AAAA: socket.AF_INET6}
_HEADER = struct.Struct("!HHHHHH")
_REFUSALS = {1: "it did not understand the question", 2: "it failed", 4: "it cannot do that", 5: "it refused"}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where names are looked up. ``search``: domains for names without a dot."""

    hosts: str = ""
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    port: int = PORT


def is_numeric(name: str) -> bool:
    """Whether ``name`` is an IPv4 or IPv6 address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name.partition("%")[0])
        except OSError:
            continue
        return True
    return False


async def resolve(name: str) -> str:
    """The numeric address of ``name``. Raises OcelotError that says who was asked."""
    return name if is_numeric(name) else await look_up(name, sources())


def sources(root: str = "") -> Sources:
    """What /etc/hosts and /etc/resolv.conf below ``root`` say; the name servers of ``ip=`` where the latter has none."""
    servers, search = parse_resolv_conf(_text(f"{root}/etc/resolv.conf"))
    if not servers:
        servers, _ = parse_resolv_conf(_text(root + RESOLV_CONF))
    return Sources(_text(f"{root}/etc/hosts"), servers, search)


async def look_up(name: str, where: Sources) -> str:
    """The numeric address of ``name`` according to ``where``. Raises OcelotError."""
    found = parse_hosts(where.hosts, name)
    if found:
        return found
    if not name.isascii():
        raise OcelotError(f'cannot look up "{name}": it is not ASCII', hint="give the xn-- form, or the address")
    if not where.servers:
        raise OcelotError(
            f'cannot look up "{name}": no name server is known',
            hint="give a numeric address, or name a server in /etc/resolv.conf or in the eighth field of ip=",
        )
    problem = "no answer"
    for candidate in candidates(name, where.search):
        for kind in (_A, _AAAA):
            answer = await _ask(candidate, kind, where)
            if answer.address:
                return answer.address
            problem = answer.problem or problem
    raise OcelotError(f'cannot look up "{name}" at {", ".join(where.servers)}: {problem}')


def parse_hosts(text: str, name: str) -> str:
    """The first address that hosts(5) gives for ``name``, IPv4 preferred; empty if it gives none."""
    wanted = name.lower().rstrip(".")
    found = ""
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (other.lower() for other in names) and is_numeric(address):
            if ":" not in address:
                return address
            found = found or address
    return found or ("127.0.0.1" if wanted == "localhost" else "")


def parse_resolv_conf(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The name servers (at most three, as in libc) and the search domains of resolv.conf(5)."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and is_numeric(words[1]):
            servers.append(words[1])
        elif len(words) >= 2 and words[0] in ("search", "domain"):
            search = tuple(words[1:])
    return tuple(servers[:3]), search


def candidates(name: str, search: Sequence[str]) -> list[str]:
    """The full names to ask for, in order: a name with a dot first as it is."""
    if name.endswith("."):
        return [name.rstrip(".")]
    extended = [f"{name}.{domain.strip('.')}" for domain in search if domain.strip(".")]
    return [name, *extended] if "." in name else [*extended, name]


def question(number: int, name: str, kind: int) -> bytes:
    """A query packet. Raises OcelotError when ``name`` cannot be a host name."""
    labels = name.split(".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise OcelotError(f'cannot look up "{name}": it is not a host name')
    encoded = b"".join(bytes((len(label),)) + label.encode("ascii") for label in labels)
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + encoded + b"\0" + struct.pack("!HH", kind, 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """An address, or why there is none."""

    address: str = ""
    problem: str = ""


def parse_answer(packet: bytes, number: int, kind: int) -> Answer | None:
    """Read a reply; None when it is none to our question, or damaged."""
    try:
        identity, flags, questions, answers, _authority, _additional = _HEADER.unpack_from(packet)
        if identity != number or not flags & 0x8000:
            return None
        if flags & 0xF == 3:
            return Answer(problem="there is no such name")
        if flags & 0xF:
            return Answer(problem=f"the server said that {_REFUSALS.get(flags & 0xF, f'error {flags & 0xF}')}")
        position = _HEADER.size
        for _ in range(questions):
            position = _skip_name(packet, position) + 4
        for _ in range(answers):
            position = _skip_name(packet, position)
            found, _class, _ttl, length = struct.unpack_from("!HHIH", packet, position)
            position += 10
            if found == kind:
                return Answer(socket.inet_ntop(_FAMILIES[kind], packet[position : position + length]))
            position += length
    except (struct.error, IndexError, ValueError):
        return None
    return Answer(problem="the name has no address")


def _skip_name(packet: bytes, position: int) -> int:
    while True:
        length = packet[position]
        if length >= 0xC0:
            return position + 2
        position += 1 + length
        if length == 0:
            return position


async def _ask(name: str, kind: int, where: Sources) -> Answer:
    problem = "no answer"
    for _ in range(TRIES):
        for server in where.servers:
            number = int.from_bytes(os.urandom(2), "big")
            try:
                with trio.move_on_after(TRY_WITHIN):
                    answer = await _exchange(server, where.port, question(number, name, kind), number, kind)
                    if not answer.problem.startswith("the server said"):
                        return answer
                    problem = answer.problem
            except OSError as error:
                problem = f"{server}: {error.strerror}"
    return Answer(problem=problem)


async def _exchange(server: str, port: int, query: bytes, number: int, kind: int) -> Answer:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        # Connected, so that the kernel drops what comes from anywhere else and tells of a closed port.
        sock.connect((server, port))
        sock.send(query)
        while True:
            await trio.lowlevel.wait_readable(sock)
            answer = parse_answer(sock.recv(4096), number, kind)
            if answer is not None:
                return answer


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
