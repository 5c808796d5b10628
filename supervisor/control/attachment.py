"""Attached to the terminal of a process: what it writes goes to a client as it comes, and what the client types goes in.

All of it goes through PID 1, since the output is for the log too, and so that it also works from the host of a virtual machine. Nobody
may hold PID 1 up: a client that falls too far behind is told that bytes were left out, one that reads nothing is given up, and
one that types what the process does not read has to wait, alone.

Imported when somebody is attached.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

import msgspec
import trio

from ocelot import log
from ocelot.errors import ControlError, describe
from ocelot.wire.newlines import for_terminal
from ocelot.wire.protocol import (
    ProcessStatus,
    SessionEnded,
    TerminalAttached,
    TerminalInput,
    TerminalRequest,
    TerminalSize,
    TerminalWritten,
)
from supervisor.control.actions import unknown
from supervisor.lifecycle import ALIVE

if TYPE_CHECKING:
    from supervisor.controlled import Supervised
    from supervisor.lifecycle import Change
    from supervisor.output.terminal import TerminalStream

PROTOCOL = "ocelot-terminal"
"""What the Upgrade header says."""

BEHIND = 256 * 1024
"""Bytes that a client may fall behind; more are left out, and it is told how many."""

SEND = 30.0
"""Seconds for a client to take a message."""

ASK = 5.0
"""Seconds between two looks whether a client is still there that waits for the process to read what it has typed."""

LINE = 128 * 1024
"""Bytes that a message from a client may have."""


def admit(supervisor: Supervised, name: str, request: TerminalRequest) -> TerminalStream:
    """The terminal of the process ``name``. Raises ControlError: there is no such process, it has none, it does not run."""
    if name not in supervisor.names:
        raise unknown(name, supervisor.names)
    terminal = supervisor.outputs[name].terminal
    if terminal is None:
        raise ControlError(
            f'cannot attach to the terminal of "{name}": it has none',
            hint="write stdin: pty; ocelotctl logs -f shows what it writes, exec runs a command beside it",
            status=409,
            kind="no-terminal",
        )
    state = supervisor.status(name).state
    if state not in ALIVE and request.pid is None:
        raise ControlError(
            f'cannot attach to "{name}": it is {state}',
            hint=f"start it with ocelotctl start {name}; ocelotctl logs {name} shows what it wrote",
            status=409,
            kind="not-running",
        )
    return terminal


async def attend(
    stream: trio.abc.HalfCloseableStream,
    supervisor: Supervised,
    name: str,
    terminal: TerminalStream,
    request: TerminalRequest,
) -> None:
    """One client on a connection that has left HTTP, until it hangs up or the process ends."""
    viewer = Viewer()
    async with trio.open_nursery() as nursery:

        async def tell() -> None:
            try:
                async with aclosing(watch(supervisor, name, terminal, request, viewer)) as messages:
                    async for message in messages:
                        with trio.fail_after(SEND):
                            await stream.send_all(message)
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                log.debug(f"control: a client of the terminal of {name} is given up: {describe(error)}")
            nursery.cancel_scope.cancel()

        nursery.start_soon(tell)
        try:
            await _heed(stream, terminal, viewer)
        except (trio.BrokenResourceError, msgspec.DecodeError) as error:
            log.debug(f"control: a client of the terminal of {name} is given up: {describe(error)}")
        nursery.cancel_scope.cancel()


class Viewer:
    """What a client of a terminal has yet to be sent."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0
        self._missed = 0
        self._over = False
        self._news = trio.Event()

    def show(self, block: bytes) -> None:
        """Keep ``block`` for the client, or count it. After the end it is of another start, which nobody is attached to."""
        if self._over:
            return
        if self._missed or self._size + len(block) > BEHIND:
            self._missed += len(block)
        else:
            self._blocks.append(block)
            self._size += len(block)
        self._news.set()

    def end(self) -> None:
        """There is nothing to come any more."""
        self._over = True
        self._news.set()

    def nudge(self) -> None:
        """Have something sent, to learn whether the client is there."""
        self._news.set()

    async def next(self) -> bytes | None:
        """What has come since the last time, which may be nothing after a nudge; None: it is over."""
        if not (self._blocks or self._missed or self._over):
            await self._news.wait()
        self._news = trio.Event()
        if self._over and not self._blocks and not self._missed:
            return None
        data = b"".join(self._blocks)
        if self._missed:
            data += b"\r\n[ocelot: %d bytes were left out here]\r\n" % self._missed
        self._blocks.clear()
        self._size = self._missed = 0
        return data


async def watch(
    supervisor: Supervised,
    name: str,
    terminal: TerminalStream,
    request: TerminalRequest,
    viewer: Viewer | None = None,
) -> AsyncGenerator[bytes, None]:
    """What a client is sent, line by line, until the process ends. ``viewer``: to be used for it."""
    viewer = viewer or Viewer()
    with _looking(supervisor, name, terminal, viewer):
        status = supervisor.status(name)
        if status.state not in ALIVE or (request.pid is not None and request.pid != status.pid):
            viewer.end()
        ring = terminal.ring
        kept = ring.tail(request.lines) if request.after is None else ring.after(request.after)
        place = ring.end - len(kept)
        if request.rows is not None and request.columns is not None:
            terminal.resize((request.rows, request.columns), redraw=True)
        # Nothing was awaited up to here, so no byte is missed or told twice
        yield _encode(TerminalAttached(pid=status.pid, at=place))
        if kept:
            yield _encode(TerminalWritten(data=for_terminal(kept), at=place + len(kept)))
        while (data := await viewer.next()) is not None:
            yield _encode(TerminalWritten(data=data, at=ring.end)) if data else b"\n"
        yield _encode(_ended(supervisor.status(name) if name in supervisor.names else status))


@contextmanager
def _looking(supervisor: Supervised, name: str, terminal: TerminalStream, viewer: Viewer) -> Iterator[None]:
    def changed(change: Change) -> None:
        if change.name == name and change.after not in ALIVE:
            viewer.end()

    unsubscribe = supervisor.subscribe(changed)
    terminal.viewers.append(viewer.show)
    try:
        yield
    finally:
        terminal.viewers.remove(viewer.show)
        unsubscribe()


async def _heed(stream: trio.abc.HalfCloseableStream, terminal: TerminalStream, viewer: Viewer) -> None:
    """Until the client hangs up. Raises BrokenResourceError, DecodeError."""
    rest = b""
    while len(rest) < LINE and (block := bytes(await stream.receive_some(65536))):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if not line.strip():
                continue
            said = msgspec.json.decode(line, type=TerminalInput | TerminalSize)
            if isinstance(said, TerminalSize):
                terminal.resize((said.rows, said.columns))
            elif rest_of_it := terminal.type_now(said.data):
                await _type(terminal, rest_of_it, viewer)


async def _type(terminal: TerminalStream, data: bytes, viewer: Viewer) -> None:
    """Wait for the process to read. Nobody listens to the client meanwhile: so it is looked after from time to time."""
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            while True:
                await trio.sleep(ASK)
                viewer.nudge()

        nursery.start_soon(ask)
        await terminal.type(data)
        nursery.cancel_scope.cancel()


def _ended(status: ProcessStatus) -> SessionEnded:
    last = status.last_exit
    if last is None:
        return SessionEnded(status=0)
    return SessionEnded(status=last.status, code=last.code, signal=last.signal)


def _encode(message: TerminalAttached | TerminalWritten | SessionEnded) -> bytes:
    return msgspec.json.encode(message) + b"\n"
