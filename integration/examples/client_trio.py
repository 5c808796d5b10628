"""A rolling restart under trio: one process after another, each only when the one before it serves again.

python -m integration.examples.client_trio SOCKET NAME...
"""

from __future__ import annotations

import sys

import trio

from ocelot.client import Client
from ocelot.wire.protocol import Gap


async def rolling_restart(client: Client, names: list[str]) -> None:
    """Restart ``names`` in turn. Raises RuntimeError if one does not come back."""
    for name in names:
        await client.restart(name, wait=False)
        reply = await client.wait(name, condition="ready", timeout=30.0)
        if reply.failed or not reply.settled:
            raise RuntimeError(f"{name} did not come back: {reply.processes[0].reason}")
        print(f"{name} is ready again with pid {reply.processes[0].pid}")


async def narrate(client: Client, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Print every change of state until cancelled."""
    async with client.events() as events:
        task_status.started()
        async for event in events:
            if isinstance(event, Gap):
                print(f"{event.missed} events are missing")
            else:
                print(f"  {event.name}: {event.before} -> {event.state}")


async def main(socket: str, names: list[str]) -> None:
    client = Client(socket)
    async with trio.open_nursery() as nursery:
        await nursery.start(narrate, client)
        await rolling_restart(client, names)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2:])
