"""The other side of ``reexec``: a new image of ocelot goes on from where the one before it was.

Until everything is rebuilt nothing is changed that the image before would miss, descriptors stay open across another
execve(2), and all signals stay blocked: so whatever fails, ``ocelot.init`` can go back to the image that was there.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import cast

import msgspec
import trio

from bootstrap import cmdline
from bootstrap.timeline import Timeline
from ocelot import __version__, log
from ocelot.beginning import run_to_the_end
from ocelot.config import structs
from ocelot.config.loading import Kind
from ocelot.errors import OcelotError
from ocelot.life.ending import Ending
from ocelot.life.life import Life
from ocelot.life.statefile import read
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import TOOLS, Inherited, keep_descriptors
from ocelot.pid1 import Pid1
from ocelot.wire.protocol import Problem, ReexecReply
from supervisor import snapshots
from supervisor.control.door import Door
from supervisor.snapshots import LifeSnapshot, unpack_environment


def run(fd: int, committed: Callable[[], None], *, back: bool = False) -> Ending:
    """Go on with the state in ``fd``, to the end of that life. ``committed`` is called when there is no way back any more.

    ``back``: this is the image that wrote the state, and another one was not able to go on.
    """
    state = read(fd)
    kept = snapshots.understand(state.version, state.body)
    if kept.pid != os.getpid():
        raise OcelotError(
            f"cannot take over: this is the state of process {kept.pid}", hint="ocelotctl reexec does all of this"
        )
    life = Pid1(
        cast(Kind, kept.kind),
        os.fsdecode(kept.file) if kept.file is not None else None,
        inherited=Inherited(
            kept.inherited.limits, unpack_environment(kept.inherited.environment), frozenset(kept.inherited.mask)
        ),
        who=identity(),
        socket=kept.socket,
        born=kept.born,
    )

    def resume() -> list[int]:
        restore(life, kept)
        life.turn = kept.turn + (not back)
        life.breaks = kept.breaks
        if kept.requested is not None:
            life.request(*kept.requested)
        keep_descriptors()
        os.close(fd)
        committed()
        life.phase = "running"
        return kept.mask

    return run_to_the_end(life, life.run_on, resume, lambda: arrive(life, kept, back=back))


def restore(life: Life, kept: LifeSnapshot) -> None:
    """Make ``life`` what ``kept`` says. In trio, before the reaper runs."""
    config = kept.bootstrap if kept.bootstrap is not None else kept.supervise
    assert config is not None
    life.config = config
    life.boot_timeline = Timeline(age=time.monotonic() - kept.born, wire=kept.timeline)
    if life.who is Identity.MACHINE:
        life.cmdline = cmdline.read()
        life.start_side("the power button", life.watch_power_button)
    life.machine.environment.clear()
    life.machine.environment.update(unpack_environment(kept.environment))
    log.choose_colour(kept.colour)
    life.open_console(config.console if isinstance(config, structs.Bootstrap) else "console")
    log.configure(level=life.cmdline.log_level or config.log_level)
    life.stdout.restore(kept.stdout)
    if life.stderr is not life.stdout:
        life.stderr.restore(kept.stderr)
    life.doors.update((name, Door(socket.socket(fileno=number))) for name, number in kept.sockets.items())
    life.reaper.restore(kept.reaper)
    life.supervisor = life.new_supervisor(kept.supervisor.configs, kept.supervisor.shutdown_timeout)
    life.supervisor.restore(kept.supervisor)
    if kept.measures is not None:
        from supervisor.metrics.collector import measures

        measures(life).restore(kept.measures)


def arrive(life: Life, kept: LifeSnapshot, *, back: bool) -> None:
    """Everything goes on: say so, also to whoever has asked for it."""
    away = time.monotonic() - kept.left
    many = len(kept.supervisor.processes)
    told = "1 process" if many == 1 else f"{many} processes"
    log.info(f"ocelot {__version__} goes on with {told} (image {life.turn + 1}, away for {away:.3g}s)")
    if back:
        log.error("the other image was not able to take over: this is the one before, and nothing is lost")
    if life.kind == "bootstrap":
        relink(sys.prefix, TOOLS)
    if kept.answer >= 0:
        python = ".".join(map(str, sys.version_info[:3]))
        reply: ReexecReply | Problem = ReexecReply(
            version=__version__, python=python, turn=life.turn, processes=many, away=away
        )
        if back:
            reply = Problem(
                kind="not-taken-over",
                message="cannot replace ocelot: the other image failed, and the one before goes on",
                hint="its last words stand where ocelot itself writes",
            )
        life.start_side("the answer to a reexec", partial(_answer, socket.socket(fileno=kept.answer), reply))


async def _answer(connection: socket.socket, reply: ReexecReply | Problem) -> None:
    body = msgspec.json.encode(reply) + b"\n"
    status = "200 OK" if isinstance(reply, ReexecReply) else "500 Internal Server Error"
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    connection.setblocking(False)
    async with trio.SocketStream(trio.socket.from_stdlib_socket(connection)) as stream:
        with trio.move_on_after(2.0), suppress(trio.BrokenResourceError):
            await stream.send_all(head.encode() + body)
            await stream.send_eof()
            await stream.receive_some(1)


def relink(prefix: str, folder: str) -> None:
    """Let the tools on the PATH of every child be those of this runtime."""
    for tool in ("ocelot", "ocelotctl"):
        program, link = f"{prefix}/bin/{tool}", f"{folder}/{tool}"
        with suppress(OSError):
            if os.path.exists(program) and os.readlink(link) != program:
                os.symlink(program, f"{link}.new")
                os.rename(f"{link}.new", link)
