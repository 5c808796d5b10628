"""The control socket: HTTP/1.1 and JSON on a unix socket, and the listener for metrics on TCP.

The sockets are bound at once, but h11 and the endpoints are imported when the first client connects: on the boot path
they would cost more than the whole of the listening (20 ms on a desk, half a second in an emulated machine).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, describe, starved
from ocelot.wire.protocol import Role
from supervisor.control.door import NOBODY, Door, receive
from supervisor.control.listeners import identity, listen_tcp, listen_unix

if TYPE_CHECKING:
    from supervisor.control.connection import Answer
    from supervisor.controlled import Controlled


RETRY = 1.0
"""Seconds until the socket is opened anew for which there was no memory any more."""


async def open_control(
    machine: Controlled, config: structs.Control, nursery: trio.Nursery, *, door: Door, required: bool
) -> None:
    """Open the control socket and answer on it in a task of ``nursery``, whatever becomes of that task.

    ``required``: raise ControlError or OSError if it cannot be opened; else that is told, and all goes on without it.
    """
    opened = False

    async def answer(*, task_status: trio.TaskStatus[None]) -> None:
        while True:
            try:
                await serve(machine, config, door=door, task_status=task_status)
                return
            except Exception as error:
                if not opened:
                    raise
                if not starved(error):
                    log.error(f"the control socket: {describe(error)}; going on without it")
                    return
                log.error(f"the control socket: {describe(error)}; opened anew in {RETRY:g}s")
            door.sock, task_status = None, trio.TASK_STATUS_IGNORED
            await trio.sleep(RETRY)

    try:
        await nursery.start(answer)
        opened = True
    except (OcelotError, OSError) as error:
        if required:
            raise
        log.error(f"the control socket: {describe(error)}; going on without it")


async def serve(
    machine: Controlled,
    config: structs.Control,
    *,
    door: Door | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on the control socket until cancelled. Raises ControlError if it cannot be opened.

    ``door``: to close it for a while, or with the socket that the image before this one has opened. ``config`` says where the
    socket is and who may open it; the roles are those of the machine's configuration at the time of each request.
    """
    from supervisor.control.permissions import socket_group

    door = door or Door()
    sock = door.sock = door.sock or listen_unix(config.socket, config.mode, socket_group(config.group))
    mine = door.file = identity(config.socket)

    def welcome(stream: trio.SocketStream) -> tuple[int, Answer]:
        from supervisor.control.endpoints import control_answer
        from supervisor.control.permissions import peer_of, role_of

        peer = peer_of(stream.socket)

        def role() -> Role | None:
            return role_of(peer, machine.config.control.roles, own_uid=os.geteuid())

        return peer.uid, control_answer(machine, role, descriptor=stream.socket.fileno())

    try:
        task_status.started()
        await receive(door, sock, welcome)
    finally:
        sock.close()
        with suppress(OSError):  # unless another instance has taken the name since
            if identity(config.socket) == mine:
                os.unlink(config.socket)


async def serve_metrics(
    machine: Controlled,
    config: structs.Metrics,
    *,
    door: Door | None = None,
    task_status: trio.TaskStatus[tuple[str, int] | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer /metrics and /health on TCP until cancelled; return at once if no listener is configured.

    ``task_status`` gets the address, with the port that the kernel chose for port 0. Raises ControlError if the address
    is wrong or taken.
    """
    if config.listen is None:
        task_status.started(None)
        return
    door = door or Door()
    sock = door.sock = door.sock or listen_tcp(config.listen)

    def welcome(_stream: trio.SocketStream) -> tuple[int, Answer]:
        from supervisor.control.endpoints import metrics_answer

        return NOBODY, metrics_answer(machine)

    with sock:
        task_status.started(sock.getsockname()[:2])
        await receive(door, sock, welcome)
