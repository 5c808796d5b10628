"""The quick, synchronous client of the control socket, for ``ocelotctl``. A program of your own wants ``ocelot.client``.

Every import here is paid for by each call of ``ocelotctl``, 25-fold in an emulated machine. So it speaks HTTP/1.1 by
itself, as far as its own server does, on ``_socket`` (``socket`` and ``http.client`` cost as much as the interpreter's start),
and reads JSON into plain objects with ``json`` (msgspec's records would cost 30 ms, json costs 7).
"""

from __future__ import annotations

import _socket
import errno
import os

from ocelot.errors import ControlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

DEFAULT_SOCKET = "/run/ocelot/control.sock"
OF_A_USER = "ocelot/control.sock"
"""The default of other users than root, below their XDG_RUNTIME_DIR: /run is not theirs."""

TIMEOUT = 30.0
"""Seconds that the server may take for each piece of an answer."""

_CHUNK = 65536


def default_socket() -> str:
    """Where an ocelot is asked when nobody says which: OCELOT_SOCKET, else the user's own if it runs, else that of the machine."""
    named = os.environ.get("OCELOT_SOCKET")
    own = None if named else socket_of_user()
    return named or (own if own and os.path.exists(own) else DEFAULT_SOCKET)


def socket_of_user() -> str | None:
    """The socket of an ocelot that another user than root runs for himself; None without a runtime folder of his own."""
    folder, user = os.environ.get("XDG_RUNTIME_DIR"), os.geteuid()
    if user == 0 or not folder or not folder.startswith("/"):
        return None
    try:
        return f"{folder}/{OF_A_USER}" if os.stat(folder).st_uid == user else None  # su and sudo leave somebody else's
    except OSError:
        return None


class Cut(ControlError):
    """A connection that was there has ended before the answer did. Whoever asks again may get one."""


class Reply:
    """The head of an answer, and its body to come."""

    def __init__(self, status: int, headers: dict[str, str], body: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def read(self) -> bytes:
        return b"".join(self.body)

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as it arrives, without the newlines."""
        rest = b""
        for piece in self.body:
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest


class Client:
    """One connection to the control socket at ``path``, made for one request. Use it with ``with``, or :func:`call`.

    ``path`` may also be ``vsock:CID:PORT``, from the host of a virtual machine.
    """

    def __init__(self, path: str, timeout: float | None = TIMEOUT) -> None:
        """Connect. Raises ControlError with status 0: kind ``unreachable`` or ``permission-denied``."""
        self._path = path
        family, address = _address(path)
        self._socket = _socket.socket(family, _socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise _unreachable(path, error) from None
        self._buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def request(
        self, method: str, target: str, body: bytes = b"", accept: str = "application/json", *, upgrade: str = ""
    ) -> Reply:
        """Send one request and read the head of its answer. Raises ControlError.

        ``upgrade``: ask to leave HTTP for that protocol; after status 101 go on with :attr:`socket` and :meth:`line`.
        """
        connection = f"Upgrade\r\nUpgrade: {upgrade}" if upgrade else "close"
        head = f"{method} {target} HTTP/1.1\r\nHost: ocelot\r\nAccept: {accept}\r\nConnection: {connection}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        try:
            self._socket.sendall(f"{head}\r\n".encode("latin-1") + body)
        except TimeoutError:
            raise self._late() from None
        except OSError:
            pass  # it may have answered before it closed: that says more than EPIPE
        status_line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        parts = status_line.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise self._garbage()
        return Reply(int(parts[1]), headers, self._body(headers))

    @property
    def socket(self) -> _socket.socket:
        """The connection itself, for a protocol other than HTTP."""
        return self._socket

    @property
    def pending(self) -> bool:
        """Whether :meth:`line` would return without waiting, whatever poll(2) says of the socket."""
        return b"\n" in self._buffer

    def line(self) -> bytes:
        """The next line after an upgrade, without its newline. Raises ControlError when the connection ends before it."""
        return self._until(b"\n")

    def some(self) -> bytes:
        """What has come after an upgrade, or the next that comes. Raises ControlError at the end, BlockingIOError if nothing is here."""
        piece = self._buffer or self._receive()
        self._buffer = b""
        if not piece:
            raise self._cut()
        return piece

    def _body(self, headers: dict[str, str]) -> Iterator[bytes]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := self._chunk_size():
                yield from self._exactly(size)
                self._until(b"\r\n")
            return
        length = headers.get("content-length")
        if length is not None:
            yield from self._exactly(int(length))
            return
        while True:
            piece = self._buffer or self._receive()
            self._buffer = b""
            if not piece:
                return
            yield piece

    def _chunk_size(self) -> int:
        try:
            return int(self._until(b"\r\n").partition(b";")[0], 16)
        except ValueError:
            raise self._garbage() from None

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self._buffer or self._receive()
            if not piece:
                raise self._cut()
            self._buffer = piece[size:]
            size -= len(piece[:size])
            yield piece[: len(piece) - len(self._buffer)]

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            piece = self._receive()
            if not piece:
                raise self._cut()
            self._buffer += piece
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_CHUNK)
        except TimeoutError:
            raise self._late() from None
        except ConnectionResetError:
            return b""

    def _late(self) -> ControlError:
        return ControlError(
            f'cannot get an answer from "{self._path}": it takes too long',
            hint="try again, or look at the console of the machine",
            kind="timeout",
        )

    def _cut(self) -> Cut:
        return Cut(
            f'cannot read the answer from "{self._path}": the connection ended',
            hint="only the host of that machine gets an answer over vsock"
            if self._path.startswith("vsock:")
            else "ocelot may be on its way down; ocelotctl health tells whether it still answers",
            kind="unreachable",
        )

    def _garbage(self) -> ControlError:
        return ControlError(f'cannot read the answer from "{self._path}": it is not HTTP', kind="unreachable")


def _address(path: str) -> tuple[int, Any]:
    """The family of the socket, and what to connect to."""
    if not path.startswith("vsock:"):
        return _socket.AF_UNIX, path
    from ocelot.wire.vsock import parse

    return _socket.AF_VSOCK, parse(path)


def call(path: str, method: str, target: str, body: object = None, *, timeout: float | None = TIMEOUT) -> Any:
    """One request with a JSON body, and the JSON of its answer. Raises ControlError, with the server's own words.

    The answer to GET /v1/health is returned whatever its status is.
    """
    import json

    with Client(path, timeout) as client:
        reply = client.request(method, target, b"" if body is None else json.dumps(body).encode())
        text = reply.read()
        if reply.status >= 400 and "application/json" not in reply.headers.get("content-type", ""):
            raise problem(reply.status, {})
        answer = json.loads(text)
    if reply.status >= 400 and "kind" in answer:
        raise problem(reply.status, answer)
    return answer


def problem(status: int, body: dict[str, Any]) -> ControlError:
    """The error that a Problem document (or a bare status) tells of."""
    message = body.get("message") or f"cannot get an answer: HTTP status {status}"
    return ControlError(message, hint=body.get("hint", ""), status=status, kind=body.get("kind", "error"))


def quote(text: str) -> str:
    """Percent-encode ``text`` for a path segment or a query value (RFC 3986)."""
    return "".join(
        chr(byte) if byte < 128 and (chr(byte).isalnum() or byte in b"-._~") else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def _unreachable(path: str, error: OSError) -> ControlError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return ControlError(
            f'cannot open the control socket "{path}": permission denied',
            hint="run as root, or let your group in with control.mode, control.group and control.roles",
            kind="permission-denied",
        )
    reason = {
        errno.ENOENT: "there is no such socket",
        errno.ECONNREFUSED: "nobody answers there",
        errno.ECONNRESET: "nobody answers there",
        errno.ENODEV: "there is no vsock to such a machine",
    }.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    other = "is it running? Another socket is named with --socket PATH or OCELOT_SOCKET"
    return ControlError(
        f'cannot reach ocelot at "{path}": {reason}',
        hint="is it running, with control.vsock in its configuration?" if path.startswith("vsock:") else other,
        kind="unreachable",
    )
