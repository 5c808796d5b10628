"""Outputs whose relay runs, children that write into them, and what ocelot says meanwhile: for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
import trio.testing

from ocelot import log
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.process_output import Output

DEADLINE = 30
"""Seconds."""


def config(destination: structs.Destination, **more: object) -> structs.Log:
    stream = structs.Stream(destination=destination, **more)  # type: ignore[arg-type]
    return structs.Log(stdout=stream, stderr=stream)


@asynccontextmanager
async def relaying(output: Output) -> AsyncIterator[Output]:
    """``output`` with its relay running, closed at the end."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.run)
            yield output
            nursery.cancel_scope.cancel()
    output.close()


async def child(output: Output, script: str, *, shell: str = "sh") -> int:
    """Run ``script`` with its output going to ``output``; returns its status once everything has arrived."""
    ends = output.open()
    process = subprocess.Popen([shell, "-c", script], stdout=ends.stdout, stderr=ends.stderr)
    ends.close()
    status = await trio.to_thread.run_sync(process.wait)
    await output.finish()
    return status


@contextmanager
def pipe_writer() -> Iterator[tuple[Writer, int]]:
    """A writer on a pipe, and the end to read what was written."""
    reader, end = os.pipe()
    writer = Writer.attach(end)
    try:
        yield writer, reader
    finally:
        writer.close()
        os.close(end)
        os.close(reader)


@contextmanager
def messages() -> Iterator[list[str]]:
    """What ocelot logs meanwhile."""
    seen: list[str] = []
    log.configure(sinks=[lambda level, line: seen.append(line)])
    try:
        yield seen
    finally:
        log.configure(sinks=[])
