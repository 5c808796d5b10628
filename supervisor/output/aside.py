"""A log file on a file system whose server may never answer: whatever touches it is done in a thread, so that only it waits.

write(2) to a dead NFS server or FUSE program does not return, whatever the flags, and neither do open(2), stat(2) and close(2). So
each stream may have one block under way here, which bounds the memory, and is full until that is written; then ``onFull``
decides, as for every sink. What hangs holds no other file up, nor a shutdown. It does hold up a reexec, which says so: execve(2)
waits for all threads, and such a one cannot even be killed.

A local file pays nothing for this. Here a block costs some 0.3 ms more, which leaves about a third of the throughput (130 MB/s).

Imported when there is such a file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, describe, refused
from ocelot.linux.threads import make_sure_of_room
from supervisor.output.logfile import LogFile, Start, User
from supervisor.output.sinks import Counters, FileSink

if TYPE_CHECKING:
    from supervisor.snapshots import LogFileSnapshot

STALL = 1.0
"""Seconds without an answer after which it is told, and whoever drops drops."""

RETRY = 1.0
"""Seconds until a full file is tried again."""

Deed = Callable[[], object]


class AsideFile:
    """As :class:`LogFile`, in a thread. Two of them never run at once for one file."""

    def __init__(self, path: str, rotation: structs.Rotation | None, *, start: Start) -> None:
        self.path = path
        self._file = LogFile(path, rotation, start=self._start_later, warn=self._warn_later)
        self._start = start
        self._blocks: dict[User, bytes] = {}  # what is under way
        self._lost: dict[User, OSError] = {}  # why the last block of a stream was not written
        self._deeds: dict[object, Deed] = {}  # by what they are: to do the same twice is to do it once
        self._later: list[Callable[[], Awaitable[None]]] = []
        self._warnings: list[str] = []
        self._busy = False
        self._began: float | None = None  # when the thread was started that has not come back
        self._silent = False  # that was told
        self._done = trio.Event()
        self._loop: object = None  # that all this is done for; if it is broken, nothing will come of it any more

    @property
    def sharers(self) -> int:
        return self._file.sharers

    @sharers.setter
    def sharers(self, count: int) -> None:
        self._file.sharers = count

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def why(self) -> OSError | None:
        return self._file.why

    def configure(self, rotation: structs.Rotation | None) -> None:
        self._do("configure", partial(self._file.configure, rotation))

    def open(self, user: User) -> None:
        """It is opened with the first block."""

    def close(self, user: User) -> None:
        self._do(user, partial(self._file.close, user))

    def rotate(self) -> None:
        """Soon. What is wrong with it is told in the log."""
        self._do("rotate", self._file.rotate)

    def write(self, data: bytes, user: User) -> int:
        """All of ``data`` is taken, or nothing while a block of ``user`` is under way. Raises OSError: so its last block has ended."""
        if user in self._blocks:
            return 0
        if (error := self._lost.pop(user, None)) is not None:
            raise error
        self._blocks[user] = data
        self._kick()
        return len(data)

    def under_way(self, user: User) -> int:
        """Bytes of ``user`` that are not written yet."""
        return len(self._blocks.get(user, b""))

    async def ready(self, user: User, stall: float | None) -> bool:
        """Wait until nothing of ``user`` is under way; false if that has taken ``stall`` seconds by now."""
        while user in self._blocks:
            due = (trio.current_time() if self._began is None else self._began) + STALL
            with trio.move_on_at(due if not self._silent or stall is not None else float("inf")):
                await self._done.wait()
                continue
            if self._began is not None and not self._silent:
                self._silent = True
                log.warn(f'the log file "{self.path}" does not answer: its file system hangs')
            if stall is not None:
                await trio.lowlevel.checkpoint()
                return False
        await trio.lowlevel.checkpoint()
        return True

    # -- across images

    def snapshot(self, user: User) -> LogFileSnapshot:
        from supervisor.snapshots import NotNow

        if self._busy and self._loop is trio.lowlevel.current_trio_token():
            raise NotNow(
                f'the log file "{self.path}" does not answer' if self._silent else f'"{self.path}" is being written to'
            )
        return self._file.snapshot(user)

    def restore(self, kept: LogFileSnapshot, user: User) -> None:
        self._file.restore(kept, user)

    # -- inside

    def _do(self, what: object, deed: Deed) -> None:
        self._deeds[what] = deed
        self._kick()

    def _kick(self) -> None:
        if not self._busy:
            self._busy = True
            self._loop = trio.lowlevel.current_trio_token()
            self._start(self._work)

    async def _work(self) -> None:
        """Until there is nothing to do."""
        limiter = trio.CapacityLimiter(1)  # a hung one must not take its place from anybody else
        try:
            while self._blocks or self._deeds:
                if not _is_room():
                    await trio.sleep(RETRY)
                    continue
                blocks, deeds = dict(self._blocks), dict(self._deeds)
                self._deeds.clear()
                self._began = trio.current_time()
                try:
                    written = await trio.to_thread.run_sync(
                        self._touch, blocks, deeds.values(), abandon_on_cancel=True, limiter=limiter
                    )
                except RuntimeError as error:
                    if not refused(error):
                        raise
                    self._deeds = {**deeds, **self._deeds}  # there was no thread: nothing of this was done
                    await trio.sleep(RETRY)
                    continue
                finally:
                    self._began = None
                self._answered()
                if not self._settle(blocks, written):
                    await trio.sleep(RETRY)
        finally:
            self._busy = False

    def _touch(self, blocks: dict[User, bytes], deeds: Iterable[Deed]) -> dict[User, int | OSError]:
        """In the thread: how much of each block was written, or why not."""
        written: dict[User, int | OSError] = {}
        for user, data in blocks.items():
            try:
                written[user] = self._file.write(data, user)
            except OSError as error:
                written[user] = error
            except MemoryError:
                written[user] = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        for deed in deeds:
            try:
                deed()
            except (OSError, OcelotError, MemoryError) as error:
                self._warn_later(f'"{self.path}": {describe(error)}')
        return written

    def _settle(self, blocks: dict[User, bytes], written: dict[User, int | OSError]) -> bool:
        """What has become of the blocks. False: the file is full."""
        full = False
        for user, outcome in written.items():
            if isinstance(outcome, OSError):
                user.lost(len(blocks[user]))
                self._lost[user] = outcome
                del self._blocks[user]
            elif outcome < len(blocks[user]):
                self._blocks[user] = blocks[user][outcome:]
                full = True
            else:
                del self._blocks[user]
        before, self._done = self._done, trio.Event()
        before.set()
        return not full

    def _answered(self) -> None:
        if self._silent:
            self._silent = False
            log.info(f'the log file "{self.path}" answers again')
        while self._warnings:
            log.warn(self._warnings.pop(0))
        while self._later:
            self._start(self._later.pop(0))

    def _start_later(self, work: Callable[[], Awaitable[None]]) -> None:
        """Called in the thread, which is not to touch the loop."""
        self._later.append(work)

    def _warn_later(self, words: str) -> None:
        self._warnings.append(words)


def _is_room() -> bool:
    try:
        make_sure_of_room()
    except OSError:
        return False
    return True


class AsideSink(FileSink):
    """One stream's part in such a file."""

    file: AsideFile

    def __init__(self, file: AsideFile, counters: Counters) -> None:
        super().__init__(file, counters)

    @property
    def backlog(self) -> int:  # type: ignore[override]
        return self.file.under_way(self)

    async def ready(self, stall: float | None) -> bool:
        return await self.file.ready(self, stall)
