"""What probes send and understand, without a network."""

import sys
from contextlib import suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as some

from ocelot.config import structs
from ocelot.config.addresses import parse_address, parse_statuses
from ocelot.errors import OcelotError
from supervisor.health.probe_grpc import _judge as judge
from supervisor.health.probe_grpc import check_grpc, request, serving_status
from supervisor.health.probe_network import request_headers
from supervisor.health.probes import Failed
from supervisor.health.said import parse


def test_a_health_check_request_is_a_framed_message():
    assert request("") == b"\0\0\0\0\0"
    assert request("abc") == b"\0\0\0\0\x05\x0a\x03abc"
    long = request("é" * 100)
    assert long[:8] == b"\0" + (203).to_bytes(4, "big") + b"\x0a\xc8\x01"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\0\0\0\0\0", 0),
        (b"\0\0\0\0\x02\x08\x01", 1),
        (b"\0\0\0\0\x02\x08\x02", 2),
        (b"\0\0\0\0\x06\x12\x02hi\x08\x01", 1),  # a field that we do not know
        (b"\0\0\0\0\x03\x08\xac\x02", 300),
    ],
)
def test_a_health_check_response(data, status):
    assert serving_status(data) == status


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\0", b"\1\0\0\0\0", b"\0\0\0\0\x05\x08\x01", b"\0\0\0\0\1\x08", b"\0\0\0\0\1\x0d"]
)
def test_a_damaged_response(data):
    with pytest.raises(ValueError):
        serving_status(data)


@given(some.binary(max_size=64))
def test_no_response_breaks_the_reader(data):
    for each in (data, b"\0" + len(data).to_bytes(4, "big") + data):
        with suppress(ValueError):
            assert serving_status(each) >= 0


@given(some.binary())
def test_no_notification_breaks_the_reader(data):
    assert all(key and "\n" not in key + value for key, value in parse(data).items())


@given(some.text())
def test_no_address_breaks_the_reader(text):
    for read in (parse_address, parse_statuses):
        try:
            read(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:80", "tcp://127.0.0.1:80"),
        ("localhost:80", "tcp://127.0.0.1:80"),
        ("tcp://[::1]:80", "tcp://[::1]:80"),
        ("*:80", "tcp://*:80"),
        ("udp://0.0.0.0:53", "udp://0.0.0.0:53"),
        ("/run/x.sock", "unix:///run/x.sock"),
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("@name", "unix://@name"),
    ],
)
def test_an_address_is_shown_as_it_can_be_written(text, shown):
    assert parse_address(text).shown == shown
    assert parse_address(shown).shown == shown


@pytest.mark.parametrize(
    ("text", "ranges"),
    [("204", ((204, 204),)), ("200-299", ((200, 299),)), ("200, 404", ((200, 200), (404, 404)))],
)
def test_statuses(text, ranges):
    assert parse_statuses(text) == ranges


@pytest.mark.parametrize(
    ("config", "host"),
    [
        ({"port": 80}, "127.0.0.1"),
        ({"port": 8080}, "127.0.0.1:8080"),
        ({"port": 443, "scheme": "https"}, "127.0.0.1"),
        ({"port": 80, "scheme": "https"}, "127.0.0.1:80"),
        ({"port": 80, "host": "::1"}, "[::1]"),
        ({"port": 81, "host": "::1"}, "[::1]:81"),
        ({"port": 81, "headers": {"HOST": "example.com"}}, None),
    ],
)
def test_a_request_names_its_host(config, host):
    headers = request_headers(structs.HttpGet(**config))
    assert [value for name, value in headers if name == "Host"] == ([host] if host else [])
    assert len({name.lower() for name, _ in headers}) == len(headers)


@pytest.mark.parametrize(
    ("code", "name"), [("5", "NOT_FOUND"), ("99", "code 99"), ("\u00b2", "code \u00b2"), ("9" * 5000, "code 999")]
)
def test_whatever_code_a_grpc_server_answers_is_a_failure(code, name):
    with pytest.raises(Failed, match=f"^the server answered {name}"):
        judge({":status": "200", "grpc-status": code}, b"", "")


def test_without_its_package_a_grpc_probe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h2.connection", None)
    with pytest.raises(OcelotError) as caught:
        trio.run(check_grpc, structs.Grpc(port=1), 1.0)
    assert caught.value.message == "cannot speak gRPC: the package h2 is not there"
    assert "ocelot-init[grpc]" in caught.value.hint
