"""What is made of lines on their way to a sink: JSON records, or a name in front of each on a terminal.

Both stand before another sink and speak the same protocol. What they have accepted only in part (a record of which the disk
took half) they keep, and finish first when there is space again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from msgspec.json import Encoder

from ocelot.linux.descriptors import Writer
from supervisor.output.ring import real_time
from supervisor.output.sinks import BLOCK, Sink, pieces

LONGEST = 16 * 1024
"""Bytes of text a record; longer lines become several, all but the last marked as partial."""


class JsonLines:
    """One JSON object a line: ``time`` (RFC 3339), ``name``, ``stream``, ``message``, and ``partial`` if its end is missing.

    Always valid UTF-8: bytes that are not are replaced. ``pending``: the rest of a record that was written in part.
    """

    whole_lines = True
    framed = True
    portion = (
        BLOCK // 2
    )  # what is made of it stays below what malloc maps anew each time (mallopt(3)), which costs twice as much

    def __init__(self, sink: Sink, name: str, stream: str, *, now: Callable[[], float] = real_time) -> None:
        self.sink = sink
        self._now = now
        self._encoder = Encoder()
        who = self._encoder.encode({"name": name.encode("utf-8", "replace").decode(), "stream": stream})
        self._who = who[1:-1] + b',"message":'
        self.pending = b""
        self._second = (-1, "")

    @property
    def inner(self) -> Sink:
        return self.sink.inner

    @property
    def backlog(self) -> int:
        return len(self.pending) + self.sink.backlog

    def offer(self, data: bytes) -> int:
        try:
            if self.pending and not self._flush():
                return 0
            out = self._records(data)
            taken = self.sink.offer(out)
        except OSError:
            self.pending = b"\n" if self.pending else b""  # at least the next record begins on a line of its own
            raise
        if taken == len(out):
            return len(data)
        whole = out.count(b"\n", 0, taken)
        if taken and out[taken - 1] != 0x0A:
            self.pending = out[taken : out.find(b"\n", taken) + 1]
            whole += 1
        return sum(length for _, length, _ in list(pieces(data, LONGEST))[:whole])

    def open(self) -> None:
        self.sink.open()

    async def ready(self, stall: float | None) -> bool:
        while await self.sink.ready(stall):
            with suppress(OSError):  # the next offer meets it again, and it is dealt with there
                if self._flush():
                    return True
                continue
            return True
        return False

    def close(self) -> None:
        with suppress(OSError):
            self._flush()
        self.pending = b"\n" if self.pending else b""
        self.sink.close()

    def _flush(self) -> bool:
        if self.pending:
            self.pending = self.pending[self.sink.offer(self.pending) :]
        return not self.pending

    def _records(self, data: bytes) -> bytes:
        head = b'{"time":"%b",%b' % (self._time().encode(), self._who)
        if data.endswith(b"\n") and not has_long_line(data):
            # The usual: all at once. An encoded string has no line break inside, so those between them are all there are.
            texts = self._encoder.encode_lines(data[:-1].decode("utf-8", "replace").split("\n"))
            return b"".join((head, texts[:-1].replace(b"\n", b"}\n" + head), b"}\n"))
        found: list[bytes] = []
        for piece, _, partial in pieces(data, LONGEST):
            found += (head, self._encoder.encode(piece.decode("utf-8", "replace")))
            found.append(b',"partial":true}\n' if partial else b"}\n")
        return b"".join(found)

    def _time(self) -> str:
        """RFC 3339, UTC, with microseconds."""
        micros = round(self._now() * 1e6)
        second = micros // 1_000_000
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)))
        return f"{self._second[1]}{micros % 1_000_000:06d}Z"


def has_long_line(data: bytes, limit: int = LONGEST) -> bool:
    """Whether a line of ``data`` has more than ``limit`` bytes; looks at a few places only."""
    start = 0
    while len(data) - start > limit:
        start = data.rfind(b"\n", start, start + limit + 1) + 1
        if start == 0:
            return True
    return False


# -- names on a terminal

COLOURS = ("\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[93m", "\x1b[92m", "\x1b[95m")
"""None of them is red: that marks standard error."""


class Labels:
    """The names of a set of processes, as wide as the longest of them, each with a colour."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour
        self.width = 0
        self._names: dict[str, int] = {}

    def add(self, name: str) -> None:
        self.width = min(max(self.width, len(name)), 24)
        self._names.setdefault(name, len(self._names))

    def label(self, name: str, stream: str) -> bytes:
        text = name.ljust(self.width)
        if self.colour:
            bar = "\x1b[31m|" if stream == "stderr" else "|"
            text = f"{COLOURS[self._names[name] % len(COLOURS)]}{text} {bar}\x1b[0m "
        else:
            text = f"{text} | "
        return text.encode("utf-8", "replace")


class Labelled:
    """Lines for a terminal, with the name of the process before each."""

    whole_lines = True
    framed = False
    portion = BLOCK

    def __init__(self, writer: Writer, name: str, stream: str, labels: Labels) -> None:
        self.writer = writer
        self._name = name
        self._stream = stream
        self._labels = labels
        labels.add(name)

    @property
    def inner(self) -> Sink:
        return self

    @property
    def backlog(self) -> int:
        return self.writer.backlog

    def offer(self, data: bytes) -> int:
        if not data:
            return 0
        label = self._labels.label(self._name, self._stream)
        end = b"\n" if data.endswith(b"\n") else b""
        text = data[: len(data) - len(end)].replace(b"\n", b"\n" + label) + end
        if not self.writer.is_mid_line_of(self):
            text = label + text
        return len(data) if self.writer.offer(text, owner=self) else 0

    def open(self) -> None:
        """The writer is open."""

    async def ready(self, stall: float | None) -> bool:
        return await self.writer.ready(stall)

    def close(self) -> None:
        """The writer is not ours."""
