"""Process groups whose leader is gone: whether there is somebody left in them, and the end of those.

Without its leader a group's number stays taken only as long as a member lives, so the number alone proves nothing.
"""

from __future__ import annotations

import os
import signal

from ocelot.linux.procstat import procstat


def group_lives(group: int) -> bool:
    """Whether the process group has members (zombies count). Sends nothing."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kill_leftovers(group: int) -> int:
    """SIGKILL the members of a group whose leader has been reaped; how many there were.

    Members are found in /proc, held by a pidfd, looked at again, and killed through it. A process whose pid is that number means
    that it was used again: then nothing is done.
    """
    killed = 0
    for _ in range(8):  # members may be forking; one that forks faster than this meets the next shutdown step
        found = 0
        if os.path.exists(f"/proc/{group}"):
            break
        for name in os.listdir("/proc"):
            if name.isdigit() and _in_group(name, group):
                found += _kill_member(int(name), group)
        killed += found
        if not found:
            break
    return killed


def _kill_member(pid: int, group: int) -> int:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        if not _in_group(str(pid), group):
            return 0
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    return 1


def _in_group(pid: str, group: int) -> bool:
    """Whether a living process is in ``group``."""
    found = procstat(pid)
    return found is not None and found.group == group and found.state not in ("Z", "X")
