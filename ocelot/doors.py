"""Where a life can be spoken to: what listens, beside the control socket, and what of it changes while ocelot runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.door import Door

if TYPE_CHECKING:
    from ocelot.pid1 import Life


async def serve_vsock(life: Life) -> None:
    """Answer the host of this machine. Raises ControlError if nobody can listen there."""
    from supervisor.vsock import serve

    vsock = life.config.control.vsock
    assert vsock is not None
    await serve(life, vsock.port, door=life.doors.setdefault("vsock", Door()))
