"""Checks by gRPC: Check of grpc.health.v1 (the health checking protocol of gRPC), on HTTP/2 without TLS.

The two messages have one field each, so they are read and written by hand; HTTP/2 is the package h2, an extra of ocelot's.
"""

from __future__ import annotations

from typing import Any

import trio

from ocelot import __version__
from ocelot.config import structs
from ocelot.errors import OcelotError
from supervisor.health.probe_network import tcp
from supervisor.health.probes import Failed

PATH = "/grpc.health.v1.Health/Check"
MESSAGE_MAX = 4096

_SERVING = 1
_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES = {
    "1": "CANCELLED",
    "2": "UNKNOWN",
    "4": "DEADLINE_EXCEEDED",
    "5": "NOT_FOUND",
    "7": "PERMISSION_DENIED",
    "8": "RESOURCE_EXHAUSTED",
    "12": "UNIMPLEMENTED",
    "13": "INTERNAL",
    "14": "UNAVAILABLE",
    "16": "UNAUTHENTICATED",
}


def request(service: str) -> bytes:
    """HealthCheckRequest with its frame: field 1 is the name of the service."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def serving_status(data: bytes) -> int:
    """The status in a framed HealthCheckResponse; 0 (UNKNOWN) is not sent at all. Raises ValueError."""
    if len(data) < 5 or data[0] or len(data) < 5 + int.from_bytes(data[1:5], "big"):
        raise ValueError("no message")
    message = data[5 : 5 + int.from_bytes(data[1:5], "big")]
    position, status = 0, 0
    while position < len(message):
        key, position = _read_varint(message, position)
        if key & 7 == 0:
            value, position = _read_varint(message, position)
            status = value if key >> 3 == 1 else status
        elif key & 7 == 2:
            length, position = _read_varint(message, position)
            position += length
        else:
            raise ValueError("an unknown field")
    return status


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a damaged number")


async def check_grpc(handler: structs.Grpc, timeout: float) -> str:
    """``timeout`` in seconds is told to the server. Raises Failed, and OcelotError when h2 is not installed."""
    try:
        from h2.connection import H2Connection
    except ImportError:
        hint = "install ocelot-init[grpc]; for an image, before it is built"
        raise OcelotError("cannot speak gRPC: the package h2 is not there", hint=hint) from None
    stream = await tcp(handler.host, handler.port)
    try:
        headers, data = await _call(H2Connection(), stream, handler, timeout)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise Failed("the connection broke") from None
    finally:
        await trio.aclose_forcefully(stream)
    return _judge(headers, data, handler.service)


def _judge(headers: dict[str, str], data: bytes, service: str) -> str:
    if headers.get(":status") != "200":
        raise Failed(f"what answers does not speak gRPC: HTTP status {headers.get(':status', 'missing')}")
    code = headers.get("grpc-status", "0")
    if code != "0":
        name = _CODES.get(code, f"code {code}")
        what = f'the service "{service}"' if service else "the server"
        detail = headers.get("grpc-message", "")
        raise Failed(f"{what} answered {name}" + (f": {detail}" if detail else ""))
    try:
        status = serving_status(data)
    except ValueError as error:
        raise Failed(f"the answer is damaged: {error}") from None
    if status != _SERVING:
        raise Failed(_STATUSES.get(status, f"status {status}"))
    return "SERVING"


async def _call(
    http: Any, stream: trio.SocketStream, handler: structs.Grpc, timeout: float
) -> tuple[dict[str, str], bytes]:
    """One call: the headers and trailers that came, and the message."""
    from h2.exceptions import ProtocolError

    host = f"[{handler.host}]" if ":" in handler.host else handler.host
    try:
        http.initiate_connection()
        number = http.get_next_available_stream_id()
        http.send_headers(
            number,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", PATH),
                (":authority", f"{host}:{handler.port}"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-timeout", f"{min(99_999_999, max(1, int(timeout * 1000)))}m"),
                ("user-agent", f"ocelot-probe/{__version__}"),
            ],
        )
        http.send_data(number, request(handler.service), end_stream=True)
        await stream.send_all(http.data_to_send())
        return await _answer(http, stream, number)
    except ProtocolError as error:
        raise Failed(f"what answers does not speak HTTP/2: {type(error).__name__}") from None


async def _answer(http: Any, stream: trio.SocketStream, number: int) -> tuple[dict[str, str], bytes]:
    from h2 import events

    headers: dict[str, str] = {}
    data = b""
    while True:
        received = bytes(await stream.receive_some(16 * 1024))
        if not received:
            raise Failed("the connection was closed without an answer")
        if received.startswith(b"HTTP/1"):
            raise Failed("what answers does not speak HTTP/2: it speaks HTTP/1")
        for event in http.receive_data(received):
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                headers.update((_text(name), _text(value)) for name, value in event.headers or ())
            elif isinstance(event, events.DataReceived) and len(data) < MESSAGE_MAX:
                data += event.data
                http.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                raise Failed("the server refused the call")
            elif isinstance(event, events.StreamEnded):
                return headers, data
        if pending := http.data_to_send():
            await stream.send_all(pending)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
