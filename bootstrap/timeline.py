"""The boot timeline: what was done when, how long it took, and how it ended.

A span belongs to the dotted path of what encloses it: ``preSwitch`` (phase ``""``), ``modules`` (phase ``preSwitch``),
``module virtio_blk`` (phase ``preSwitch.modules``). The records are those of the wire, so answering a client copies
nothing. Drawing is in ``ocelot.wire.drawing``, which the boot itself never imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from ocelot.errors import describe
from ocelot.wire.protocol import BootTimeline, Span


class Timeline:
    """Spans in the order in which they began, in seconds since PID 1's first instruction.

    ``age`` is how long (seconds) PID 1 had lived when this was made, ``before`` how long the kernel had run before
    PID 1, if that is known. ``wire``: a timeline that was begun in another image. ``clock`` returns monotonic seconds.
    """

    def __init__(
        self,
        *,
        age: float = 0.0,
        before: float | None = None,
        wire: BootTimeline | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._clock = clock
        self._origin = clock() - age
        self._wire = wire or BootTimeline(spans=[], before=before)

    @property
    def wire(self) -> BootTimeline:
        """The timeline as clients see it; it grows until :meth:`finish`."""
        return self._wire

    def now(self) -> float:
        """Seconds since PID 1's first instruction."""
        return self._clock() - self._origin

    def add(self, name: str, *, phase: str = "", start: float, end: float) -> None:
        """Enter something that was measured elsewhere: what happened before there was a timeline."""
        self._wire.spans.append(Span(name=name, phase=phase, start=start, end=end, outcome="ok"))

    def begin(self, name: str, *, phase: str = "") -> Span:
        """Begin a span that ``end`` will close."""
        span = Span(name=name, phase=phase, start=self.now())
        self._wire.spans.append(span)
        return span

    def end(self, span: Span) -> None:
        """Close a span; one whose outcome nobody has set went well."""
        span.end = self.now()
        if span.outcome == "running":
            span.outcome = "ok"

    @contextmanager
    def span(self, name: str, *, phase: str = "") -> Iterator[Span]:
        """A span around a block. An exception that leaves the block makes it ``failed``, with the cause as detail."""
        span = self.begin(name, phase=phase)
        try:
            yield span
        except BaseException as error:
            span.outcome = "failed"
            span.detail = span.detail or describe(error)
            raise
        finally:
            self.end(span)

    def finish(self) -> None:
        """The boot is over: the hand-off has happened."""
        self._wire.finished = True
