"""A client of the control socket for programs, under trio or asyncio (through anyio)."""

from ocelot.client.api import WAIT, Client
from ocelot.client.attached import Attached

__all__ = ["WAIT", "Attached", "Client"]
