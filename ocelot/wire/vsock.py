"""Addresses of the control socket's server on vsock(7), as ``--socket`` and the client library take them: ``vsock:CID:PORT``."""

from __future__ import annotations

from ocelot.errors import ControlError

PREFIX = "vsock:"
PORT = 9465
"""Where ``control.vsock`` listens unless it says another."""

_MOST = 0xFFFF_FFFF


def parse(text: str) -> tuple[int, int]:
    """CID and port of ``vsock:CID:PORT`` or ``vsock:CID``. Raises ControlError."""
    cid, colon, port = text.removeprefix(PREFIX).partition(":")
    words = (cid, port if colon else str(PORT))
    if all(word.isascii() and word.isdigit() and int(word[:11]) < _MOST for word in words):
        return int(words[0]), int(words[1])
    raise ControlError(
        f'cannot reach ocelot at "{text}": it is not vsock:CID:PORT',
        hint=f"write the CID that the machine was given, for example vsock:3:{PORT}",
        kind="unreachable",
    )
