"""One request to ocelot on one connection of anyio: HTTP/1.1 by h11, over a unix socket or vsock. For ``ocelot.client``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Self

import anyio
import anyio.abc
import h11
import msgspec

from ocelot.errors import ControlError, describe
from ocelot.wire import protocol
from ocelot.wire.client import quote
from ocelot.wire.vsock import PREFIX, parse


async def connect(path: str) -> anyio.abc.ByteStream:
    """A connection to the socket ``path``, or to ``vsock:CID:PORT``. Raises ControlError."""
    if not path.startswith(PREFIX):
        return await connect_unix(path)
    import socket

    from ocelot.client.vsock_stream import connect as connect_vsock

    with _unreachable(path):
        return await connect_vsock(socket.AF_VSOCK, parse(path))


async def connect_unix(path: str) -> anyio.abc.UNIXSocketStream:
    with _unreachable(path):
        return await anyio.connect_unix(path)


@contextmanager
def _unreachable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ControlError(f'cannot reach ocelot at "{path}": {describe(error)}', kind="unreachable") from None


@contextmanager
def within(seconds: float, path: str) -> Iterator[None]:
    """Raise ControlError if the block, which asks the ocelot at ``path``, takes longer."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise ControlError(f'cannot get an answer from "{path}": it takes too long', kind="timeout") from None


class Exchange:
    """One request on one connection, which is closed with it."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def ask(
        self, method: str, target: str, body: bytes, accept: str, *, upgrade: str = ""
    ) -> h11.Response | h11.InformationalResponse:
        """Send the request and read the head of the answer. Raises ControlError. ``upgrade``: leave HTTP for that."""
        headers = [("Host", "ocelot"), ("Accept", accept), ("Connection", "Upgrade" if upgrade else "close")]
        headers += [("Upgrade", upgrade)] if upgrade else []
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body else []
        data = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it may have answered before it closed
            await self._stream.send(data)
        event = await self._event()
        if not isinstance(event, h11.Response | h11.InformationalResponse):
            raise ControlError("cannot read the answer: the connection ended", kind="unreachable")
        return event

    async def send(self, data: bytes) -> None:
        """After an upgrade. Raises ControlError."""
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ControlError("cannot send it: the connection ended", kind="unreachable") from None

    async def rest(self) -> AsyncGenerator[bytes, None]:
        """The lines that come after an upgrade."""
        rest = bytes(self._http.trailing_data[0])
        while True:
            *whole, rest = rest.split(b"\n")
            for line in whole:
                yield line
            try:
                rest += await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The pieces of the body as they come. Raises ControlError if the connection ends before the body does."""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise ControlError("cannot read the answer: the connection ended", kind="unreachable")
            yield bytes(event.data)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The body line by line. Raises ControlError if the connection ends before the body does."""
        rest = b""
        async with aclosing(self.body()) as body:
            async for piece in body:
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                try:
                    data = await self._stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    data = b""
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise ControlError(f"cannot read the answer: {error}", kind="unreachable") from None
        return event


async def lines_of(exchange: Exchange, kind: Any) -> AsyncGenerator[Any, None]:
    async with aclosing(exchange.lines()) as lines:
        async for line in lines:
            yield msgspec.json.decode(line, type=kind)


def problem(status: int, body: bytes) -> ControlError:
    try:
        told = msgspec.json.decode(body, type=protocol.Problem)
    except msgspec.DecodeError:
        return ControlError(f"cannot get an answer: HTTP status {status}", status=status)
    return ControlError(told.message, hint=told.hint, status=status, kind=told.kind)


def query(names: Sequence[str], **parameters: object) -> str:
    given: Mapping[str, object] = {key: value for key, value in parameters.items() if value is not None}
    pairs = [("name", name) for name in names] + [(key, str(value)) for key, value in given.items()]
    return "?" + "&".join(f"{key}={quote(value)}" for key, value in pairs) if pairs else ""
