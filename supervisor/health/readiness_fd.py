"""Readiness as s6 has it: the process writes a newline to a descriptor (https://skarnet.org/software/s6/notifywhenup.html)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from ocelot import log
from supervisor.health.notify import Ears
from supervisor.process.surroundings import Handed

if TYPE_CHECKING:
    from supervisor.snapshots import NotifySnapshot


class Newline:
    """``notify: {fd: N}``: a pipe for each life, whose writing end is descriptor ``number`` in the child."""

    extended_to = 0.0

    def __init__(self, name: str, number: int, relay: Ears) -> None:
        self.name = name
        self.number = number
        self.ready = trio.Event()
        self._relay = relay
        self._reader = -1

    @property
    def word(self) -> str:
        return f"a newline on descriptor {self.number}"

    def handles(self) -> Handed:
        """A new pipe. Raises OSError."""
        self.close()
        self.ready = trio.Event()
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        return Handed(descriptors={self.number: writer}, ours=(writer,))

    def begin(self, leader: int) -> None:
        """The process has started; its pid does not matter: only it and what it starts hold the other end."""
        if self._reader >= 0:
            self._relay.add_again(self._reader, self._readable)

    def snapshot(self) -> NotifySnapshot:
        from supervisor.snapshots import NotifySnapshot

        return NotifySnapshot(fd=self._reader, ready=self.ready.is_set())

    def restore(self, kept: NotifySnapshot) -> None:
        """Go on with the pipe of the image before this one."""
        self._reader = kept.fd
        if kept.ready:
            self.ready.set()

    def catch_up(self) -> None:
        """Take what has come: it may be we who had no time, and not the process."""
        if self._reader >= 0:
            self._readable()

    def close(self) -> None:
        reader, self._reader = self._reader, -1
        if reader >= 0:
            self._relay.remove(reader)
            os.close(reader)

    def _readable(self) -> None:
        try:
            data = os.read(self._reader, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if b"\n" in data:
            self.ready.set()
        elif data:
            return
        else:
            log.warn(f"{self.name}: notify: descriptor {self.number} was closed without a newline")
        self.close()  # one newline is all that there is to say
