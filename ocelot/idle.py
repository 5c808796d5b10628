"""``ocelot idle``: the PID 1 of a pod's pause container. Reaps, and exits with 0 when it is told to stop."""

from __future__ import annotations

import signal

import trio

from supervisor.children.reaper import Reaper


def run() -> int:
    """Reap until SIGTERM or SIGINT."""
    return trio.run(_idle)


async def _idle() -> int:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            await nursery.start(Reaper().run)
            async for _ in received:
                nursery.cancel_scope.cancel()
                break
    return 0
