"""``ocelot entry``: run one program under a PID 1 that reaps and forwards signals, as tini does.

The program runs in a process group of its own in our session and, when standard input is a terminal, in its foreground. When it
ends, so do we, with its status: 128 + n after signal n.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Collection, Sequence

import trio

from ocelot import log
from ocelot.errors import SpawnError
from ocelot.linux.inherited import Inherited
from supervisor.children.child import Child
from supervisor.children.reaper import Reaper
from supervisor.children.spawn import SpawnSpec

_OURS = {
    # cannot be caught
    signal.SIGKILL,
    signal.SIGSTOP,
    # the reaper's
    signal.SIGCHLD,
    # about this process itself, not meant for the program
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
    signal.SIGPIPE,
}
_TERMINAL = {signal.SIGTTIN, signal.SIGTTOU}  # what we get as a background group of our own terminal: not passed on

FORWARDED = tuple(sorted({int(number) for number in signal.valid_signals()} - {int(number) for number in _OURS}))


def run(
    command: Sequence[str],
    *,
    group: bool = False,
    successes: Collection[int] = (),
    warn: bool = False,
    inherited: Inherited | None = None,
) -> int:
    """Run ``command`` until it ends and return the exit status for us.

    ``group``: signals go to its whole process group. ``successes``: exit statuses that become 0. 127 if there is no such program,
    126 if it cannot be executed. ``warn``: tell at the end how many orphans were reaped.
    """
    reaper = Reaper()
    status = trio.run(_entry, reaper, tuple(command), group, inherited or Inherited.capture())
    if warn and reaper.orphans_reaped:
        log.warn(f"reaped {reaper.orphans_reaped} processes that {command[0]} has left behind")
    return 0 if status in successes else status


async def _entry(reaper: Reaper, command: tuple[str, ...], group: bool, inherited: Inherited) -> int:
    spec = SpawnSpec(
        argv=command,
        environment=inherited.environment,
        stdin=-1,
        session=False,
        group=True,
        foreground=os.isatty(0),
        limits=inherited.limits,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(reaper.run)
        # A signal that was ignored when we were started (nohup) stays so, for the program too
        caught = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
        with trio.open_signal_receiver(*caught) as received:
            try:
                child = reaper.spawn(spec)
            except SpawnError as error:
                log.error(str(error))
                nursery.cancel_scope.cancel()
                return error.shell_status
            log.debug(f"started {command[0]} with pid {child.pid}")
            child.kill_group = False  # as tini: what it leaves behind is ended by the end of the container
            nursery.start_soon(_forward, received, child, group)
            status = await child.wait()
            nursery.cancel_scope.cancel()
    log.debug(f"{command[0]} {status}")
    return status.shell_status


async def _forward(received: AsyncIterator[int], child: Child, group: bool) -> None:
    async for number in received:
        if number in _TERMINAL:
            continue
        try:
            if group:
                child.signal_group(number)
            else:
                child.signal(number)
        except OSError as error:
            log.warn(f"cannot pass on signal {number}: {error.strerror}")
