"""What a terminal writes, as lines: without the carriage returns that it puts before each newline (termios(3), ONLCR)."""

import re

_ENDS = re.compile(rb"(?<!\r)\r+\n")
_MOST = 64


class Newlines:
    """Takes the carriage returns before newlines away, block by block; one within a line stays."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # carriage returns that a newline may follow

    def clean(self, block: bytes) -> bytes:
        """``block`` as lines; carriage returns at its end are kept back until it is known what follows them."""
        data = self._held + block if self._held else block
        self._held = b""
        if data.endswith(b"\r"):
            kept = data.rstrip(b"\r")
            if len(data) - len(kept) <= _MOST:
                data, self._held = kept, data[len(kept) :]
        return _ENDS.sub(b"\n", data) if b"\r\n" in data else data


def for_terminal(data: bytes) -> bytes:
    """The reverse of :class:`Newlines`, for a terminal in raw mode."""
    return data.replace(b"\n", b"\r\n")
