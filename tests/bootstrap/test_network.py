"""ip= of the kernel command line, rtnetlink messages, and names."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import cast

import pytest
import trio

from bootstrap import rtnetlink as nl
from bootstrap.network import Address, StaticAddress, parse_ip, plan_network
from bootstrap.steps import Machine
from ocelot.config.structs import OnFailure
from ocelot.errors import OcelotError
from ocelot.linux.identity import Identity
from ocelot.linux.resolver import Answer, candidates, parse_answer, parse_hosts, parse_resolv_conf, question
from ocelot.runner import Runner


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.0.2.15", Address("10.0.2.15", 8)),
        ("172.16.0.1", Address("172.16.0.1", 16)),
        ("192.168.1.9", Address("192.168.1.9", 24)),
        (
            "10.0.2.15::10.0.2.2:255.255.255.0:box:eth0:none",
            Address("10.0.2.15", 24, "10.0.2.2", "box", "eth0"),
        ),
        ("10.0.2.15::10.0.2.2:24::eth0:off", Address("10.0.2.15", 24, "10.0.2.2", "", "eth0")),
        (
            "10.0.2.15:10.0.2.9:10.0.2.2:255.255.255.255:::none:10.0.2.3:0.0.0.0",
            Address("10.0.2.15", 32, "10.0.2.2", dns=("10.0.2.3",)),
        ),
        ("off", None),
        ("", None),
    ],
)
def test_ip_is_read_as_the_kernel_reads_it(text: str, wanted: Address | None) -> None:
    assert parse_ip(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dhcp", "DHCP is not supported by this version"),
        ("::::::dhcp", "DHCP is not supported by this version"),
        ("10.0.2.15::10.0.2.2:24::eth0:on", "DHCP is not supported by this version"),
        ("eth0:dhcp", "on the kernel command line says: DHCP is not supported by this version (give the address there"),
        ("10.0.2.15::::::sometimes", '"sometimes" is unknown'),
        (":::24::eth0:none", "our address, is empty"),
        ("host.example", 'the address "host.example" is not a numeric IPv4 address'),
        ("10.0.2.15::router:24", 'the gateway "router" is not'),
        ("10.0\0.2.15", "is not a numeric IPv4 address"),
        ("10.0.2.15:::255.0.255.0", "it has gaps"),
        ("10.0.2.15:::33", '"33" is not a netmask'),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(OcelotError) as caught:
        parse_ip(text)
    assert said in str(caught.value)


def policies(text: str, *, needed: bool) -> list[OnFailure]:
    return [step.on_failure for step in plan_network(text, needed=needed) if step.name == "network"]


@pytest.mark.parametrize("text", ["dhcp", "on", "any", "both", "rarp", ":::::eth0:dhcp", "eth0:dhcp"])
def test_an_address_that_nobody_can_ask_for_ends_the_boot_only_where_it_is_needed(text: str) -> None:
    assert policies(text, needed=False) == [OnFailure.WARN]
    assert policies(text, needed=True) == [OnFailure.ABORT]


@pytest.mark.parametrize("text", ["10.0.2.15::10.0.2.2:24::eth0:none", "10.0.2"])
def test_an_address_that_is_given_must_work(text: str) -> None:
    assert policies(text, needed=False) == [OnFailure.ABORT]


def test_an_address_that_the_kernel_itself_has_got_is_left_alone(tmp_path: Path) -> None:
    said: list[str] = []
    machine = Machine(cast(Runner, None), Identity.MACHINE, said.append, said.append)
    pnp = tmp_path / "pnp"
    pnp.write_text("#PROTO: DHCP\nbootserver 10.0.2.2\n")
    trio.run(StaticAddress("dhcp", kernels_own=str(pnp)).apply, machine)
    assert said == ["the kernel itself has set up the network, as ip=dhcp says"]
    pnp.write_text("#MANUAL\n")
    with pytest.raises(OcelotError, match="DHCP is not supported"):
        trio.run(StaticAddress("dhcp", kernels_own=str(pnp)).apply, machine)


def test_attributes_are_padded_and_read_back() -> None:
    data = nl.attribute(3, b"eth0\0") + nl.attribute(16, b"\x06")
    assert len(data) % 4 == 0
    assert nl.attributes(data) == {3: b"eth0\0", 16: b"\x06"}


def test_an_address_message_is_what_the_kernel_expects() -> None:
    body = nl.address(2, "10.0.2.15", 24)
    assert struct.unpack_from("=BBBBi", body) == (socket.AF_INET, 24, 0, 0, 2)
    found = nl.attributes(body[8:])
    assert socket.inet_ntoa(found[nl.IFA_LOCAL]) == "10.0.2.15"
    assert socket.inet_ntoa(found[nl.IFA_BROADCAST]) == "10.0.2.255"


def test_datagrams_with_several_messages_are_taken_apart() -> None:
    link = struct.pack("=BxHiII", 0, 1, 7, 0x10003, 0) + nl.attribute(nl.IFLA_IFNAME, b"eth7\0")
    data = nl.request(nl.RTM_NEWLINK, 0, 5, link) + nl.request(nl.NLMSG_DONE, 0, 5, b"\0\0\0\0")
    first, second = nl.messages(data + b"cut")
    parsed = nl.parse_link(first)
    assert parsed is not None
    assert (parsed.index, parsed.name, parsed.carrier, parsed.gone) == (7, "eth7", True, False)
    assert (second.type, second.sequence) == (nl.NLMSG_DONE, 5)


@pytest.mark.parametrize("length", [0, 8, 200])
def test_a_message_of_impossible_length_ends_the_reading(length: int) -> None:
    assert list(nl.messages(struct.pack("=IHHII", length, 16, 0, 1, 0))) == []


HOSTS = "127.0.0.1 localhost\n::1 db db6\n10.0.0.5\tdb db.example  # the database\nnonsense db2\n"


def test_hosts_prefers_the_older_family_and_ignores_case() -> None:
    assert parse_hosts(HOSTS, "DB") == "10.0.0.5"
    assert parse_hosts(HOSTS, "db6") == "::1"
    assert parse_hosts(HOSTS, "db2") == ""
    assert parse_hosts("", "localhost") == "127.0.0.1"


def test_resolv_conf_gives_three_servers_and_the_search_list() -> None:
    text = (
        "search a.example b.example\nnameserver 10.0.0.1\nnameserver x\nnameserver ::1\n" + "nameserver 10.0.0.2\n" * 3
    )
    assert parse_resolv_conf(text) == (("10.0.0.1", "::1", "10.0.0.2"), ("a.example", "b.example"))


def test_search_domains_are_tried_first_for_a_name_without_a_dot() -> None:
    assert candidates("db", ("a.example", ".")) == ["db.a.example", "db"]
    assert candidates("db.x", ("a.example",)) == ["db.x", "db.x.a.example"]
    assert candidates("db.", ("a.example",)) == ["db"]


def reply(number: int, *records: tuple[int, bytes], code: int = 0) -> bytes:
    asked = question(number, "db.example", 1)[12:]
    answers = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for kind, data in records)
    return struct.pack("!HHHHHH", number, 0x8180 | code, 1, len(records), 0, 0) + asked + answers


def test_the_address_behind_an_alias_is_found() -> None:
    packet = reply(7, (5, b"\x03www\xc0\x0c"), (1, socket.inet_aton("10.0.0.9")))
    assert parse_answer(packet, 7, 1) == Answer("10.0.0.9")


def test_answers_to_other_questions_and_damaged_ones_are_nothing() -> None:
    packet = reply(7, (1, socket.inet_aton("10.0.0.9")))
    assert parse_answer(packet, 8, 1) is None
    assert parse_answer(question(7, "db.example", 1), 7, 1) is None
    for length in range(len(packet) - 1):
        assert parse_answer(packet[:length], 7, 1) is None


def test_a_name_that_does_not_exist_is_told_apart_from_one_without_address() -> None:
    assert parse_answer(reply(7, code=3), 7, 1) == Answer(problem="there is no such name")
    assert parse_answer(reply(7), 7, 1) == Answer(problem="the name has no address")
    assert parse_answer(reply(7, code=5), 7, 1) == Answer(problem="the server said that it refused")


@pytest.mark.parametrize("name", ["a..b", "", "x" * 64, ".".join(["abcdefgh"] * 30)])
def test_what_is_no_host_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(OcelotError, match="it is not a host name"):
        question(1, name, 1)
