"""A connected socket of any family as a stream of anyio, which itself knows only TCP and unix sockets: for vsock(7)."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import ByteStream

_CHUNK = 65536


async def connect(family: int, address: Any) -> SocketStream:
    """A connection to ``address``. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        answer = sock.connect_ex(address)
        if answer == errno.EINPROGRESS:
            await anyio.wait_writable(sock)
            answer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if answer:
            raise OSError(answer, os.strerror(answer))
    except BaseException:
        sock.close()
        raise
    return SocketStream(sock)


class SocketStream(ByteStream):
    """``sock`` is non-blocking, and closed with the stream."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                data = self._sock.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        rest = memoryview(item)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._sock.close()
        await anyio.lowlevel.checkpoint()
