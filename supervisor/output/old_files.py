"""The old files of one log file: making one of the log file itself, and tidying them in the background.

Imported when a process has ``rotation``.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, describe
from ocelot.linux.threads import make_sure_of_room
from supervisor.output.rotation import SUFFIXES, finish_interrupted, tidy

PAUSE = 0.05
"""Seconds between two rounds of tidying: a file that fills up a hundred times a second needs fewer of them."""

THREADS = 2
"""That tidy at once, however many log files there are."""

_FRESH = ".new"
"""What follows the name of a new log file, before it takes the place of the old one."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class OldFiles:
    """``create``: makes a new log file and opens it, or raises OSError. ``last``: the time and the number in the last name, so that a storm of rotations needs no search."""

    def __init__(
        self,
        path: str,
        *,
        create: Callable[[str], int],
        start: Callable[[Callable[[], Awaitable[None]]], None],
        now: Callable[[], float],
        link: Callable[[str, str], None] = os.link,
    ) -> None:
        self.path = path
        self._create = create
        self.rotation = structs.Rotation()
        self.last = ("", 0)
        self._start = start
        self._now = now
        self._hard_link = link
        self._begun = False
        self._untidy = False  # the last tidying failed, and that was said
        self._tidying = False
        self._again = False

    # -- making one

    def replace(self) -> int:
        """Give the log file the name of an old one, and its place to a new one: that, open. Raises OSError and OcelotError.

        The new one is made first: when there is no space for it, everything stays as it was. At no moment is there no file.
        """
        old = os.lstat(self.path)
        if not stat.S_ISREG(old.st_mode):
            raise OcelotError("it is not a regular file")
        name, fresh, fd = self._make()
        try:
            self._like(fd, old)
            name = self._link(name)
            try:
                os.rename(fresh, self.path)
            except OSError:
                if os.path.lexists(self.path):
                    os.unlink(name)
                else:  # it was renamed, where there are no hard links
                    os.rename(name, self.path)
                raise
        except OSError:
            os.close(fd)
            with suppress(OSError):
                os.unlink(fresh)
            raise
        return fd

    def _make(self) -> tuple[str, str, int]:
        while True:
            name = self._next()
            with suppress(FileExistsError):
                return name, name + _FRESH, self._create(name + _FRESH)

    def _like(self, fd: int, old: os.stat_result) -> None:
        """Mode and owner of a new file: as configured, else those of the one before."""
        with suppress(PermissionError):
            os.fchown(fd, old.st_uid, old.st_gid)
        with suppress(PermissionError):  # FAT has no modes
            os.fchmod(fd, old.st_mode & 0o777 if self.rotation.mode is None else self.rotation.mode)

    def _link(self, name: str) -> str:
        """Give the log file a second name, ``name`` or one that nobody has, and return it. Raises OSError.

        Renaming it over a file that was made to reserve the name would make ext4 write all of it to the disk at once
        (auto_da_alloc, ext4(5)), which costs half of the throughput.
        """
        while True:
            try:
                self._hard_link(self.path, name)
            except FileExistsError:
                name = self._next()
                continue
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # No hard links here (FAT): a rename, after a look, is all there is
                if os.path.lexists(name):
                    name = self._next()
                    continue
                os.rename(self.path, name)
            return name

    def _next(self) -> str:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now()))
        number = self.last[1] if stamp == self.last[0] else 0
        while True:
            number += 1
            self.last = (stamp, number)
            name = f"{self.path}.{stamp}-{number}"
            if not any(os.path.lexists(name + suffix) for suffix in ("", *SUFFIXES.values())):
                return name

    # -- tidying

    def begin(self, about: os.stat_result) -> None:
        """The log file was opened; the first time, do what a crash left undone."""
        if self._begun:
            return
        self._begun = True
        if about.st_nlink > 1:
            with suppress(OSError):
                finish_interrupted(self.path)
        self.tidy_soon()

    def tidy_soon(self) -> None:
        """Remove and compress old files in a thread, one for this log file at a time."""
        if self._tidying:
            self._again = True
        else:
            self._tidying = True
            self._start(self._tidy)

    async def _tidy(self) -> None:
        stopped = False

        def stop() -> bool:
            return stopped

        try:
            self._again = True
            while self._again:
                self._again = False
                work = partial(tidy, self.path, self.rotation, self._now(), stop)
                make_sure_of_room()
                self._tell(await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_limiter()))
                await trio.sleep(PAUSE)
        except Exception as error:  # noqa: BLE001 (old files may stay; the set goes on)
            log.warn(f'cannot tidy the old files of "{self.path}": {describe(error)}')
        finally:
            stopped = True
            self._tidying = False

    def _tell(self, problems: list[str]) -> None:
        """Once, until it went well again."""
        if problems and not self._untidy:
            more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
            log.warn(f"{problems[0]}{more}")
        self._untidy = bool(problems)


def _limiter() -> trio.CapacityLimiter:
    try:
        return _shared.get()
    except LookupError:
        _shared.set(trio.CapacityLimiter(THREADS))
        return _shared.get()


_shared: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("threads that tidy log files")
