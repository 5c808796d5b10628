"""Whose child a process is, and in which process group and session: the first fields of /proc/PID/stat (proc_pid_stat(5))."""

from __future__ import annotations


class ProcStat:
    """Fields 2 to 6. ``state``: one letter, ``Z`` for a zombie. (Not a NamedTuple, which is compiled at every boot.)"""

    __slots__ = ("group", "name", "parent", "session", "state")

    def __init__(self, text: bytes) -> None:
        """Raises ValueError for what is no such line."""
        # The name may contain blanks and parentheses, even ") ": what follows begins after the last one
        head, _, rest = text.rpartition(b") ")
        state, parent, group, session = rest.split(b" ", 4)[:4]
        self.name = head.partition(b"(")[2]
        self.state = state.decode()
        self.parent, self.group, self.session = int(parent), int(group), int(session)


def procstat(pid: int | str, proc: str = "/proc") -> ProcStat | None:
    """Of the process ``pid`` now, dead or alive; None if there is none."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            return ProcStat(file.read())
    except (OSError, ValueError):
        return None
