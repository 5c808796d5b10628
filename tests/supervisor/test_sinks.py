"""What sinks make of lines, without opening any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot.config import structs
from ocelot.errors import OcelotError
from ocelot.linux.descriptors import Writer
from supervisor.output import forwarding, sinks
from supervisor.output.destinations import sink_for
from supervisor.output.relay import Relay
from supervisor.output.sinks import Counters


def make(destination: structs.Destination, **more: Any) -> sinks.Sink | None:
    config = structs.Stream(destination=destination, **more)
    writer = Writer.nowhere()
    return sink_for(config, name="x", stream="stdout", inherit=writer, around=Relay(), counters=Counters())


def test_lines_become_records_and_long_ones_are_cut() -> None:
    assert list(sinks.pieces(b"ab\n\nabcde\nx", 3)) == [
        (b"ab", 3, False),
        (b"", 1, False),
        (b"abc", 3, True),
        (b"de", 3, False),
        (b"x", 1, True),
    ]


@given(st.binary(max_size=300).map(lambda data: data.replace(b"\x00", b"\n")), st.integers(1, 20))
def test_pieces_stand_for_every_byte(data: bytes, limit: int) -> None:
    found = list(sinks.pieces(data, limit))
    assert sum(length for _, length, _ in found) == len(data)
    assert b"".join(piece + (b"" if partial else b"\n") for piece, _, partial in found) == data
    assert all(len(piece) <= limit for piece, _, _ in found)


@given(st.text(max_size=80), st.integers(4, 9))
def test_pieces_of_valid_text_are_valid_text(text: str, limit: int) -> None:
    for piece, _, _ in sinks.pieces(text.encode("utf-8", "ignore"), limit):
        piece.decode("utf-8")


def test_a_syslog_message_is_rfc_5424() -> None:
    sink = forwarding.SyslogSink("/dev/log", "web server", "stderr", now=lambda: 1_700_000_000.25)
    head, _, rest = sink.format(b"text").partition(b" ")
    assert head == b"<27>1"
    stamp, _host, app, procid, msgid, data, text = rest.split(b" ")
    assert stamp == b"2023-11-14T22:13:20.250000Z"
    assert (app, procid, msgid, data, text) == (b"web_server", b"-", b"-", b"-", b"text")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("udp://192.0.2.1:1514", ("192.0.2.1", 1514)),
        ("udp://192.0.2.1", ("192.0.2.1", 514)),
        ("udp://[2001:db8::1]:99", ("2001:db8::1", 99)),
        ("udp://[::1]", ("::1", 514)),
    ],
)
def test_udp_addresses(address: str, expected: tuple[str, int]) -> None:
    assert forwarding.udp_address(address) == expected


@pytest.mark.parametrize(
    "address", ["udp://loghost:514", "udp://192.0.2.1:x", "udp://192.0.2.1:0", "udp://", "udp://[::1"]
)
def test_other_udp_addresses_are_refused_with_the_address_in_the_message(address: str) -> None:
    with pytest.raises(OcelotError, match="cannot use the syslog address") as caught:
        make(structs.Syslog(address=address))
    assert f'"{address}"' in caught.value.message


def test_null_and_direct_need_no_sink() -> None:
    for destination in (structs.Null(), structs.Direct()):
        assert make(destination) is None
