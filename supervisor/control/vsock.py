"""The control socket's server on vsock(7): for the host of a virtual machine, and for nobody else.

The kernel vouches for the CID of a peer as it does for the user on a unix socket: processes of this machine come as CID 1 or as
its own, other guests as theirs, and only the host as CID 2. It does not say who it is on the host, so all who may use vsock there
have the one role that ``control.vsock`` gives them.

Imported only where that is configured.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from fcntl import ioctl
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.errors import ControlError, describe
from ocelot.wire.protocol import Role
from supervisor.control.door import NOBODY, Door, receive
from supervisor.control.listeners import BACKLOG

if TYPE_CHECKING:
    from supervisor.control.connection import Answer
    from supervisor.controlled import Controlled

HOST = socket.VMADDR_CID_HOST
_FIRST_GUEST = 3

_DEVICE_HINT = (
    "give the machine one (QEMU: -device vhost-vsock-pci,guest-cid=3), and load its driver, vmw_vsock_virtio_transport"
)


def listen(port: int) -> socket.socket:
    """A listening socket for connections from anywhere to ``port`` of this machine. Raises ControlError."""
    try:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        raise refusal(port, error) from None
    try:
        sock.bind((socket.VMADDR_CID_ANY, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise refusal(port, error) from None
    return sock


def refusal(port: int, error: OSError) -> ControlError:
    """Why nobody can listen on ``port``, in words. The hint is part of them where it is all that helps: a log shows no hints."""
    reason, hint = describe(error), ""
    if error.errno == errno.EAFNOSUPPORT:
        reason = "the kernel has no vsock, as long as the module vmw_vsock_virtio_transport is not loaded"
    elif error.errno == errno.EADDRINUSE:
        hint = "choose another control.vsock.port"
    return ControlError(f"cannot listen on vsock port {port}: {reason}", hint=hint, kind="socket")


def own_cid() -> int | None:
    """The CID of this machine, as its vsock device has it (VSOCK_GET_LOCAL_CID); None if the kernel does not say."""
    with suppress(OSError), open("/dev/vsock", "rb") as device:
        answer = ioctl(device.fileno(), socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, bytes(4))
        return int(struct.unpack("I", answer)[0])
    return None


async def serve(
    machine: Controlled,
    port: int,
    *,
    door: Door | None = None,
    peer: int = HOST,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer what connects from the CID ``peer``, until cancelled. Raises ControlError if it cannot listen.

    ``door``: see ``control.serve``. The role is that of the machine's configuration at the time of each request.
    """
    door = door or Door()
    sock = door.sock = door.sock or listen(port)
    cid = own_cid()
    if cid is None or not _FIRST_GUEST <= cid < socket.VMADDR_CID_ANY:
        log.warn(f"control.vsock: the host cannot reach it: this machine has no vsock device; {_DEVICE_HINT}")

    def role() -> Role | None:
        vsock = machine.config.control.vsock
        return Role(vsock.role) if vsock is not None else None

    def welcome(stream: trio.SocketStream) -> tuple[int, Answer]:
        from supervisor.control.endpoints import control_answer

        refuse_others(stream.socket.getpeername(), peer)
        return NOBODY, control_answer(machine, role, descriptor=stream.socket.fileno(), local=False)

    with sock:
        task_status.started()
        await receive(door, sock, welcome)


def refuse_others(address: tuple[int, int], peer: int) -> None:
    """Raise ControlError unless ``address`` (CID and port) is of the machine ``peer``."""
    if address[0] != peer:
        raise ControlError(f"CID {address[0]} came over vsock, and only CID {peer} may", kind="permission-denied")
