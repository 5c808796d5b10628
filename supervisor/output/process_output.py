"""What one supervised process writes: where it goes, what is kept of it, and who is reading along."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.destinations import sink_for
from supervisor.output.relay import Relay
from supervisor.output.ring import Line, Ring
from supervisor.output.sinks import Counters, FileSink
from supervisor.output.stream import Stream

if TYPE_CHECKING:
    from supervisor.output.terminal import TerminalStream
    from supervisor.snapshots import StreamSnapshot


FOLLOWER_LINES = 10_000
"""What a slow reader of :meth:`Output.follow` may fall behind before lines are left out for it."""


class OutputLine(NamedTuple):
    """``at``: seconds since the epoch."""

    at: float
    stream: str
    text: str


@dataclass
class ChildEnds:
    """The descriptors that become a child's standard output and error. Close them here once it is spawned.

    ``stdin``: its side of a terminal of its own, if that is what they are.
    """

    stdout: int
    stderr: int
    owned: list[int] = field(default_factory=list)
    stdin: int | None = None

    def chown(self, uid: int, gid: int) -> None:
        """Give the pipes to the child's user, so that it may open /dev/stdout. Raises OSError."""
        for fd in self.owned:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):  # /dev/null belongs to everybody
                os.fchown(fd, uid, gid)
            elif fd == self.stdin:
                os.fchown(fd, uid, -1)  # the group is that of all terminals

    def close(self) -> None:
        while self.owned:
            os.close(self.owned.pop())


class Output:
    """The two output streams of the process ``name``, over all its starts.

    For each start: :meth:`open`, spawn, close the ends; when its process group is dead: ``await`` :meth:`finish`.
    ``stdout`` and ``stderr`` are where ``inherit`` and ``direct`` lead. With a shared ``relay`` (many processes: run it
    once) :meth:`run` has nothing to do and returns at once; without one it moves this process's output, until cancelled.
    ``terminal``: where it has one of its own, see ``supervisor.output.terminal``.
    """

    terminal: TerminalStream | None = None

    def __init__(
        self, name: str, config: structs.Log, *, stdout: Writer, stderr: Writer, relay: Relay | None = None
    ) -> None:
        self.name = name
        self._relay = relay if relay is not None else Relay()
        self._own_relay = relay is None
        self._streams: dict[str, Stream] = {}
        self._direct: dict[str, int] = {}
        for kind, stream, writer in (("stdout", config.stdout, stdout), ("stderr", config.stderr, stderr)):
            counters = Counters()
            sink = sink_for(
                stream,
                name=name,
                stream=kind,
                inherit=writer,
                around=self._relay,
                counters=counters,
                label=not self._own_relay,  # one of a set, whose lines others' come between
            )
            if sink is not None:
                block = stream.on_full == "block"
                ring = Ring(stream.ring)
                self._streams[kind] = Stream(
                    name, kind, sink, ring=ring, counters=counters, block=block, relay=self._relay
                )
            elif isinstance(stream.destination, structs.Direct) and writer.shared is not None:
                self._direct[kind] = writer.shared

    @property
    def rings(self) -> Mapping[str, Ring]:
        """By stream name; only streams that are relayed."""
        return {kind: stream.ring for kind, stream in self._streams.items()}

    @property
    def counters(self) -> Mapping[str, Counters]:
        """By stream name; only streams that are relayed."""
        return {kind: stream.counters for kind, stream in self._streams.items()}

    def open(self) -> ChildEnds:
        """New ends for one start of the process. Raises OSError (no descriptors left)."""
        ends = ChildEnds(-1, -1)
        try:
            ends.stdout = self._end("stdout", ends)
            ends.stderr = self._end("stderr", ends)
        except OSError:
            ends.close()
            self.abandon()
            raise
        return ends

    async def run(self) -> None:
        """Move the output until cancelled; returns at once when a shared relay does it."""
        if self._own_relay:
            await self._relay.run()

    async def finish(self, within: float = math.inf) -> None:
        """The process group is dead: move what is left, then close the pipes. Safe to call twice.

        What a full sink has not taken ``within`` so many seconds is lost, and counted.
        """
        with trio.move_on_after(within) as scope:
            for stream in self._streams.values():
                await stream.finish()
        if scope.cancelled_caught:
            for stream in self._streams.values():
                stream.cut()

    def finish_at_once(self) -> bool:
        """Do what :meth:`finish` does, if there is nothing to move or to wait for any more; whether that was so."""
        streams = self._streams.values()
        if not all(stream.drained for stream in streams):
            return False
        for stream in streams:
            stream.end()
        return True

    def abandon(self) -> None:
        """The process could not be started: close the pipes."""
        for stream in self._streams.values():
            stream.abandon()

    def close(self) -> None:
        """The process is no longer supervised: close what its output went to."""
        self.abandon()
        for stream in self._streams.values():
            stream.sink.close()
            if isinstance(stream.sink.inner, FileSink):
                stream.sink.inner.leave()
        if self._own_relay:
            self._relay.close()

    def succeed(self, before: Output) -> None:
        """Take the place of an output with another configuration: keep what it has kept, and go on counting."""
        for kind, stream in self._streams.items():
            old = before._streams.get(kind)
            if old is not None:
                stream.ring.restore(old.ring.snapshot())
                stream.counters.add(old.counters)

    def rotate(self) -> int:
        """Rotate its log files, or open those without rotation anew; how many streams go to one.

        Raises OSError and OcelotError.
        """
        ends = [stream.sink.inner for stream in self._streams.values()]
        files = [end.file for end in ends if isinstance(end, FileSink)]
        for file in dict.fromkeys(files):
            file.rotate()
        return len(files)

    def snapshot(self) -> dict[str, StreamSnapshot]:
        """By stream name; only streams that are relayed."""
        return {kind: stream.snapshot() for kind, stream in self._streams.items()}

    def restore(self, kept: Mapping[str, StreamSnapshot]) -> None:
        """Go on with the pipes of the image before this one. Raises OSError."""
        for kind, stream in self._streams.items():
            if kind in kept:
                stream.restore(kept[kind])

    def lines(self, last: int | None = None, since: float | None = None) -> list[OutputLine]:
        """What is kept of both streams, by time: the ``last`` lines, those from ``since`` (epoch seconds) on, or all."""
        found = [
            OutputLine(line.at, kind, line.text)
            for kind, stream in self._streams.items()
            for line in stream.ring.lines(last, since)
        ]
        found.sort(key=lambda line: line.at)
        return found if last is None else found[max(0, len(found) - last) :]

    @contextmanager
    def watch(self, seen: Callable[[str, Line], None]) -> Iterator[None]:
        """Call ``seen`` with the stream's name and each complete line from now on, before anything else happens to it."""
        for stream in self._streams.values():
            stream.watchers.append(seen)
        try:
            yield
        finally:
            for stream in self._streams.values():
                stream.watchers.remove(seen)

    @contextmanager
    def follow(self) -> Iterator[trio.MemoryReceiveChannel[OutputLine]]:
        """Lines from now on. A reader that falls too far behind finds one line that says how many were left out."""
        send, receive = trio.open_memory_channel[OutputLine](FOLLOWER_LINES)
        missed = 0

        def seen(kind: str, line: Line) -> None:
            nonlocal missed
            try:
                if missed:
                    send.send_nowait(OutputLine(line.at, kind, f"ocelot: {missed} lines were left out here"))
                    missed = 0
                send.send_nowait(OutputLine(line.at, kind, line.text))
            except trio.WouldBlock:
                missed += 1
            except trio.BrokenResourceError:
                pass  # the reader has closed its end and is about to leave

        with send, receive, self.watch(seen):
            yield receive

    def _end(self, kind: str, ends: ChildEnds) -> int:
        if kind in self._direct:
            return self._direct[kind]
        stream = self._streams.get(kind)
        if stream is None:
            fd = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        else:
            self._prepare(stream)
            fd = stream.open()
        ends.owned.append(fd)
        return fd

    def _prepare(self, stream: Stream) -> None:
        """Open files early: they exist when the process starts, and a mistake is known at once."""
        try:
            stream.sink.open()
        except OSError as error:
            stream.unopened(error)
