"""Static addresses by rtnetlink and names by DNS, in network namespaces of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHECKOUT = Path(__file__).parent.parent

COMMON = """
import json, os, socket, struct, sys
import trio
from bootstrap import network, rtnetlink
from ocelot.linux import resolver
from bootstrap.steps import Machine
from ocelot.errors import OcelotError
from ocelot.linux.identity import Identity

said = []
machine = Machine(None, Identity.CONTAINER, said.append, said.append)

async def apply(text):
    for step in network.plan_network(text, set_hostname=True):
        await step.apply(machine)
"""


def inside(script: str) -> Any:
    """Run ``script`` in its own network, UTS and mount namespaces; what it prints last is JSON."""
    private = 'mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /run && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "sh", "-c", private, sys.executable, "-c", COMMON + script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TUN = """
import fcntl
tun = os.open("/dev/net/tun", os.O_RDWR)
def make_tap(name):
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000))
"""

LOOK = """
def routes():
    return [line.split()[:3] for line in open("/proc/net/route").read().splitlines()[1:]]
def address(name):
    import fcntl
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return [socket.inet_ntoa(fcntl.ioctl(s, n, struct.pack("256s", name.encode()))[20:24]) for n in (0x8915, 0x891B)]
"""

needs_tap = pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="needs /dev/net/tun")


def test_the_loopback_interface_is_up_and_usable() -> None:
    seen = inside("""
trio.run(apply, None)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=5).close()
trio.run(apply, None)  # again: nothing to do, nothing to complain about
print(json.dumps(said))
""")
    assert seen == []


@needs_tap
def test_an_address_a_route_a_host_name_and_name_servers() -> None:
    seen = inside(
        TUN
        + LOOK
        + """
make_tap("eth0")
text = "10.0.2.15::10.0.2.2:255.255.255.0:guest:eth0:none:10.0.2.3"
trio.run(apply, text)
trio.run(apply, text)  # what is there already is no error
print(json.dumps({"address": address("eth0"), "routes": routes(), "host": os.uname().nodename,
    "etc": open("/etc/resolv.conf").read(), "servers": resolver.sources().servers, "said": said}))
"""
    )
    assert seen["address"] == ["10.0.2.15", "255.255.255.0"]
    assert ["eth0", "00000000", "0202000A"] in seen["routes"]
    assert seen["host"] == "guest"
    assert seen["etc"] == "nameserver 10.0.2.3\n"
    assert seen["servers"] == ["10.0.2.3"]
    assert seen["said"] == []


@needs_tap
def test_waits_for_an_interface_that_comes_late() -> None:
    seen = inside(
        TUN
        + LOOK
        + """
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(apply, "10.0.2.15:::24::eth9:none")
        await trio.testing.wait_all_tasks_blocked(0.2)
        before = os.path.exists("/sys/class/net/eth9")
        make_tap("eth9")
    return before
import trio.testing
print(json.dumps({"before": trio.run(main), "address": address("eth9")}))
"""
    )
    assert seen == {"before": False, "address": ["10.0.2.15", "255.255.255.0"]}


@needs_tap
def test_a_gateway_out_of_reach_is_told_in_words() -> None:
    seen = inside(
        TUN
        + """
make_tap("eth0")
try:
    trio.run(apply, "10.0.2.15::192.168.7.1:24::eth0:none")
except OcelotError as error:
    print(json.dumps(str(error)))
"""
    )
    assert seen.startswith("cannot set the default route: the gateway 192.168.7.1 is not within 10.0.2.15/24")


def test_an_interface_that_never_comes_is_told_with_those_that_are_there() -> None:
    seen = inside("""
from trio.testing import MockClock
try:
    trio.run(apply, "10.0.2.15:::24::eth0:none", clock=MockClock(rate=1000))
except OcelotError as error:
    print(json.dumps([error.message, error.hint]))
""")
    assert seen[0] == 'cannot find the network interface "eth0" within 30s (there are: "lo")'
    assert "virtio_net" in seen[1]


DNS = """
async def serve(sock, answers):
    while True:
        await trio.lowlevel.wait_readable(sock)
        query, peer = sock.recvfrom(512)
        asked, kind = query[12:-4], struct.unpack("!H", query[-4:-2])[0]
        data = answers.pop(0) if answers else None
        if data is None:
            continue  # lost on the way
        count = 1 if data and kind == 1 else 0
        head = struct.pack("!HHHHHH", int.from_bytes(query[:2], "big"), 0x8180, 1, count, 0, 0)
        record = b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(data) if count else b""
        sock.sendto(head + query[12:] + record, peer)

async def ask(name, answers):
    await apply(None)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind(("127.0.0.1", 0))
    resolver.TRY_WITHIN = 0.3
    where = resolver.Sources("10.9.9.9 fixed", ("127.0.0.1",), (), sock.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, sock, answers)
        try:
            found = await resolver.look_up(name, where)
        except OcelotError as error:
            found = str(error)
        nursery.cancel_scope.cancel()
    print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("name", "answers", "found"),
    [
        ("db.example", ["10.0.0.7"], "10.0.0.7"),
        ("db.example", [None, "10.0.0.7"], "10.0.0.7"),
        ("fixed", [], "10.9.9.9"),
        ("db.example", ["", ""], 'cannot look up "db.example" at 127.0.0.1: the name has no address'),
        ("db.example", [], 'cannot look up "db.example" at 127.0.0.1: no answer'),
    ],
)
def test_names_are_asked_for_again_when_an_answer_is_lost(name: str, answers: list[str | None], found: str) -> None:
    assert inside(DNS + f"trio.run(ask, {name!r}, {answers!r})") == found
