"""When memory runs out the kernel is to end a service, not the one who would start it again: proc_pid_oom_score_adj(5).

The init of a machine is never chosen. Elsewhere we are, like anybody else: a python of 25 MiB among ten programs that leak
together is soon the largest. So we take ourselves out, where we may (CAP_SYS_RESOURCE), and give each child what we were given
ourselves. One that runs code of ours before its program sets that itself. Else it inherits the value of the moment of its
(v)fork: ours is the old one until execve(2). (To write it into /proc/PID afterwards would come too late for what the child has
forked by then.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATH = "/proc/self/oom_score_adj"
NEVER = -1000


class Shield:
    """``inherited``: the value that we were started with, and every child gets."""

    def __init__(self, fd: int, inherited: int, path: str) -> None:
        self.inherited = inherited
        self._fd = fd
        self._path = path

    @classmethod
    def take(cls, inherited: int | None = None, *, path: str = PATH) -> Shield | None:
        """Take ourselves out; None where that is not allowed, or there is no /proc.

        ``inherited``: the value of the start, if an image before this one has taken us out already.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if inherited is None:
                inherited = int(os.pread(fd, 20, 0))
            os.pwrite(fd, b"%d" % NEVER, 0)
        except (OSError, ValueError):
            os.close(fd)
            return None
        return cls(fd, inherited, path)

    @contextmanager
    def down(self) -> Iterator[None]:
        """While the block runs we are what our children are to be. Only in the main thread: the value is that of all threads."""
        os.pwrite(self._fd, b"%d" % self.inherited, 0)
        try:
            yield
        finally:
            with suppress(OSError):  # we may not any more; nothing else depends on it
                os.pwrite(self._fd, b"%d" % NEVER, 0)

    def leave(self) -> None:
        """In a forked child: be what children are to be. Raises OSError."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)  # ours leads to the parent
        try:
            os.write(fd, b"%d" % self.inherited)
        finally:
            os.close(fd)

    def drop(self) -> None:
        """Be what we were at the start, for good."""
        with suppress(OSError):
            os.pwrite(self._fd, b"%d" % self.inherited, 0)
        os.close(self._fd)
