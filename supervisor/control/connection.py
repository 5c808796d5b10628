"""One HTTP/1.1 connection on a trio stream: h11 reads and writes, this module sets the limits.

Whoever may connect may also be hostile, and PID 1 must not mind: a request arrives whole within a deadline, its head and
body are bounded, an answer that nobody reads is given up, and whatever a peer sends ends at most its own connection.

``h11`` is imported here, so this module is imported when the first client connects, not while the machine boots.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from select import poll

import h11
import msgspec
import trio
from h11._state import MIGHT_SWITCH_PROTOCOL  # documented, but not exported

from ocelot import __version__, log
from ocelot.errors import ControlError, describe
from ocelot.wire.protocol import Problem
from ocelot.wire.routes import JSON

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds. ``receive`` is for a whole request from its first byte, ``idle`` for the pause before it."""

    head: int = 16 * 1024
    body: int = 64 * 1024
    receive: float = 10.0
    idle: float = 30.0
    send: float = 30.0


@dataclass(frozen=True)
class Request:
    """``path`` is as it came, still percent-encoded; header names are lower case.

    ``patience`` is cancelled when the client hangs up before it has its answer. Who waits for something does that within it, once.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    patience: trio.CancelScope = field(default_factory=trio.CancelScope, compare=False)


@dataclass(frozen=True)
class Response:
    """``body`` is sent whole with its length, or, when it is an iterator, piece by piece as it comes.

    ``takeover``: with status 101 and the header ``upgrade``, who goes on with the connection, which is closed afterwards.
    """

    body: bytes | AsyncGenerator[bytes, None] = b""
    status: int = 200
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    takeover: Takeover | None = None


Takeover = Callable[[trio.abc.HalfCloseableStream], Awaitable[None]]
Answer = Callable[[Request], Awaitable[Response]]


def problem(error: ControlError, **headers: str) -> Response:
    """The answer that tells a client of ``error``."""
    body = msgspec.json.encode(Problem(kind=error.kind, message=error.message, hint=error.hint)) + b"\n"
    return Response(body, error.status or 500, headers=headers)


async def converse(stream: trio.abc.HalfCloseableStream, answer: Answer, limits: Limits = Limits()) -> None:
    """Answer the requests of one connection until it ends, and close it. Raises nothing but Cancelled.

    ``answer`` may raise ControlError; anything else that it raises is logged and told to the client as an error.
    """
    async with stream:
        try:
            await _Conversation(stream, answer, limits).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the peer is gone, or does not read: its connection is all that ends
        except Exception as error:  # noqa: BLE001 - a bug here must not end PID 1
            log.error(f"control: a connection failed: {describe(error)}")


class _Conversation:
    def __init__(self, stream: trio.abc.HalfCloseableStream, answer: Answer, limits: Limits) -> None:
        self.stream = stream
        self.answer = answer
        self.limits = limits
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)

    async def run(self) -> None:
        while await self._exchange():
            self.http.start_next_cycle()
        if self.http.our_state in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR, h11.DONE):
            await self._linger()

    async def _exchange(self) -> bool:
        """One request and its answer; false when the connection is to end."""
        bodiless, offered = False, ""
        try:
            request = await self._receive()
            if request is None:
                return False
            bodiless, offered = request.method == "HEAD", request.headers.get("upgrade", "")
            response = await self._respond_while_there(request)
        except ControlError as error:
            response = problem(error, connection="close")
        if response.takeover is not None:
            return await self._hand_over(response, response.takeover, offered)
        await self._send(response, bodiless)
        return bool(self.http.our_state is h11.DONE and self.http.their_state is h11.DONE)

    async def _respond_while_there(self, request: Request) -> Response:
        async with trio.open_nursery() as nursery:
            if isinstance(self.stream, trio.SocketStream):
                nursery.start_soon(_hung_up, self.stream.socket, request.patience)
            response = await self._respond(request)
            nursery.cancel_scope.cancel()
        return response

    async def _respond(self, request: Request) -> Response:
        try:
            return await self.answer(request)
        except ControlError as error:
            return problem(error)
        except Exception as error:  # noqa: BLE001 - a bug in one endpoint must not end PID 1
            log.error(f"control: {request.method} {request.path} failed: {describe(error)}")
            return problem(ControlError(f"cannot answer: {describe(error)}", status=500, kind="internal"))

    # -- receiving

    async def _receive(self) -> Request | None:
        """The next request, or None if there is none. Raises ControlError if it is too slow, too large or garbage."""
        try:
            first: h11.Event | type[h11.NEED_DATA] | None = None
            with trio.move_on_after(self.limits.idle):
                first = await self._first_event()
            if first is None:
                return None
            with trio.move_on_after(self.limits.receive):
                return await self._whole(first)
            raise ControlError("cannot read the request: it takes too long", status=408, kind="timeout")
        except h11.RemoteProtocolError as error:
            kind = "headers-too-large" if error.error_status_hint == 431 else "bad-request"
            message = f"cannot read the request: {error}"
            raise ControlError(message, status=error.error_status_hint, kind=kind) from None

    async def _first_event(self) -> h11.Event | type[h11.NEED_DATA] | None:
        """The head of the next request, or NEED_DATA when its first bytes are here; None at the end of the stream."""
        while True:
            event = self.http.next_event()
            if isinstance(event, h11.ConnectionClosed):
                return None
            if event is not h11.NEED_DATA or self.http.trailing_data[0]:
                return event  # type: ignore[return-value]
            self.http.receive_data(bytes(await self.stream.receive_some(self.limits.head)))

    async def _whole(self, event: h11.Event | type[h11.NEED_DATA]) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            if event is h11.NEED_DATA:
                if self.http.they_are_waiting_for_100_continue:
                    await self._transmit(h11.InformationalResponse(status_code=100, headers=[]))
                self.http.receive_data(bytes(await self.stream.receive_some(self.limits.head)))
            elif isinstance(event, h11.Request):
                head = event
                self._check_length(head)
            elif isinstance(event, h11.Data):
                body += event.data
                self._check_size(len(body))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            else:
                return None
            event = self.http.next_event()  # type: ignore[assignment]

    def _check_length(self, head: h11.Request) -> None:
        for name, value in head.headers:
            if name == b"content-length":
                self._check_size(int(value))

    def _check_size(self, size: int) -> None:
        if size > self.limits.body:
            raise ControlError(
                f"cannot read the request: its body is larger than {self.limits.body} bytes",
                status=413,
                kind="too-large",
            )

    # -- sending

    async def _hand_over(self, response: Response, takeover: Takeover, offered: str) -> bool:
        """Leave HTTP, if the client has ``offered`` that; what goes on over the connection is none of our business."""
        protocol = response.headers["upgrade"]
        words = {word.strip().lower() for word in offered.split(",")}
        if self.http.their_state is not MIGHT_SWITCH_PROTOCOL or protocol not in words:
            error = ControlError(
                "cannot answer this over plain HTTP",
                hint=f"send the headers Connection: Upgrade and Upgrade: {protocol}",
                status=426,
                kind="upgrade-required",
            )
            await self._send(problem(error, upgrade=protocol), bodiless=False)
            return bool(self.http.our_state is h11.DONE and self.http.their_state is h11.DONE)
        headers = [("connection", "upgrade"), *response.headers.items()]
        await self._transmit(h11.InformationalResponse(status_code=101, headers=headers, reason=_REASONS[101]))
        await takeover(self.stream)
        return False

    async def _send(self, response: Response, bodiless: bool) -> None:
        body = response.body
        reason = _REASONS.get(response.status, "")
        headers = [("content-type", response.media), ("server", f"ocelot/{__version__}")]
        headers += response.headers.items()
        if isinstance(body, bytes):
            headers.append(("content-length", str(len(body))))
            await self._transmit(
                h11.Response(status_code=response.status, headers=headers, reason=reason),
                *(() if bodiless or not body else (h11.Data(data=body),)),
                h11.EndOfMessage(),
            )
            return
        await self._transmit(h11.Response(status_code=response.status, headers=headers, reason=reason))
        if not bodiless:
            await self._stream(body)
        await self._transmit(h11.EndOfMessage())

    async def _stream(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Send ``pieces`` as they come, until they end or the client does: one that only listens has nothing to say."""
        unread = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                with suppress(trio.BrokenResourceError):
                    while await self.stream.receive_some(4096):
                        pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            async with aclosing(pieces):
                async for piece in pieces:
                    try:
                        await self._transmit(h11.Data(data=piece))
                    except (trio.BrokenResourceError, trio.TooSlowError):
                        unread = True
                        break
            nursery.cancel_scope.cancel()
        if unread:
            raise trio.BrokenResourceError

    async def _transmit(self, *events: h11.Event) -> None:
        data = b"".join(self.http.send(event) or b"" for event in events)
        with trio.fail_after(self.limits.send):
            await self.stream.send_all(data)

    async def _linger(self) -> None:
        """Let the client read the last answer: closing while its bytes are unread would reset the connection."""
        with trio.move_on_after(1.0):
            await self.stream.send_eof()
            left = 4 * self.limits.body
            while left > 0 and (data := await self.stream.receive_some(65536)):
                left -= len(data)


async def _hung_up(sock: trio.socket.SocketType, patience: trio.CancelScope) -> None:
    """Cancel ``patience`` when the peer has closed its end. One that says something more, or that it has no more to say, reads on."""
    await trio.lowlevel.wait_readable(sock)
    found = poll()
    found.register(sock, 0)
    if found.poll(0):
        patience.cancel()


def _request(head: h11.Request, body: bytes) -> Request:
    path, _, query = head.target.decode("latin-1").partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("latin-1"), path, query, headers, body)
