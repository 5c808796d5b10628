"""What processes wrote, merged by time: the last lines, and new ones as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import msgspec
import trio

from ocelot.errors import ControlError
from ocelot.wire.protocol import LogLine, ProcessStatus
from supervisor.control.actions import resolve
from supervisor.lifecycle import ALIVE
from supervisor.output.ring import Line, real_time

if TYPE_CHECKING:
    from supervisor.controlled import LogSource, Supervised
    from supervisor.lifecycle import Change

BEHIND = 10_000
"""Lines that a follower may fall behind; more are left out, and it is told how many."""

BEHIND_TEXT = 1024 * 1024
"""Characters in these lines, all together: a line may have 64 KiB."""

_BATCH = 64 * 1024


def recent(supervisor: Supervised, names: Sequence[str], n: int | None, since: float | None) -> list[LogLine]:
    """The last ``n`` lines of all ``names`` together, those since ``since`` (epoch seconds), or all that is kept."""
    found = [
        LogLine(at=line.at, name=name, stream=_stream(line.stream), text=line.text)
        for name in names
        if name in supervisor.outputs
        for line in supervisor.outputs[name].lines(n, since)
    ]
    found.sort(key=lambda line: line.at)
    return found if n is None else found[max(0, len(found) - n) :]


async def follow(
    supervisor: Supervised,
    names: Sequence[str],
    n: int | None,
    since: float | None,
    wanted: Sequence[str] = (),
    pid: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """What :func:`recent` finds, then new lines until closed, as NDJSON in blocks.

    ``wanted``: names and patterns; processes that come later and fit one of them are followed too.
    ``pid``: until the one of ``names`` with this pid has ended, with all that it has written and nothing of its next start; 0: the
    first that is alive, which may have no pid yet.
    """
    send, receive = trio.open_memory_channel[LogLine](BEHIND)
    missed = waiting = 0
    leader = None if pid is None else next((name for name in names if _lives(supervisor.status(name), pid)), None)
    over = pid is not None and leader is None

    def seen(name: str, stream: str, line: Line) -> None:
        nonlocal missed, waiting
        if over:
            return
        try:
            if waiting and waiting + len(line.text) > BEHIND_TEXT:
                raise trio.WouldBlock
            send.send_nowait(LogLine(at=line.at, name=name, stream=_stream(stream), text=line.text))
            waiting += len(line.text)
        except trio.WouldBlock:
            missed += 1

    def taken(line: LogLine) -> bytes:
        nonlocal waiting
        waiting -= len(line.text)
        return _encode(line)

    watched: dict[str, LogSource] = {}

    def watch(name: str) -> None:
        source = supervisor.outputs.get(name)
        if source is not None and watched.get(name) is not source:
            watched[name] = source
            watching.enter_context(source.watch(partial(seen, name)))

    def changed(change: Change) -> None:
        nonlocal over
        if change.name == leader and change.after not in ALIVE:
            over = True
            send.close()
        if watched.get(change.name) is not supervisor.outputs.get(change.name) and fits(change.name, wanted):
            watch(change.name)

    with ExitStack() as watching:
        watching.callback(supervisor.subscribe(changed))
        for name in names:
            watch(name)
        # Nothing is awaited between these two, so no line is missed or told twice.
        block = b"".join(map(_encode, recent(supervisor, names, n, since)))
        if block:
            yield block
        if over:
            return
        async for line in receive:
            block = taken(line)
            while len(block) < _BATCH:
                try:
                    block += taken(receive.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            yield block
            if missed:
                text = f"[{missed} lines left out: this reader is too slow]"
                missed = 0
                yield _encode(LogLine(at=real_time(), name="ocelot", stream="stderr", text=text))


def _lives(status: ProcessStatus, pid: int) -> bool:
    return status.state in ALIVE and pid in (0, status.pid)


def fits(name: str, wanted: Sequence[str]) -> bool:
    """Whether one of the names and patterns means the process ``name``."""
    for text in wanted:
        try:
            if resolve((name,), (text,)):
                return True
        except ControlError:
            continue
    return False


def _encode(line: LogLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _stream(name: str) -> Literal["stdout", "stderr"]:
    return cast(Literal["stdout", "stderr"], name)
