"""The memory file through which a running ocelot hands its state to the image that replaces it.

It is sealed (memfd_create(2)): what was checked is what is read later. Before the state stand, readable without anything
but the standard library, its version and the command line of the image that wrote it, for a way back; before both a sum over
everything, since a single changed digit might be understood and be wrong.
"""

from __future__ import annotations

import fcntl
import os
from binascii import crc32
from dataclasses import dataclass

from ocelot.errors import OcelotError

_MAGIC = b"ocelot state "
_HINT = "this command is for ocelot itself; use ocelotctl reexec"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class State:
    """``back``: the command line that starts the writer's image again, without what tells it where the state is."""

    version: int
    back: tuple[str, ...]
    body: bytes


def write(state: State) -> int:
    """A descriptor of a new memory file with ``state`` in it. Raises OSError."""
    fd = os.memfd_create("ocelot-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        back = b"".join(os.fsencode(word) + b"\0" for word in state.back)
        rest = b"%d %d\n" % (state.version, len(back)) + back + state.body
        data = memoryview(_MAGIC + b"%d " % crc32(rest) + rest)
        while data:
            data = data[os.write(fd, data) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> State:
    """The state in the memory file ``fd``, which stays open. Raises OcelotError if there is none."""
    try:
        sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
        data = _read_all(fd) if sealed else b""
    except OSError as error:
        raise OcelotError(
            f"cannot read the state from descriptor {fd}: {os.strerror(error.errno or 0)}", hint=_HINT
        ) from error
    sum_, _, summed = data.removeprefix(_MAGIC).partition(b" ")
    head, _, rest = summed.partition(b"\n")
    words = head.split(b" ")
    if not data.startswith(_MAGIC) or len(words) != 2 or not all(word.isdigit() for word in (sum_, *words)):
        raise OcelotError(
            f"cannot read the state from descriptor {fd}: it was not written by ocelot",
            hint=_HINT,
        )
    if int(sum_) != crc32(summed):
        raise OcelotError(f"cannot read the state from descriptor {fd}: it is damaged", hint=_HINT)
    version, length = int(words[0]), int(words[1])
    back = rest[:length].split(b"\0")[:-1]
    return State(version, tuple(os.fsdecode(word) for word in back), rest[length:])


def _read_all(fd: int) -> bytes:
    size, pieces, position = os.fstat(fd).st_size, [], 0
    while position < size:
        piece = os.pread(fd, size - position, position)
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)
