"""Where a life listens, and how that changes while it lives: the control socket, vsock, and the metrics over TCP.

What is new listens before what it replaces is closed, and all that may fail is done first: a listener that cannot be had changes
nothing. What is replaced takes in nobody any more, and ends when those who are inside have their answers.

Imported for a reload, and where there is a listener on vsock.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.errors import ControlError, describe
from ocelot.life import configuration
from supervisor.control.door import Door
from supervisor.control.listeners import listen_tcp, listen_unix, restrict
from supervisor.control.permissions import socket_group
from supervisor.control.server import serve, serve_metrics

if TYPE_CHECKING:
    from ocelot.life.life import Life

Serve = Callable[["Life", structs.Sections, Door], Awaitable[None]]


@dataclass
class Replacement:
    """What listens from now on under each name, None for nothing; ``retiring``: what did so before."""

    opened: dict[str, socket.socket | None] = field(default_factory=dict)
    retiring: list[Door] = field(default_factory=list)


def prepare(life: Life, wanted: structs.Sections) -> Replacement:
    """Open what ``wanted`` asks for and does not listen yet. Raises ControlError, and then nothing has changed."""
    control, before = (configuration.control(config, life.socket) for config in (wanted, life.config))
    vsock, metrics = control.vsock, wanted.metrics.listen
    replacement = Replacement()
    with ExitStack() as undo:

        def opened(name: str, sock: socket.socket | None) -> None:
            if sock is not None:
                undo.callback(sock.close)
            replacement.opened[name] = sock

        if metrics != life.config.metrics.listen:
            opened("metrics", _listen_tcp(life, metrics) if metrics is not None else None)
        if (vsock and vsock.port) != (before.vsock and before.vsock.port):
            opened("vsock", _listen_vsock(vsock.port) if vsock is not None else None)
        if control.socket != before.socket:
            opened("control", listen_unix(control.socket, control.mode, socket_group(control.group)))
        elif (control.mode, control.group) != (before.mode, before.group):
            _restrict(life, control)
        undo.pop_all()
    return replacement


def begin(life: Life, replacement: Replacement) -> None:
    """Answer on what was opened. ``life`` has its new configuration by now."""
    for name, sock in replacement.opened.items():
        if name in life.doors:
            replacement.retiring.append(life.doors.pop(name))
        if sock is not None:
            door = life.doors[name] = Door(sock)
            life.start_side(name, partial(_SERVE[name], life, life.config, door))


def finish(replacement: Replacement) -> None:
    """Close what was replaced. Whoever has asked for all this may be inside: only now is that cut, after a while."""
    for door in replacement.retiring:
        door.retire()


async def serve_vsock(life: Life) -> None:
    """Answer the host of this machine. Raises ControlError if nobody can listen there."""
    await _serve_vsock(life, life.config, life.doors.setdefault("vsock", Door()))


async def _serve_vsock(life: Life, config: structs.Sections, door: Door) -> None:
    from supervisor.control.vsock import serve as serve_host

    assert config.control.vsock is not None
    await serve_host(life, config.control.vsock.port, door=door)


async def _serve_control(life: Life, config: structs.Sections, door: Door) -> None:
    await serve(life, configuration.control(config, life.socket), door=door)


async def _serve_metrics(life: Life, config: structs.Sections, door: Door) -> None:
    await serve_metrics(life, config.metrics, door=door)


_SERVE: dict[str, Serve] = {"control": _serve_control, "vsock": _serve_vsock, "metrics": _serve_metrics}


def _listen_vsock(port: int) -> socket.socket:
    from supervisor.control.vsock import listen

    return listen(port)


def _listen_tcp(life: Life, address: str) -> socket.socket:
    """Also where what listens now is in the way itself, as 127.0.0.1:9464 is for 0.0.0.0:9464."""
    door, before = life.doors.get("metrics"), life.config.metrics.listen or ""
    try:
        return listen_tcp(address)
    except ControlError:
        if door is None or door.descriptor < 0 or before.rpartition(":")[2] != address.rpartition(":")[2]:
            raise
        with socket.socket(fileno=os.dup(door.descriptor)) as old:
            old.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                return listen_tcp(address, shared=True)
            finally:
                old.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _restrict(life: Life, control: structs.Control) -> None:
    gid = socket_group(control.group)
    door = life.doors.get("control")
    if door is None or door.file is None:
        return  # there is none, as was said when it could not be opened
    try:
        restrict(control.socket, control.mode, os.getegid() if gid == -1 else gid, door.file)
    except OSError as error:
        raise ControlError(f'cannot change who may open "{control.socket}": {describe(error)}', kind="socket") from None
