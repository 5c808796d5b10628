"""A log file: appended to by one or several streams, rotated between lines, found again when somebody has moved it.

All streams of a set that name the same path share one :class:`LogFile`, so that they rotate together and no line of one is
cut by another. Nothing here has a timer: whether the file is still the one at its path is looked at once a second while it
is written to, and an interval that has passed takes effect with the next line.

A line is never cut by a rotation: the file that it began in takes all of it and becomes a little larger than the maximum. The
exception is a line longer than the maximum itself, since nothing else would keep such a file from growing for ever.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, describe
from ocelot.linux.links import may_be_planted, open_past_links
from supervisor.output.ring import real_time

if TYPE_CHECKING:
    from supervisor.output.old_files import OldFiles
    from supervisor.snapshots import LogFileSnapshot

RETRY = 1.0
"""Seconds between attempts to open or rotate a file after a failure."""

LOOK = 1.0
"""Seconds between looks at whether the file is still there, while it is written to."""

MODE = 0o640

# Without O_NONBLOCK a fifo in place of the file would hold PID 1 until somebody reads it.
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What passes without anybody who mends the file: it is full, also where it cannot be opened for one of these."""

Start = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs an async function in the background."""

Clock = Callable[[], float]


class User(Protocol):
    """A stream that writes to a log file."""

    def rotated(self) -> None:
        """What it has written made the file rotate."""

    def lost(self, count: int) -> None:
        """So many bytes that were taken from it could not be written after all."""


class SharedFile(Protocol):
    """What several streams may write to: a :class:`LogFile`, or one that may hang (``aside``). See there."""

    sharers: int

    @property
    def size(self) -> int: ...

    @property
    def why(self) -> OSError | None:
        """Why it was full last."""

    def open(self, user: User) -> None: ...
    def close(self, user: User) -> None: ...
    def write(self, data: bytes, user: User) -> int: ...
    def rotate(self) -> None: ...
    def configure(self, rotation: structs.Rotation | None) -> None: ...
    def snapshot(self, user: User) -> LogFileSnapshot: ...
    def restore(self, kept: LogFileSnapshot, user: User) -> None: ...


class LogFile:
    """One log file. ``sharers``: how many streams may write to it; it is open while one of them has it in use."""

    def __init__(
        self,
        path: str,
        rotation: structs.Rotation | None,
        *,
        start: Start,
        now: Clock = real_time,
        clock: Clock = time.monotonic,
        warn: Callable[[str], None] = log.warn,
    ) -> None:
        self.path = path
        self.sharers = 0
        self.why: OSError | None = None  # it was full last
        self._warn = warn
        self._start = start
        self._now = now
        self._clock = clock
        self._fd = -1
        self._identity = (0, 0)
        self.size = 0
        self._line = 0  # bytes of the unfinished line at the end
        self._writer: User | None = None  # whose line that is
        self._users: set[User] = set()
        self._not_before = 0.0
        self._reason = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._look_at = 0.0
        self._boundary = float("inf")  # the real time from which on the next line belongs to a new file
        self._rotate_not_before = 0.0
        self._due = False  # to be rotated at the end of the line
        self._stuck = False  # the last rotation failed, and that was said
        self._old: OldFiles | None = None
        self.configure(rotation)

    def configure(self, rotation: structs.Rotation | None) -> None:
        """Rotate by ``rotation`` from now on."""
        self._rotation = rotation
        self._limit = rotation.max_size_bytes if rotation is not None else None
        self._interval = rotation.rotation_interval if rotation is not None else None
        if rotation is not None:
            if self._old is None:
                from supervisor.output.old_files import OldFiles

                self._old = OldFiles(self.path, create=create_new, start=self._start, now=self._now)
            self._old.rotation = rotation
        if self._fd >= 0:
            self._set_boundary(self._now())

    # -- for the sinks

    def open(self, user: User) -> None:
        """Open it for ``user`` if need be; missing folders are made. Raises OSError, at once for a second after a failure."""
        if self._fd < 0:
            if self._clock() < self._not_before:
                raise self._reason
            try:
                self._open()
            except OSError as error:
                self._fail(error)
                raise
        self._users.add(user)

    def close(self, user: User) -> None:
        """``user`` does not need it now. The last one closes it."""
        self._users.discard(user)
        if self._writer is user:
            self._writer = None  # whatever comes next begins a line
        if not self._users:
            self._close()

    def write(self, data: bytes, user: User) -> int:
        """Append as much of ``data`` as there is space for; how many bytes. Raises OSError when it cannot be written."""
        if self._fd < 0 or user not in self._users:
            try:
                self.open(user)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self.why = error
                return 0
        moment = self._clock()
        try:
            if moment >= self._look_at:
                self._look(moment)
            if self._writer is not user:
                if self._line and not data.startswith(b"\n") and not self._end_line():
                    return 0
                self._writer = user
            if self._rotation is None:
                return self._append_lines(data, 0, len(data))
            return self._append_parts(data, user, moment)
        except OSError as error:
            self._fail(error)
            raise

    def rotate(self) -> None:
        """Rotate now, or, without rotation, open the path anew: an operator's wish. Raises OSError and OcelotError.

        In the middle of a line: as soon as it has ended.
        """
        if self._rotation is None or self._old is None:
            if self._fd >= 0:
                self._open()
        elif self._fd < 0:
            with suppress(FileNotFoundError):
                if os.stat(self.path).st_size:
                    os.close(self._old.replace())
                    self._old.tidy_soon()
        elif self._line:
            self._due = True
        elif self.size:
            self._swap(next(iter(self._users), None))

    # -- across images

    def snapshot(self, user: User) -> LogFileSnapshot:
        """What an image that replaces this one cannot see from the file."""
        from supervisor.snapshots import LogFileSnapshot

        device, inode = self._identity
        line = self._line if self._writer is user else 0
        last = self._old.last if self._old is not None else None
        return LogFileSnapshot(size=self.size, device=device, inode=inode, line=line, last=last)

    def restore(self, kept: LogFileSnapshot, user: User) -> None:
        """Before it is opened: if it is still the same file then, the line goes on that ``user`` has begun."""
        self.size, self._identity = kept.size, (kept.device, kept.inode)
        if kept.line:
            self._line, self._writer = kept.line, user
        if kept.last is not None and self._old is not None:
            self._old.last = kept.last  # else names of the same second would begin with 1 again, where some are gone

    # -- writing

    def _append(self, data: bytes | memoryview) -> int:
        taken = 0
        try:
            taken = os.write(self._fd, data)
            if taken < len(data):  # the kernel says why only to the write after the one that it has cut short
                taken += os.write(self._fd, data[taken:])
        except OSError as error:
            if error.errno in _FULL:
                self.why = error
            elif not taken:
                raise  # else the next write meets it again
        self.size += taken
        return taken

    def _end_line(self) -> bool:
        if not self._append(b"\n"):
            return False
        self._line = 0
        return True

    def _append_parts(self, data: bytes, user: User, moment: float) -> int:
        """Append ``data`` with rotations between its lines where they are due."""
        if moment < self._rotate_not_before:
            return self._append_lines(data, 0, len(data))
        position = 0
        if self._due or (self._interval is not None and self._now() >= self._boundary):
            if self._line:
                position = data.find(b"\n") + 1
                taken = self._append_lines(data, 0, position)
                if taken < position:
                    return taken
            if not self._line:
                self._try_swap(user, moment)
        while position < len(data):
            end = self._part(data, position) if moment >= self._rotate_not_before else len(data)
            try:
                taken = self._append_lines(data, position, end)
            except OSError:
                if position:
                    return position  # the next write meets it again
                raise
            position += taken
            if position < end:
                break
            if position < len(data):
                self._try_swap(user, moment)
        return position

    def _append_lines(self, data: bytes, start: int, end: int) -> int:
        if end <= start:
            return 0
        taken = self._append(data if end - start == len(data) else memoryview(data)[start:end])
        newline = data.rfind(b"\n", start, start + taken) + 1
        self._line = start + taken - newline if newline else self._line + taken
        return taken

    def _part(self, data: bytes, start: int) -> int:
        """Up to where ``data`` from ``start`` on belongs into this file; ``start`` itself: rotate first."""
        limit, room = self._limit, (self._limit or 0) - self.size
        if limit is None or len(data) - start <= room:
            return len(data)
        end = data.rfind(b"\n", start, start + max(room, 0)) + 1
        if end > start:
            return end
        if not self._line and self.size:
            return start
        end = data.find(b"\n", start) + 1 or len(data)
        return min(end, start + max(limit - self._line, 0))  # a line longer than the maximum is cut after all

    # -- rotating

    def _try_swap(self, user: User, moment: float) -> None:
        """Rotate; if that fails, the file goes on growing, it is said once, and tried again later."""
        try:
            self._swap(user)
        except (OSError, OcelotError) as error:
            self._rotate_not_before = moment + RETRY
            if not self._stuck:
                self._stuck = True
                self._warn(f'cannot rotate "{self.path}": {describe(error)}; it goes on growing until that changes')
        else:
            self._stuck = False

    def _swap(self, user: User | None) -> None:
        """The file gets the name of an old one, and a new one its place.

        Raises OSError, or OcelotError for what is no file; then nothing has changed.
        """
        assert self._old is not None
        about = self._path_status()
        if about is None or (about.st_dev, about.st_ino) != self._identity:
            self._open()  # somebody else has rotated it
        elif self.size:
            new = self._old.replace()
            made = os.fstat(new)
            self._close()
            self._fd, self._identity = new, (made.st_dev, made.st_ino)
            self.size = self._line = 0
            if user is not None:
                user.rotated()
            self._old.tidy_soon()
        self._due = False
        self._set_boundary(self._now())

    # -- opening

    def _open(self) -> None:
        """Open or make the file at the path, and find out what it is. Raises OSError; then nothing has changed."""
        try:
            fd = open_past_links(self.path, FLAGS)
        except FileNotFoundError:
            fd = self._create(FLAGS | os.O_CREAT)
        try:
            about = self._examine(fd)
        except OSError:
            os.close(fd)
            raise
        self._close()
        if self._identity != (about.st_dev, about.st_ino) or self.size != about.st_size:
            self._line = 0
        self._fd = fd
        self._identity = (about.st_dev, about.st_ino)
        self.size = about.st_size
        self._not_before = 0.0
        self._look_at = self._clock() + LOOK
        self._set_boundary(about.st_mtime if about.st_size else self._now())

    def _examine(self, fd: int) -> os.stat_result:
        """What was opened. Raises OSError: its folder is another user's, who may have put a link to some other file there."""
        about = os.fstat(fd)
        if self._old is not None:
            self._old.begin(about)
        folder = os.stat(os.path.dirname(self.path) or ".")
        if may_be_planted(about, folder) and may_be_planted(about := os.fstat(fd), folder):
            raise OSError(errno.EMLINK, "it has other names too, and others may write to its folder", self.path)
        return about

    def _create(self, flags: int) -> int:
        try:
            fd = open_past_links(self.path, flags, MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), 0o755, exist_ok=True)
            fd = open_past_links(self.path, flags, MODE)
        mode = self._rotation.mode if self._rotation is not None else None
        if mode is not None:
            with suppress(PermissionError):  # FAT has no modes
                os.fchmod(fd, mode)  # as configured, whatever the umask
        return fd

    def _set_boundary(self, last: float) -> None:
        """The next multiple of the interval after ``last``, the time of the last line."""
        if self._interval is None:
            self._boundary = float("inf")
        else:
            self._boundary = (last // self._interval + 1) * self._interval

    def _look(self, moment: float) -> None:
        """Whoever moves, removes or truncates a log file need not tell us, nor who sets the clock back."""
        self._look_at = moment + LOOK
        if self._interval is not None and self._boundary - (now := self._now()) > self._interval:
            self._set_boundary(now)
        with suppress(OSError):  # what is open still takes what comes; another look follows
            about = self._path_status()
            if about is None or (about.st_dev, about.st_ino) != self._identity:
                self._open()
            else:
                self.size = about.st_size

    def _path_status(self) -> os.stat_result | None:
        try:
            return os.stat(self.path)
        except FileNotFoundError:
            return None

    def _fail(self, error: OSError) -> None:
        self._close()
        self._reason = error
        self._not_before = self._clock() + RETRY

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def create_new(path: str) -> int:
    """A log file that did not exist, open. Raises OSError, FileExistsError among them."""
    return os.open(path, FLAGS | os.O_CREAT | os.O_EXCL, MODE)
