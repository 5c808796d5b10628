"""Under asyncio: follow the log of a process while a command runs beside it.

python -m integration.examples.client_asyncio SOCKET NAME COMMAND ARGUMENT...
"""

from __future__ import annotations

import asyncio
import sys

from ocelot.client import Client
from ocelot.errors import ControlError


async def show_log(client: Client, name: str) -> None:
    """Print the last five lines, then new ones, until cancelled."""
    async with client.follow(name, n=5) as lines:
        async for line in lines:
            print(f"{name} | {line.text}", flush=True)


async def main(socket: str, name: str, argv: list[str]) -> int:
    client = Client(socket)
    status = await client.status()
    print(f"{len(status.processes)} processes on {status.hostname}", flush=True)
    log = asyncio.create_task(show_log(client, name))
    try:
        ended = await client.run(name, *argv, stdin=0, stdout=1, stderr=2)
    except ControlError as error:
        print(f"cannot run it: {error}", file=sys.stderr)
        return 1
    finally:
        log.cancel()
        await asyncio.gather(log, return_exceptions=True)
    if ended.message:
        print(ended.message, file=sys.stderr)
    return ended.status


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
