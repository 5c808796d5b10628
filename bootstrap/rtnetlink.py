"""The few rtnetlink(7) requests that a static address needs: packing and unpacking, and one blocking-free exchange.

Written out here since the boot should not pay for a netlink library to set three things.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import trio

# netlink(7), rtnetlink(7)
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_NEWROUTE = 24
RTMGRP_LINK = 1
IFLA_IFNAME = 3
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
RTA_OIF = 4
RTA_GATEWAY = 5
IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_HOST = 254
RTN_UNICAST = 1
ARPHRD_ETHER = 1

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. ``kind`` is its ARPHRD_ number."""

    index: int
    name: str
    kind: int
    flags: int
    gone: bool = False

    @property
    def carrier(self) -> bool:
        return bool(self.flags & IFF_LOWER_UP)


@dataclass(frozen=True, slots=True)
class Message:
    type: int
    sequence: int
    body: bytes


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message. The port number 0 stands for the kernel."""
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """The messages in a datagram. What is cut off at the end is left out."""
    while len(data) >= _HEADER.size:
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield Message(kind, sequence, data[_HEADER.size : length])
        data = data[(length + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes at the end of a message; the last one of a kind counts."""
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found


def parse_link(message: Message) -> Link | None:
    """The interface that a message is about, or None for another message."""
    if message.type not in (RTM_NEWLINK, RTM_DELLINK) or len(message.body) < _LINK.size:
        return None
    _family, kind, index, flags, _change = _LINK.unpack_from(message.body)
    name = attributes(message.body[_LINK.size :]).get(IFLA_IFNAME, b"").rstrip(b"\0")
    return Link(index, os.fsdecode(name), kind, flags, message.type == RTM_DELLINK)


def link_up(index: int) -> bytes:
    """The body of RTM_NEWLINK that sets IFF_UP and nothing else (rtnetlink(7))."""
    return _LINK.pack(socket.AF_UNSPEC, 0, index, IFF_UP, IFF_UP)


def address(index: int, local: str, prefix: int) -> bytes:
    """The body of RTM_NEWADDR for an IPv4 address in dotted form."""
    packed = socket.inet_aton(local)
    scope = RT_SCOPE_HOST if packed[0] == 127 else RT_SCOPE_UNIVERSE
    body = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, scope, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if prefix < 31 and packed[0] != 127:
        host_bits = (1 << (32 - prefix)) - 1
        broadcast = int.from_bytes(packed, "big") | host_bits
        body += attribute(IFA_BROADCAST, broadcast.to_bytes(4, "big"))
    return body


def default_route(index: int, gateway: str) -> bytes:
    """The body of RTM_NEWROUTE for the default route through an IPv4 gateway."""
    body = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
    )
    return body + attribute(RTA_GATEWAY, socket.inet_aton(gateway)) + attribute(RTA_OIF, struct.pack("=i", index))


class Netlink:
    """A route socket. ``groups``: multicast groups to listen to (RTMGRP_LINK)."""

    def __init__(self, groups: int = 0) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, groups))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    async def change(self, kind: int, flags: int, body: bytes) -> None:
        """Send a request and wait for its acknowledgement. Raises OSError with the kernel's number."""
        sequence = self._send(kind, flags | NLM_F_ACK, body)
        while True:
            for message in await self._receive():
                if message.type == NLMSG_ERROR and message.sequence == sequence:
                    number = -struct.unpack_from("=i", message.body)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return

    async def links(self) -> list[Link]:
        """Every interface of the network namespace."""
        sequence = self._send(RTM_GETLINK, NLM_F_DUMP, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        found: list[Link] = []
        while True:
            for message in await self._receive():
                if message.sequence != sequence:
                    continue
                if message.type == NLMSG_DONE:
                    return found
                link = parse_link(message)
                if link is not None:
                    found.append(link)

    async def link_changes(self) -> list[Link]:
        """Wait for news about interfaces (needs RTMGRP_LINK) and return it."""
        while True:
            news = [link for link in map(parse_link, await self._receive()) if link is not None]
            if news:
                return news

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence += 1
        self._socket.send(request(kind, flags, self._sequence, body))
        return self._sequence

    async def _receive(self) -> list[Message]:
        while True:
            try:
                return list(messages(self._socket.recv(1 << 16)))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # news was lost: whoever waits looks again
                    raise
                return []
