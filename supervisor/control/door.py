"""Who comes in at a listening socket: how many at once, and nobody for a while when an image of ocelot makes way for another.

What an answer is made of is imported when the first client comes.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.errors import describe

if TYPE_CHECKING:
    from supervisor.control.connection import Answer, Request, Response

CONNECTIONS = 64
"""At once, on one listener. Root is let in beyond that, so that a crowd of clients cannot lock the operator out."""

CONNECTIONS_PER_USER = 16

_ROOM = 0.1
"""Seconds until there may be descriptors again."""

NOBODY = -1
"""In place of a user, where there are none."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"kind":"too-many-connections","message":"cannot answer: too many connections are open","hint":"try again later"}\n'
)

DRAIN = 5.0
"""Seconds for who is inside when a listening socket is given up."""

Welcome = Callable[[trio.SocketStream], "tuple[int, Answer]"]


class Gate:
    """Counts the open connections of each user, and says who may still come in.

    ``descriptors``: how many ocelot may have open; None: as the kernel says. Clients never get more than half of them, root
    neither: the other half is for starting what has died.
    """

    def __init__(
        self,
        total: int = CONNECTIONS,
        per_user: int = CONNECTIONS_PER_USER,
        descriptors: int | None = None,
    ) -> None:
        if descriptors is None:
            descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = descriptors // 2 if descriptors > 0 else CONNECTIONS * 1024
        self._total = min(total, self._most)
        self._per_user = per_user
        self._open: dict[int, int] = {}

    @contextmanager
    def enter(self, uid: int) -> Iterator[bool]:
        """Hold a place while the block runs; false if there is none. Root nearly always finds one."""
        mine, all_ = self._open.get(uid, 0), sum(self._open.values())
        limit = self._total if uid == NOBODY else self._per_user
        if all_ >= self._most or (uid != 0 and (mine >= limit or all_ >= self._total)):
            yield False
            return
        self._open[uid] = mine + 1
        try:
            yield True
        finally:
            self._open[uid] -= 1
            if not self._open[uid]:
                del self._open[uid]


class Door:
    """A listening socket that can be closed to new clients for a while: they wait in its queue, and none is refused.

    ``inside``: how many connections are being answered, less those that are told something without end (logs, terminals).
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.sock = sock
        self.descriptor = -1  # of what listens, once it does
        self.file: tuple[int, int] | None = None  # device and inode of its name, if it has one
        self.inside = 0
        self._open = trio.Event()
        self._open.set()
        self._retired = False
        self._accepting = trio.CancelScope()

    @property
    def listens(self) -> bool:
        """Whether there is a socket behind it now."""
        if self.descriptor < 0:
            return False
        try:
            with socket.socket(fileno=os.dup(self.descriptor)) as sock:
                return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
        except OSError:
            return False  # whoever served it has closed it on its way out

    def close(self) -> None:
        """Take in nobody from now on; those who are inside stay."""
        self._open = trio.Event()
        self._accepting.cancel()

    def open(self) -> None:
        self._open.set()

    def retire(self) -> None:
        """Take in nobody any more, close the socket, and end when those who are inside have gone, or :data:`DRAIN` is over."""
        self._retired = True
        self.descriptor = -1
        self._open.set()
        self._accepting.cancel()

    async def serve(self, listener: trio.SocketListener, meet: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        """Call ``meet`` in a task for each client, until retired or cancelled. (``trio.serve_listeners`` closes what it leaves.)"""

        async def answer(stream: trio.SocketStream) -> None:
            try:
                await meet(stream)
            except Exception as error:  # noqa: BLE001 (no memory even to say so: that is no reason to close the door to all)
                log.debug(f"control: a client was left: {describe(error)}")
            finally:
                await trio.aclose_forcefully(stream)

        async with trio.open_nursery() as nursery:
            while not self._retired:
                with trio.CancelScope() as self._accepting:
                    nursery.start_soon(answer, await _next_client(listener))
                await self._open.wait()
            listener.socket.close()
            nursery.cancel_scope.deadline = trio.current_time() + DRAIN

    @contextmanager
    def attend(self, answer: Answer) -> Iterator[Answer]:
        """While the block runs a client is inside. ``answer`` is its own, which tells whether there is an end to it."""
        left = False

        def leave() -> None:
            nonlocal left
            self.inside -= not left
            left = True

        async def watched(request: Request) -> Response:
            response = await answer(request)
            if not isinstance(response.body, bytes) or response.takeover is not None:
                leave()
            return response

        self.inside += 1
        try:
            yield watched
        finally:
            leave()


async def receive(door: Door, sock: socket.socket, welcome: Welcome) -> None:
    """Answer whoever connects to ``sock`` until cancelled. ``welcome`` tells of a client its user and what answers it."""
    sock.setblocking(False)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))  # takes the descriptor out of ``sock``
    door.descriptor = listener.socket.fileno()
    gate = Gate()

    async def meet(stream: trio.SocketStream) -> None:
        try:
            from supervisor.control.connection import converse

            uid, answer = welcome(stream)
        except Exception as error:  # noqa: BLE001 (it left at once, or there is no descriptor to import anything)
            log.debug(f"control: a client could not be let in: {describe(error)}")
            await stream.aclose()
            return

        with gate.enter(uid) as admitted, door.attend(answer) as answer:
            if admitted:
                await converse(stream, answer)
            else:
                with suppress(trio.BrokenResourceError), trio.move_on_after(1.0):
                    await stream.send_all(_FULL)
                await stream.aclose()

    await door.serve(listener, meet)


async def _next_client(listener: trio.SocketListener) -> trio.SocketStream:
    while True:
        try:
            return await listener.accept()
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                raise  # nobody can come in there any more
            log.debug(f"control: cannot let a client in: {describe(error)}")
            await trio.sleep(_ROOM)
