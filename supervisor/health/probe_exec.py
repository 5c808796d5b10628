"""Checks by a program: it exits with 0 if all is well. It goes down with its whole process group when its time is up."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from supervisor.children.child import Child
from supervisor.health.probes import OUTPUT_MAX, Failed
from supervisor.process.surroundings import Ends

END_WITHIN = 1.0
"""Seconds for a killed program to end; one that hangs in the kernel is left to the reaper."""

Start = Callable[[Ends], Awaitable[Child]]
"""Starts the program with these ends as its output. Raises SpawnError."""


class _OneEnd:
    """Both streams in one pipe, in the order of writing."""

    def __init__(self, fd: int) -> None:
        self.stdout = self.stderr = fd

    def close(self) -> None:
        os.close(self.stdout)


class ExecCheck:
    """Runs a program to its end, time after time. ``start`` starts it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._said = bytearray()

    @property
    def heard(self) -> str:
        """What it has written the last time, so far."""
        return self._said.decode("utf-8", "replace").strip()

    async def __call__(self) -> str:
        self._said = bytearray()
        return await check_exec(self._start, self._said)


async def check_exec(start: Start, said: bytearray) -> str:
    """Run it to its end. What it writes is read as it comes, so that it never waits for us, and a little of it is kept in ``said``."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        ends = _OneEnd(writer)
        try:
            os.set_blocking(reader, False)
            child = await start(ends)
        finally:
            ends.close()
        child.passing = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, reader, said)
                await child.wait()
                nursery.cancel_scope.cancel()
        finally:
            if child.status is None:
                await _kill(child)
        # Not until the end of file: what it left behind in the background may hold the pipe for long
        _read_now(reader, said)
    finally:
        os.close(reader)
    assert child.status is not None
    text = said.decode("utf-8", "replace").strip()
    if child.status.success:
        return text
    raise Failed(f"{child.status}" + (f": {text}" if text else ""))


async def _read(fd: int, said: bytearray) -> None:
    while _read_now(fd, said):
        await trio.lowlevel.wait_readable(fd)


def _read_now(fd: int, said: bytearray) -> bool:
    """Take one block; False at the end of the pipe."""
    try:
        block = os.read(fd, 65536)
    except BlockingIOError:
        return True
    said += block[: max(0, 4 * OUTPUT_MAX - len(said))]
    return bool(block)


async def _kill(child: Child) -> None:
    """SIGKILL to its group. The reaper does the same for what is left when the leader is reaped."""
    with trio.CancelScope(shield=True):
        with suppress(OSError):
            child.signal_group(signal.SIGKILL)
        with trio.move_on_after(END_WITHIN):
            await child.wait()
