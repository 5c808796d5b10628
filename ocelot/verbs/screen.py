"""What a program has turned on in the terminal that shows it, so that whoever leaves it gets the terminal back as it was.

An editor that one detaches from would leave its screen, its mouse and its keys behind.
"""

import re

_MODE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])|\x1b([=>])")
_UNFINISHED = re.compile(rb"\x1b(?:\[(?:\?[0-9;]*)?)?$")
_OFF = (1, 9, 47, 66, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004)
"""Private modes (DECSET) that a terminal begins without: keys, mouse, focus, another screen, marked pasting."""

CURSOR = 25
_WRAP = 7
_LONGEST = 64


class Screen:
    """Reads what a program writes."""

    def __init__(self) -> None:
        self._on: set[int] = set()
        self._off: set[int] = set()
        self._keypad = False
        self._rest = b""

    def note(self, block: bytes) -> None:
        data = self._rest + block
        for match in _MODE.finditer(data):
            if match[3]:
                self._keypad = match[3] == b"="
                continue
            for text in match[1].split(b";"):
                self._set(int(text or b"0"), on=match[2] == b"h")
        unfinished = _UNFINISHED.search(data, max(0, len(data) - _LONGEST))
        self._rest = unfinished[0] if unfinished else b""

    def undo(self) -> bytes:
        """What brings the terminal back."""
        back = b"".join(b"\x1b[?%dl" % mode for mode in sorted(self._on))
        back += b"".join(b"\x1b[?%dh" % mode for mode in sorted(self._off))
        return back + (b"\x1b>" if self._keypad else b"") + (b"\x1b[0m" if back else b"")

    def _set(self, mode: int, *, on: bool) -> None:
        if mode in _OFF:
            (self._on.add if on else self._on.discard)(mode)
        elif mode in (_WRAP, CURSOR):
            (self._off.discard if on else self._off.add)(mode)
