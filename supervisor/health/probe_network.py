"""Checks over the network: a TCP or unix connection, an HTTP request.

trio's own helpers look names up with getaddrinfo(3), which would load name service modules into PID 1; sockets that are connected
by number need none of it.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import trio

from ocelot import __version__
from ocelot.config import structs
from ocelot.config.addresses import parse_statuses
from ocelot.errors import describe
from ocelot.linux import resolver
from supervisor.health.probes import SHORTAGES, Failed

BODY_MAX = 10 * 1024
"""Bytes that are read of an answer's body; a little is shown, and servers dislike connections that end unread."""

_SHOWN = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}


async def tcp(host: str, port: int) -> trio.SocketStream:
    """A connection. ``host``: an address or a name. Raises Failed, or OcelotError if the name is not known."""
    address = await resolver.resolve(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    address, _, zone = address.partition("%")
    where: Any = (address, port)
    if zone:
        where = (address, port, 0, int(zone) if zone.isdigit() else socket.if_nametoindex(zone))
    return await _connect(family, where, f"{host}:{port}")


async def unix(path: str) -> trio.SocketStream:
    """A connection to a unix socket; ``@`` begins an abstract name. Raises Failed."""
    return await _connect(socket.AF_UNIX, f"\0{path[1:]}" if path.startswith("@") else path, path)


async def check_tcp(handler: structs.TcpSocket) -> str:
    """Connect, and leave at once. Raises Failed; the time limit is the caller's."""
    stream = await tcp(handler.host, handler.port)
    stream.socket.close()
    return "connected"


async def check_unix(handler: structs.UnixSocket) -> str:
    """As :func:`check_tcp`, to a unix socket."""
    stream = await unix(handler.path)
    stream.socket.close()
    return "connected"


async def _connect(family: int, where: Any, shown: str) -> trio.SocketStream:
    """connect(2) without blocking; the socket is closed when it fails or the caller is cancelled."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        number = sock.connect_ex(where)
        if number == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        else:
            await trio.lowlevel.checkpoint()
        if number in SHORTAGES:
            raise OSError(number, os.strerror(number))
        if number == errno.EAGAIN:
            raise Failed(f"cannot connect to {shown}: its queue of connections is full")
        if number:
            raise Failed(f"cannot connect to {shown}: {os.strerror(number)}")
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.close()
        raise


async def check_http(handler: structs.HttpGet) -> str:
    """The status that came, if it is an expected one. Redirections are not followed: they are answers too."""
    stream: trio.abc.Stream = await tcp(handler.host, handler.port)
    try:
        if handler.scheme == "https":
            stream = _over_tls(stream, handler.host)
        status, reason, body = await _exchange(handler, stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise Failed(f"the connection broke: {_cause(error)}") from error
    finally:
        await trio.aclose_forcefully(stream)
    shown = f"{status} {reason}".rstrip()
    expected = parse_statuses(handler.expected_status) if handler.expected_status else ((200, 399),)
    if any(low <= status <= high for low, high in expected):
        return shown
    text = body.decode("utf-8", "replace").strip()[:_SHOWN]
    raise Failed(f"answered {shown}" + (f": {text}" if text else ""))


def request_headers(handler: structs.HttpGet) -> list[tuple[str, str]]:
    """The headers that are sent: those that HTTP needs, and the configured ones, which may replace them."""
    host = f"[{handler.host}]" if ":" in handler.host else handler.host
    if handler.port != _DEFAULT_PORTS[handler.scheme]:
        host = f"{host}:{handler.port}"
    own = {"Host": host, "User-Agent": f"ocelot-probe/{__version__}", "Accept": "*/*", "Connection": "close"}
    given = {name.lower() for name in handler.headers}
    return [*((name, value) for name, value in own.items() if name.lower() not in given), *handler.headers.items()]


async def _exchange(handler: structs.HttpGet, stream: trio.abc.Stream) -> tuple[int, str, bytes]:
    import h11

    http = h11.Connection(h11.CLIENT)
    head = h11.Request(method="GET", target=handler.path, headers=request_headers(handler))
    await stream.send_all((http.send(head) or b"") + (http.send(h11.EndOfMessage()) or b""))
    status, reason, body = 0, "", b""
    try:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = bytes(await stream.receive_some(16 * 1024))
                if not data and not status:
                    raise Failed("the connection was closed without an answer")
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                status, reason = event.status_code, bytes(event.reason).decode("ascii", "replace")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) >= BODY_MAX:
                    break
            elif not isinstance(event, h11.InformationalResponse):
                break
    except h11.RemoteProtocolError as error:
        if not status:  # else it is the body that is cut short, and the answer is known
            raise Failed(f"what answers does not speak HTTP: {error}") from None
    return status, reason, body


def _over_tls(stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
    """TLS whose certificate is not checked: a probe asks whether somebody answers, not who."""
    import ssl

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except NotImplementedError:  # what stands in for the module says so
        message = "cannot speak TLS: this runtime was built without it (see --tls of ocelot runtime build)"
        raise Failed(message) from None
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = None if resolver.is_numeric(host) else host
    return trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)


def _cause(error: BaseException) -> str:
    why = error.__cause__
    if why is None:
        return "it was closed"
    reason = getattr(why, "reason", None)  # an SSLError is an OSError whose number means something else
    return f"TLS: {reason}" if reason else describe(why)
