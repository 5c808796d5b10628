"""The network that a root file system may need: the loopback interface, and ``ip=`` of the kernel command line.

``ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1`` is the kernel's own syntax
(Documentation/admin-guide/nfs/nfsroot.rst). Numeric IPv4 addresses only.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

import trio

from bootstrap import rtnetlink
from bootstrap.rtnetlink import Link, Netlink
from bootstrap.steps import Machine, Step
from ocelot.config.structs import OnFailure
from ocelot.config.values import format_duration
from ocelot.errors import OcelotError
from ocelot.linux.resolver import RESOLV_CONF, parse_resolv_conf

APPEARS_WITHIN = 30.0
"""Seconds to wait for a network interface."""
CARRIER_WITHIN = 5.0
"""Seconds to wait for its link, before going on with a warning."""

_DHCP = frozenset(("dhcp", "on", "any", "both", "bootp", "rarp", "auto6", "dhcp6", "link6", "ibft"))
_STATIC = frozenset(("", "none", "off", "static"))

_KERNELS_OWN = "/proc/net/pnp"
"""What the kernel has got for ``ip=`` by itself, if it can (CONFIG_IP_PNP); in the form of resolv.conf(5)."""


@dataclass(frozen=True, slots=True)
class Address:
    """What an ``ip=`` says. ``device`` empty: the first Ethernet interface."""

    client: str
    prefix: int
    gateway: str = ""
    hostname: str = ""
    device: str = ""
    dns: tuple[str, ...] = ()


def parse_ip(text: str) -> Address | None:
    """Read the value of ``ip=``; None when it asks for nothing. Raises OcelotError."""
    fields = text.split(":")
    problem = f'cannot set up the network as "ip={text}" on the kernel command line says'
    if len(fields) == 1 and fields[0] in _STATIC:
        return None
    if asks_a_server(text):
        raise OcelotError(
            f"{problem}: DHCP is not supported by this version",
            hint="give the address there, ip=CLIENT::GATEWAY:NETMASK::DEVICE:none, or let a hook get one (udhcpc)",
        )
    if len(fields) > 6 and fields[6] not in _STATIC:
        raise OcelotError(f'{problem}: "{fields[6]}" is unknown', hint="ip=CLIENT::GATEWAY:NETMASK::DEVICE:none")
    client, _server, gateway, netmask, hostname, device, _auto, dns0, dns1 = (fields + [""] * 9)[:9]
    if not client:
        raise OcelotError(
            f"{problem}: the first field, our address, is empty", hint="ip=CLIENT::GATEWAY:NETMASK::DEVICE:none"
        )
    for what, address in (("address", client), ("gateway", gateway), ("name server", dns0), ("name server", dns1)):
        if address and not is_ipv4(address):
            raise OcelotError(f'{problem}: the {what} "{address}" is not a numeric IPv4 address')
    return Address(
        client,
        _prefix(netmask, client, problem),
        gateway,
        hostname,
        device,
        tuple(server for server in (dns0, dns1) if server and server != "0.0.0.0"),
    )


def asks_a_server(text: str) -> bool:
    """Whether this value of ``ip=`` leaves the address to DHCP or the like; also as dracut.cmdline(7) has it (``eth0:dhcp``)."""
    fields = text.split(":")
    return any(word in _DHCP for word in (*fields[:2], *fields[6:7]))


def is_ipv4(text: str) -> bool:
    """Whether ``text`` is an IPv4 address in dotted form, all four numbers written out."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):  # the latter for a NUL byte
        return False
    return True


@dataclass(frozen=True, slots=True)
class Loopback:
    """Set the loopback interface up: the kernel then gives it 127.0.0.1/8 and ::1 by itself."""

    name: str = "loopback"
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = 10.0

    def describe(self) -> str:
        return "set the interface lo up"

    async def apply(self, machine: Machine) -> None:
        with Netlink() as netlink:
            loopback = next((link for link in await netlink.links() if link.flags & rtnetlink.IFF_LOOPBACK), None)
            if loopback is None or loopback.flags & rtnetlink.IFF_UP:
                return
            try:
                await netlink.change(rtnetlink.RTM_NEWLINK, 0, rtnetlink.link_up(loopback.index))
            except OSError as error:
                if error.errno != errno.EPERM:
                    raise
                machine.info("the interface lo stays down: this container may not change it")


@dataclass(frozen=True, slots=True)
class StaticAddress:
    """Give an interface the address of ``ip=``, and set the default route. ``text`` is as on the command line."""

    text: str
    set_hostname: bool = True
    name: str = "network"
    on_failure: OnFailure = OnFailure.ABORT
    timeout: float | None = APPEARS_WITHIN + CARRIER_WITHIN
    kernels_own: str = _KERNELS_OWN

    def describe(self) -> str:
        try:
            wanted = parse_ip(self.text)
        except OcelotError as error:
            return f"fail: {error}"
        if wanted is None:
            return "nothing (ip= asks for no address)"
        words = [f"give {wanted.device or 'the first Ethernet interface'} the address {wanted.client}/{wanted.prefix}"]
        words += [f"default route through {wanted.gateway}"] if wanted.gateway else []
        words += [f"host name {wanted.hostname}"] if wanted.hostname and self.set_hostname else []
        words += [f"name servers {' '.join(wanted.dns)}"] if wanted.dns else []
        return ", ".join(words)

    async def apply(self, machine: Machine) -> None:
        """Raises OcelotError when the text makes no sense or the interface does not appear in time."""
        if asks_a_server(self.text) and (servers := _got_by_the_kernel(self.kernels_own)) is not None:
            machine.info(f"the kernel itself has set up the network, as ip={self.text} says")
            if servers:
                _write_resolv_conf(servers)
            return
        wanted = parse_ip(self.text)
        if wanted is None:
            return
        if machine.trial:
            machine.info(f"not done in a trial, there is no such interface: {self.describe()}")
            return
        with Netlink(rtnetlink.RTMGRP_LINK) as netlink:
            link = await _await_link(netlink, wanted.device)
            await netlink.change(rtnetlink.RTM_NEWLINK, 0, rtnetlink.link_up(link.index))
            await _set_address(netlink, link, wanted)
            await _await_carrier(netlink, link, machine)
        if wanted.hostname and self.set_hostname:
            socket.sethostname(wanted.hostname)
        if wanted.dns:
            _write_resolv_conf(wanted.dns)


def plan_network(text: str | None, *, set_hostname: bool = True, needed: bool = True) -> tuple[Step, ...]:
    """The loopback interface always; ``text``, the value of ``ip=``, if there is one.

    ``needed``: whether the boot cannot go on without. Else an address that we cannot ask for is only warned about: a host
    may give every machine ip=dhcp.
    """
    steps: list[Step] = [Loopback()]
    if text is not None and text not in _STATIC:
        on_failure = OnFailure.ABORT if needed or not asks_a_server(text) else OnFailure.WARN
        steps.append(StaticAddress(text, set_hostname, on_failure=on_failure))
    return tuple(steps)


def _got_by_the_kernel(path: str) -> tuple[str, ...] | None:
    """The name servers that came with the address which the kernel has got from a server; None if it has got none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    return parse_resolv_conf(text)[0] if text.startswith("#PROTO") else None


async def _await_link(netlink: Netlink, device: str) -> Link:
    found = _pick(await netlink.links(), device)
    with trio.move_on_after(APPEARS_WITHIN):
        while found is None:
            await netlink.link_changes()
            found = _pick(await netlink.links(), device)
    if found is not None:
        return found
    names = ", ".join(f'"{link.name}"' for link in await netlink.links()) or "none"
    what = f'the network interface "{device}"' if device else "an Ethernet interface"
    raise OcelotError(
        f"cannot find {what} within {format_duration(APPEARS_WITHIN)} (there are: {names})",
        hint="load the driver (virtio_net for a virtual machine) under preSwitch.modules, or correct ip=",
    )


def _pick(links: list[Link], device: str) -> Link | None:
    if device:
        return next((link for link in links if link.name == device), None)
    ethernet = [
        link for link in links if link.kind == rtnetlink.ARPHRD_ETHER and not link.flags & rtnetlink.IFF_LOOPBACK
    ]
    return min(ethernet, key=lambda link: link.index, default=None)


async def _set_address(netlink: Netlink, link: Link, wanted: Address) -> None:
    create = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
    await netlink.change(rtnetlink.RTM_NEWADDR, create, rtnetlink.address(link.index, wanted.client, wanted.prefix))
    if not wanted.gateway or wanted.gateway == "0.0.0.0":
        return
    try:
        await netlink.change(rtnetlink.RTM_NEWROUTE, create, rtnetlink.default_route(link.index, wanted.gateway))
    except OSError as error:
        if error.errno != errno.ENETUNREACH:
            raise
        raise OcelotError(
            f"cannot set the default route: the gateway {wanted.gateway} is not within {wanted.client}/{wanted.prefix}",
            hint="correct the gateway or the netmask of ip=",
        ) from error


async def _await_carrier(netlink: Netlink, link: Link, machine: Machine) -> None:
    with trio.move_on_after(CARRIER_WITHIN):
        while not any(now.carrier for now in await netlink.links() if now.index == link.index):
            await netlink.link_changes()
        return
    machine.warn(f"{link.name} has no carrier after {format_duration(CARRIER_WITHIN)}: going on")


def _write_resolv_conf(servers: tuple[str, ...]) -> None:
    """For ourselves and the programs of hooks. A file in /etc that is there already knows better."""
    text = "".join(f"nameserver {server}\n" for server in servers).encode()
    for path, flags in ((RESOLV_CONF, os.O_TRUNC), ("/etc/resolv.conf", os.O_EXCL)):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.EROFS, errno.EACCES):
                raise
            continue
        os.write(fd, text)
        os.close(fd)


def _prefix(netmask: str, client: str, problem: str) -> int:
    problem = f'{problem}: "{netmask}" is not a netmask'
    if not netmask:
        first = int(client.split(".")[0])  # the class of the address decides, as in the kernel
        return 8 if first < 128 else 16 if first < 192 else 24
    if netmask.isascii() and netmask.isdigit() and int(netmask) <= 32:
        return int(netmask)
    if not is_ipv4(netmask):
        raise OcelotError(problem, hint="255.255.255.0 or 24")
    bits = int.from_bytes(socket.inet_aton(netmask), "big")
    inverted = bits ^ 0xFFFFFFFF
    if inverted & (inverted + 1):
        raise OcelotError(f"{problem}: it has gaps", hint="255.255.255.0 or 24")
    return bits.bit_count()
