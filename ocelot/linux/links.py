"""Files in folders of others: whoever may write there can put a link to any file of the machine in place of ours.

The kernel's own guards, fs.protected_symlinks and fs.protected_hardlinks (proc_sys_fs(5)), are off until somebody sets them, and
the first one means folders like /tmp only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_MOST = 40
"""Links in a row, as in the kernel: path_resolution(7)."""


def open_past_links(path: str, flags: int, mode: int = 0o600) -> int:
    """open(2), where the last part of ``path`` may be a link only if that belongs to root or to us. Raises OSError."""
    for _ in range(_MOST):
        try:
            return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno != errno.ELOOP or not os.path.islink(path):
                raise
        if path.startswith("/proc/"):  # /dev/stdout ends there, where nobody puts links; and their text is no path
            return os.open(path, flags | os.O_CLOEXEC, mode)
        path = os.path.join(os.path.dirname(path), _target(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _target(path: str) -> str:
    link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(link).st_uid
        if owner not in _trusted():
            raise OSError(errno.ELOOP, f"it is a symbolic link of uid {owner}, which is not followed", path)
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def may_be_planted(about: os.stat_result, folder: os.stat_result) -> bool:
    """Whether ``about``, what has a name in ``folder``, may be somebody else's, linked there by another who may write to the folder."""
    if about.st_nlink < 2 or stat.S_ISDIR(about.st_mode):
        return False
    return folder.st_uid not in {*_trusted(), about.st_uid} or bool(folder.st_mode & stat.S_IWOTH)


@contextmanager
def held(path: str, *, dir_fd: int | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """What is at ``path`` now, never what a link there leads to: its status, and a path that goes on to mean it. Raises OSError.

    chown(2) and chmod(2) of a name in a folder of somebody else would change what is put in its place meanwhile.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        yield f"/proc/self/fd/{fd}", os.fstat(fd)
    finally:
        os.close(fd)


@contextmanager
def held_socket(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The same of the socket that we have bound there a moment ago. Raises OSError: it is something else by now."""
    with held(path) as (same, about):
        if not stat.S_ISSOCK(about.st_mode) or about.st_nlink != 1:
            raise OSError(errno.EEXIST, "something else was put in the place of the new socket", path)
        yield same, about


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()
