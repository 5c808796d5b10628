"""``ocelot zombie`` makes zombies, to see whether an init reaps them; ``ocelot zombie-finder`` lists them with their parents."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

from msgspec import Struct, json

from ocelot.linux.procstat import ProcStat, procstat
from supervisor.children.spawn import fork_exiting


class Zombie(Struct, frozen=True, kw_only=True):
    """A dead process that its parent has not waited for. ``name``: as in proc_pid_comm(5)."""

    pid: int
    name: str
    parent: int
    parent_name: str


def make(count: int, *, orphans: bool = False) -> int:
    """Make ``count`` zombies and wait for a signal (SIGTERM, SIGINT) before going away, with them.

    ``orphans``: they are left to the init at once instead, and this returns. For tests of other people's inits too.
    """
    if orphans:
        fork_exiting(1, before=lambda: fork_exiting(count))
        os.wait()
        print(f"left {count} orphans to process {os.getppid()} or a subreaper before it")
        return 0
    pids = fork_exiting(count)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before sigwait(3), else they kill us, or are lost on a PID 1
    print(f"made {len(pids)} zombies; their parent is {os.getpid()}", flush=True)
    signal.sigwait(ends)
    return 0


def find() -> Iterator[Zombie]:
    """All zombies in /proc, by pid."""
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        found = procstat(name)
        if found is not None and found.state == "Z":
            above = procstat(found.parent)
            yield Zombie(
                pid=int(name),
                name=_text(found),
                parent=found.parent,
                parent_name=_text(above) if above is not None else "",
            )


def report(*, as_json: bool = False) -> int:
    """Print the zombies; 0 if there are none, else 1."""
    zombies = list(find())
    if as_json:
        sys.stdout.write(json.encode(zombies).decode() + "\n")
    elif zombies:
        width = max(len(zombie.name) for zombie in zombies)
        print(f"{'PID':>7}  {'NAME':<{width}}  {'PARENT':>7}  PARENT'S NAME")
        for zombie in zombies:
            print(f"{zombie.pid:>7}  {zombie.name:<{width}}  {zombie.parent:>7}  {zombie.parent_name}")
    else:
        print("there are no zombies")
    return 1 if zombies else 0


def _text(found: ProcStat) -> str:
    return found.name.decode("utf-8", "replace")
