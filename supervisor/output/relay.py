"""Moving what children write from their pipes to where it belongs: one task and one epoll for all of them.

A task a pipe would cost some kilobytes for each of the thousands of pipes of a large set, and a wake-up of the scheduler
for each block. trio can wait for an epoll descriptor like for any other (epoll(7): it is readable when something in it is
ready), so one task serves all pipes, and a pipe that nobody writes to costs nothing but itself. Only a stream whose
sink is full gets a task, for as long as that lasts, and is not read meanwhile, so the full sink holds up its writer alone.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import trio

from ocelot import log
from ocelot.errors import describe

if TYPE_CHECKING:
    from supervisor.output.formats import Labels
    from supervisor.output.shared_logs import LogFiles

HOLD = 0.1
"""Seconds that the beginning of a line waits for its end, where lines of several writers meet."""

RETRY = 1.0
"""Seconds until something is tried again that failed for want of memory or descriptors."""

_READY = 64


class Held(Protocol):
    """What waits for something else than its pipe."""

    def release(self) -> None:
        """The beginning of a line has waited for its end for long enough."""

    async def wait(self) -> None:
        """Wait for a full sink, then go on."""


class Relay:
    """Calls back when descriptors are readable. Run :meth:`run` in a task; adding and removing works at any time."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._aside: dict[int, Callable[[], None]] = {}  # not watched until a second has passed
        self._unfinished: dict[Held, float] = {}
        self._early: list[Callable[[], Awaitable[None]]] = []  # what was to be done before there was a nursery
        self._nursery: trio.Nursery | None = None
        self._files: LogFiles | None = None
        self._labels: Labels | None = None

    @property
    def files(self) -> LogFiles:
        """The log files of everybody who uses this relay."""
        if self._files is None:
            from supervisor.output.network_files import NetworkFiles
            from supervisor.output.shared_logs import LogFiles

            self._files = LogFiles(self.start_soon, may_hang=NetworkFiles().log_may_hang)
        return self._files

    def labels(self, *, colour: bool) -> Labels:
        """The names on a terminal of everybody who uses this relay."""
        if self._labels is None:
            from supervisor.output.formats import Labels

            self._labels = Labels(colour=colour)
        return self._labels

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` beside the relaying, until that ends. What it raises is logged: it must not end the output of all."""

        async def guarded() -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001
                log.error(f"output: {describe(error)}")

        if self._nursery is None:
            self._early.append(guarded)
        else:
            self._nursery.start_soon(guarded)

    def add(self, fd: int, ready: Callable[[], None], flags: int = 0) -> None:
        """Call ``ready`` whenever ``fd`` can be read or is at its end. Raises OSError: the kernel has no memory for it.

        ``flags``: more of those of epoll_ctl(2).
        """
        if fd not in self._ready:
            self._epoll.register(fd, select.EPOLLIN | flags)
            self._ready[fd] = ready
        self._aside.pop(fd, None)

    def add_again(self, fd: int, ready: Callable[[], None]) -> None:
        """As :meth:`add`, sooner or later: what cannot be done now is tried again, until ``fd`` is removed."""
        try:
            self.add(fd, ready)
        except OSError as error:
            self._set_aside(fd, ready, error)

    def remove(self, fd: int) -> None:
        self._aside.pop(fd, None)
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def expire(self, stream: Held) -> None:
        """Send the unfinished line of ``stream`` when :data:`HOLD` has passed."""
        self._unfinished.setdefault(stream, trio.current_time() + HOLD)

    def settled(self, stream: Held) -> None:
        self._unfinished.pop(stream, None)

    def start(self, stream: Held) -> None:
        """Wait for the full sink of ``stream`` in a task of its own."""
        self.start_soon(stream.wait)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while self._early:
                nursery.start_soon(self._early.pop(0))
            try:
                while True:
                    try:
                        await self._serve_on()
                    except Exception as error:  # noqa: BLE001 (without this everybody's output would end)
                        log.error(f"output: {describe(error)}; going on in {RETRY:g}s")
                        await trio.sleep(RETRY)
            finally:
                self._nursery = None

    def close(self) -> None:
        self._epoll.close()

    async def _serve_on(self) -> None:
        while True:
            if self._unfinished:
                with trio.move_on_at(next(iter(self._unfinished.values()))):
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
            else:  # a scope costs more than the wait itself
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._serve()

    def _serve(self) -> None:
        more = True
        while more:
            before = len(self._ready)
            for fd, _ in self._epoll.poll(0, _READY):
                ready = self._ready.get(fd)
                if ready is not None:
                    try:
                        ready()
                    except Exception as error:  # noqa: BLE001 (one stream must not end the output of all)
                        self._set_aside(fd, ready, error)
            # Who ends closes one stream right after the other: look again rather than be woken again, just when its death comes
            more = len(self._ready) < before
        now = trio.current_time()
        while self._unfinished:
            stream, due = next(iter(self._unfinished.items()))
            if due > now:
                break
            del self._unfinished[stream]
            stream.release()

    def _set_aside(self, fd: int, ready: Callable[[], None], error: Exception) -> None:
        """What failed would fail again at once: have a look at the others meanwhile."""
        log.error(f"output: {describe(error)}; tried again in {RETRY:g}s")

        async def resume() -> None:
            await trio.sleep(RETRY)
            if self._aside.get(fd) is ready:  # else it was removed, and the number may be another's by now
                self.add_again(fd, ready)

        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        self._aside[fd] = ready
        self.start_soon(resume)
