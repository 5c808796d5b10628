"""``trio_loop.py COUNT PROGRAM``: loop.c in trio, the floor for a supervisor in Python. SIGTERM ends it and its children."""

import os
import signal
import sys

import trio


async def main(count: int, program: str) -> None:
    def start() -> None:
        living.add(os.posix_spawn(program, [program], os.environ, setsid=True))

    living: set[int] = set()
    stopping = False
    with trio.open_signal_receiver(signal.SIGCHLD, signal.SIGTERM) as signals:
        for _ in range(count):
            start()
        async for number in signals:
            if number == signal.SIGTERM:
                stopping = True
                for pid in living:
                    os.kill(pid, signal.SIGTERM)
            while living:
                pid, _status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid in living:  # and not somebody's orphan
                    living.remove(pid)
                    if not stopping:
                        start()
            if not living:
                return


trio.run(main, int(sys.argv[1]), sys.argv[2])
