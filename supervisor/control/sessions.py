"""A command beside a process (``ocelotctl exec``, ``shell``): runs as the process would, talks to the client directly.

The client hands over the descriptors that become the command's streams (unix(7), SCM_RIGHTS), and makes the pseudo-terminal, if there is
to be one, itself. So not one byte of a session goes through PID 1, which only spawns, passes signals on, and tells how it ended.
A relay over the control socket was rejected: it would work from afar, but a mere ``cat`` of a large file would keep PID 1 busy.

A session lasts as long as its client: when that goes, the whole session gets SIGHUP, and two seconds later SIGKILL. When the
command ends by itself, what it left in the background stays, as after ssh. When ocelot goes down, so do all sessions.

Imported when the first session begins.
"""

from __future__ import annotations

import array
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import trio

from ocelot import log
from ocelot.errors import ControlError, SpawnError
from ocelot.states import ExitStatus, signal_name
from ocelot.wire.protocol import SessionEnded, SessionRequest, SessionSignal, SessionStarted
from supervisor.children.child import Child
from supervisor.children.members import signal_session
from supervisor.children.spawn import SpawnSpec
from supervisor.process import launch
from supervisor.process.environment_file import read_environment_file
from supervisor.process.starting import OPEN_TIMEOUT

if TYPE_CHECKING:
    from supervisor.controlled import Supervised

PROTOCOL = "ocelot-session"
"""What the Upgrade header says."""

GRACE = 2.0
"""Seconds between the SIGHUP to a session whose client has gone, and the SIGKILL."""

RECEIVE = 10.0
"""Seconds for the client to hand over the descriptors."""

_LINE = 4096
_NUMBER = array.array("i").itemsize


@dataclass
class Streams:
    """The client's descriptors; closed here once the command has them."""

    stdin: int
    stdout: int
    stderr: int
    _open: bool = field(default=True, repr=False)

    def close(self) -> None:
        if self._open:
            self._open = False
            for fd in (self.stdin, self.stdout, self.stderr):
                os.close(fd)


async def attend(
    stream: trio.abc.HalfCloseableStream, supervisor: Supervised, name: str | None, request: SessionRequest
) -> None:
    """One session on a connection that has left HTTP. ``name`` None: beside no process, with the environment of the machine."""
    assert isinstance(stream, trio.SocketStream)
    try:
        with trio.fail_after(RECEIVE):
            streams = await receive_streams(stream.socket)
    except (OSError, ControlError) as error:
        log.debug(f"control: a session did not begin: {error}")
        return
    try:
        child = await _start(supervisor, name, request, streams)
    except SpawnError as error:
        await _tell(stream, SessionEnded(status=error.shell_status, message=error.message, hint=error.hint))
        return
    finally:
        streams.close()
    child.kill_group = False
    going_down = True
    try:
        await _tell(stream, SessionStarted(pid=child.pid))
        end = await _accompany(stream, child)
        going_down = False
    finally:
        if going_down:
            _signal(child, signal.SIGKILL)  # ocelot ends, and its reaper too: there is nothing to wait for
    if end is not None:
        await _tell(stream, _ended(end))
    else:
        await _end(child)


async def receive_streams(sock: trio.socket.SocketType) -> Streams:
    """The three descriptors of one message, close-on-exec. Raises ControlError if there are more or less, OSError, TooSlowError."""
    _, ancillary, flags, _ = await sock.recvmsg(
        _LINE, socket.CMSG_SPACE(3 * _NUMBER), socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
    )
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % _NUMBER])
    if len(found) != 3 or flags & socket.MSG_CTRUNC:
        for fd in found:
            os.close(fd)
        raise ControlError(f"cannot use {len(found)} descriptors: three are needed", kind="bad-request")
    return Streams(found[0], found[1], found[2])


async def _start(supervisor: Supervised, name: str | None, request: SessionRequest, streams: Streams) -> Child:
    """Raises SpawnError."""
    around = supervisor.surroundings
    if name is None:
        environment = around.inherited.child_environment(around.environment)
        spec = SpawnSpec(argv=("sh",), environment=environment, limits=around.inherited.limits)
    else:
        config = supervisor.config(name)
        path = config.environment_file
        from_file = {} if path is None else await read_environment_file(path)
        environment = launch.environment(config, around.inherited, around.environment, from_file)
        cgroup = launch.joined(name, config)
        spec = launch.specification(config, environment, streams, around.inherited, argv=("sh",), cgroup=cgroup)
    environment = {**spec.environment, **request.environment}
    if request.terminal and spec.privileges is not None and spec.privileges.credentials is not None:
        with suppress(OSError):  # as grantpt(3) would: programs open their terminal by its name
            os.fchown(streams.stdin, spec.privileges.credentials.uid, -1)
    spec = replace(
        spec,
        argv=tuple(request.argv) or (environment.get("SHELL") or "/bin/sh",),
        environment=environment,
        working_directory=request.working_directory or spec.working_directory,
        stdin=streams.stdin,
        stdout=streams.stdout,
        stderr=streams.stderr,
        terminal=None,
        controlling=request.terminal,
    )
    if around.slow(spec):
        return await around.spawner.spawn_in_thread(spec, timeout=OPEN_TIMEOUT, on_exit=_ignore)
    return around.spawner.spawn(spec, on_exit=_ignore)


def _ignore() -> None:
    """The session waits for the child itself."""


async def _accompany(stream: trio.SocketStream, child: Child) -> ExitStatus | None:
    """Pass on the client's signals until the command ends; None if the client goes before."""
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with suppress(trio.BrokenResourceError):
                await _heed(stream, child)
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await child.wait()
        nursery.cancel_scope.cancel()
    return child.status


async def _heed(stream: trio.SocketStream, child: Child) -> None:
    rest = b""
    while (block := await stream.receive_some(_LINE)) and len(rest) < _LINE:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            try:
                wanted = msgspec.json.decode(line, type=SessionSignal)
                child.signal_group(wanted.signal)
            except (msgspec.DecodeError, OSError) as error:
                log.debug(f"control: a session was told nonsense: {error}")


async def _end(child: Child) -> None:
    """The client has gone: SIGHUP, as from a terminal that is gone, then SIGKILL, to all of the session."""
    _signal(child, signal.SIGHUP)
    _signal(child, signal.SIGCONT)
    try:
        with trio.move_on_after(GRACE):
            await child.wait()
    finally:
        _signal(child, signal.SIGKILL)


def _signal(child: Child, number: int) -> None:
    """To all of the session; nothing happens to a number that is not that of a session any more."""
    signal_session(child.pid, number, reaped=child.status is not None)


def _ended(status: ExitStatus) -> SessionEnded:
    name = signal_name(status.signal) if status.signal is not None else None
    return SessionEnded(status=status.shell_status, code=status.code, signal=name)


async def _tell(stream: trio.SocketStream, message: SessionStarted | SessionEnded) -> None:
    with suppress(trio.BrokenResourceError), trio.move_on_after(RECEIVE):
        await stream.send_all(msgspec.json.encode(message) + b"\n")
