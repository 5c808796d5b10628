"""Our terminal connected with that of a process (``stdin: pty``): keys go in as they are, and what it writes comes out as it is.

It goes on over a reexec. Without a terminal of our own, standard input is sent as it is, and its end ends the sending only.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from argparse import Namespace
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from select import POLLIN, POLLOUT, poll
from typing import Any

from ocelot.errors import ControlError
from ocelot.verbs.again import await_answer
from ocelot.verbs.detaching import Detaching, parse
from ocelot.verbs.outcome import told
from ocelot.verbs.screen import Screen
from ocelot.verbs.sessions import raw
from ocelot.wire.client import Client, Cut, quote
from ocelot.wire.newlines import Newlines

_BLOCK = 4096
_WAITING = 64 * 1024
"""Bytes on their way to ocelot, after which no more is read, or, from a keyboard, taken."""


class Remote:
    """One attachment. Make it, :meth:`connect`, :meth:`run`.

    ``keys``: standard input goes to the process. ``typing``: and it is a terminal.
    """

    def __init__(self, options: Namespace, *, keys: bool) -> None:
        self._options = options
        self._target = f"/v1/processes/{quote(options.name)}/terminal"
        self.keys = keys
        self.typing = keys and os.isatty(0)
        self._detaching = Detaching(parse(options.detach_keys) if self.typing else b"")
        self._screen = Screen()
        self._shows = os.isatty(1)
        self._newlines = Newlines()
        self._place: int | None = None
        self._pid: int | None = None
        self._out: list[bytes] = []  # messages that have to be sent yet, the first one perhaps in part
        self._sent = 0
        self._rest = b""
        self._resized = False

    def connect(self) -> None:
        """Raises ControlError: kind ``no-terminal`` if the process has none."""
        wanted = {"lines": max(self._options.lines, 0), "after": self._place, "pid": self._pid}
        self._client = Client(self._options.socket, None)
        self._rest, self._sent = b"", 0
        try:
            if self.keys:
                body = json.dumps({**wanted, **self._size()}).encode()
                reply = self._client.request("POST", self._target, body, upgrade="ocelot-terminal")
            else:
                query = "&".join(f"{key}={value}" for key, value in wanted.items() if value is not None)
                reply = self._client.request("GET", f"{self._target}?{query}")
            if reply.status not in (101, 200):
                raise told(reply.status, reply.read())
            self._lines = reply.lines()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._client.socket.close()

    def run(self, begun: Callable[[], None]) -> int | None:
        """Until the process has ended: its exit status. None: detached. Raises ControlError. ``begun`` is called when keys are read."""
        if not self.keys:
            begun()
            return self._again(self._look_on)
        with _woken() as wake, raw() if self.typing else nullcontext(), self._left_clean():
            begun()
            return self._again(lambda: self._go_between(wake))

    @contextmanager
    def _left_clean(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._shows and (back := self._screen.undo()):
                _write(back)

    def _again(self, session: Callable[[], int | None]) -> int | None:
        """``session`` until it is over, also over cuts."""
        while True:
            try:
                return session()
            except Cut as cut:
                self.close()
                await_answer(self._options.socket, cut)
            self.connect()
            self._resized = True

    def _look_on(self) -> int | None:
        for line in self._lines:
            if (status := self._heed(line)) is not None:
                return status
        raise Cut("cannot go on showing the terminal: the connection ended", kind="unreachable")

    def _go_between(self, wake: int) -> int | None:
        self._client.socket.setblocking(False)
        reading = True
        while True:
            for line in self._received():
                if (status := self._heed(line)) is not None:
                    return status
            if self._resized and (size := self._size()):
                self._send({"kind": "size", **size})
            self._resized = False
            found = poll()
            found.register(self._client.socket.fileno(), POLLIN | (POLLOUT if self._out else 0))
            found.register(wake, POLLIN)
            if reading and (self.typing or self._waiting < _WAITING):
                found.register(0, POLLIN)
            ready = dict(found.poll())
            if wake in ready:
                os.read(wake, _BLOCK)
                self._resized = True
            if 0 in ready:
                block = _read()
                if not block and self.typing:
                    return None  # our terminal is gone
                reading = bool(block)
                if self._type(block):
                    return None
            self._flush()

    # -- to the process

    def _type(self, block: bytes) -> bool:
        """Whether these were the last of the keys that detach."""
        block, detached = self._detaching.feed(block)
        if block and self.typing and self._waiting >= _WAITING:
            _write(b"\a")  # as a terminal does whose program reads nothing
        elif block:
            self._send({"kind": "input", "data": b2a_base64(block, newline=False).decode()})
        return detached

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._out))

    def _send(self, message: dict[str, Any]) -> None:
        self._out.append(json.dumps(message).encode() + b"\n")
        self._flush()

    def _flush(self) -> None:
        """A message that was sent in part when the connection was cut is sent again as a whole."""
        with suppress(
            BlockingIOError, BrokenPipeError, ConnectionResetError
        ):  # the last two are met again when reading
            while self._out:
                self._sent += self._client.socket.send(self._out[0][self._sent :])
                if self._sent == len(self._out[0]):
                    del self._out[0]
                    self._sent = 0

    def _size(self) -> dict[str, int]:
        for fd in (1, 0):
            with suppress(OSError):
                columns, rows = os.get_terminal_size(fd)
                if rows and columns:
                    return {"rows": rows, "columns": columns}
        return {}

    # -- from it

    def _received(self) -> list[bytes]:
        """Whole lines that are here. Raises Cut."""
        try:
            self._rest += self._client.some()
        except BlockingIOError:
            return []
        *lines, self._rest = self._rest.split(b"\n")
        return lines

    def _heed(self, line: bytes) -> int | None:
        """The exit status, if this is the last message."""
        if not line:
            return None
        message = json.loads(line)
        if message["kind"] == "ended":
            return int(message["status"])
        self._place = message["at"]
        if message["kind"] == "attached":
            self._pid = message["pid"]
        elif message["kind"] == "output":
            self._show(a2b_base64(message["data"]))
        return None

    def _show(self, block: bytes) -> None:
        if self._shows:
            self._screen.note(block)
            _write(block)
        else:
            _write(self._newlines.clean(block))


@contextmanager
def _woken() -> Iterator[int]:
    """What can be read from when our terminal has another size."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGWINCH, lambda *_: None), signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before[1])
        signal.signal(signal.SIGWINCH, before[0])
        os.close(reader)
        os.close(writer)


def _read() -> bytes:
    try:
        return os.read(0, _BLOCK)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(1, rest) :]
        except BlockingIOError:  # somebody who shares our terminal has made it so
            waiting = poll()
            waiting.register(1, POLLOUT)
            waiting.poll()


def attach(options: Namespace) -> Remote | ControlError:
    """Connected, perhaps only to look on; or why that cannot be: the process has no terminal, or ocelot knows of none."""
    try:
        remote = Remote(options, keys=not options.no_stdin)
        remote.connect()
        return remote
    except ControlError as error:
        if error.kind in ("no-terminal", "not-found"):
            return error
        if error.kind != "permission-denied" or options.no_stdin:
            raise
        denied = error
    remote = Remote(options, keys=False)
    try:
        remote.connect()
    except ControlError as error:
        if error.kind in ("no-terminal", "not-found"):
            return error
        raise
    sys.stderr.write(f"[{denied}; this only shows what it writes]\n")
    return remote
