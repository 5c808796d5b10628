"""The terminal of a process as ``ocelot.client`` shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Self

import msgspec

from ocelot.client.exchange import Exchange
from ocelot.errors import ControlError
from ocelot.wire.protocol import (
    SessionEnded,
    TerminalAttached,
    TerminalInput,
    TerminalSize,
    TerminalWritten,
)

PIECE = 32 * 1024
"""Bytes that are typed in one message."""

Told = TerminalAttached | TerminalWritten | SessionEnded


class Attached:
    """Iterate over it for what the process writes, byte by byte, until it ends: then ``ended`` says how.

    ``at`` is the place in the output that was met so far: to go on from there after a cut, give it to ``Client.attach`` with ``pid``.
    """

    def __init__(self, exchange: Exchange, lines: AsyncGenerator[bytes, None], first: TerminalAttached) -> None:
        self.pid = first.pid
        self.at = first.at
        self.ended: SessionEnded | None = None
        self._exchange = exchange
        self._lines = lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Raises ControlError when the connection is cut (kind ``unreachable``), as by a reexec."""
        async for line in self._lines:
            if not line:
                continue
            told = msgspec.json.decode(line, type=Told)
            if isinstance(told, SessionEnded):
                self.ended = told
                raise StopAsyncIteration
            if isinstance(told, TerminalWritten):
                self.at = told.at
                return told.data
        if self.ended is None:
            raise ControlError("cannot go on showing the terminal: the connection ended", kind="unreachable")
        raise StopAsyncIteration

    async def type(self, data: bytes) -> None:
        """Send ``data`` as a keyboard would: b"\\r" is the Enter key, b"\\x03" Ctrl-C."""
        for start in range(0, len(data), PIECE):
            await self._send(TerminalInput(data=data[start : start + PIECE]))

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal that shows it has another size now."""
        await self._send(TerminalSize(rows=rows, columns=columns))

    async def _send(self, message: TerminalInput | TerminalSize) -> None:
        await self._exchange.send(msgspec.json.encode(message) + b"\n")


async def first_of(lines: AsyncGenerator[bytes, None]) -> TerminalAttached:
    """The message that everything begins with. Raises ControlError."""
    async for line in lines:
        told = msgspec.json.decode(line, type=Told)
        assert isinstance(told, TerminalAttached), told
        return told
    raise ControlError("cannot attach: the connection ended", kind="unreachable")
