"""The output of a process with a terminal of its own. Imported when a process is configured so."""

from __future__ import annotations

import trio
from msgspec.structs import replace

from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.process_output import ChildEnds, Output
from supervisor.output.relay import Relay
from supervisor.output.ring import Ring
from supervisor.output.sinks import BLOCK, Counters, Sink
from supervisor.output.terminal import TerminalStream


class TerminalOutput(Output):
    """The output of a process with a terminal of its own: that of the terminal is its standard output.

    Its standard error is the terminal too, unless it is configured as another stream than that.
    """

    def __init__(
        self, name: str, config: structs.Log, *, stdout: Writer, stderr: Writer, relay: Relay | None = None
    ) -> None:
        self._both = config.stderr in (structs.Stream(), config.stdout)
        if self._both:
            config = replace(config, stderr=structs.Stream(destination=structs.Null()))
        super().__init__(name, config, stdout=stdout, stderr=stderr, relay=relay)
        plain = self._streams.get("stdout")
        self.terminal = TerminalStream(
            name,
            "stdout",
            plain.sink if plain is not None else Nowhere(),
            ring=Ring(config.stdout.ring),
            counters=plain.counters if plain is not None else Counters(),
            block=config.stdout.on_full == "block",
            relay=self._relay,
        )
        self._streams["stdout"] = self.terminal

    def open(self) -> ChildEnds:
        """The other side of a new terminal, for one start of the process. Raises OSError."""
        ends = ChildEnds(-1, -1)
        try:
            ends.stdin = ends.stdout = self._end("stdout", ends)
            ends.stderr = ends.stdout if self._both else self._end("stderr", ends)
        except OSError:
            ends.close()
            self.abandon()
            raise
        return ends


class Nowhere:
    """The sink of a terminal whose output is thrown away: it is still read, for who is attached, and kept in the ring."""

    whole_lines = False
    framed = False
    backlog = 0
    portion = BLOCK

    @property
    def inner(self) -> Sink:
        return self

    def open(self) -> None:
        """There is nothing to open."""

    def offer(self, data: bytes) -> int:
        return len(data)

    async def ready(self, stall: float | None) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    def close(self) -> None:
        """There is nothing to close."""
