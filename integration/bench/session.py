"""One supervisor under measurement: started with its services, heard from, stopped, and cleared away with all it left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from integration.bench.peers import Peer
from ocelot.linux.syscalls import PR_SET_CHILD_SUBREAPER, prctl
from supervisor.children import proc_tree

PATIENCE = 60.0
"""Seconds that anything may take."""


class Stamps:
    """A fifo where services report: two numbers a line, for most of them their pid and the clock (nanoseconds)."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)
        self._rest = b""
        self._found: list[tuple[int, int]] = []

    def next(self, alive: Callable[[], bool] = lambda: True) -> tuple[int, int]:
        """The next report. Raises TimeoutError when none comes, soon when whoever should send it is not ``alive``."""
        deadline = time.monotonic() + PATIENCE
        while not self._found:
            if not select.select([self._fd], [], [], 1.0)[0]:
                if not alive() or time.monotonic() > deadline:
                    raise TimeoutError("no report came")
                continue
            *lines, self._rest = (self._rest + os.read(self._fd, 65536)).split(b"\n")
            for line in lines:
                first, second = line.split()
                self._found.append((int(first), int(second)))
            self._found.reverse()
        return self._found.pop()

    def close(self) -> None:
        os.close(self._fd)


class Session:
    """``services`` are the pids that were up at the start; ``began``: when the supervisor was started (nanoseconds)."""

    def __init__(self, peer: Peer, folder: Path, process: subprocess.Popen[bytes], stamps: Stamps, began: int) -> None:
        self.peer = peer
        self.folder = folder
        self.process = process
        self.stamps = stamps
        self.began = began
        self.services: list[int] = []
        self.last = began

    def await_services(self, count: int) -> float:
        """Milliseconds from the start of the supervisor to the first instruction of the last of ``count`` services."""
        for _ in range(count):
            pid, at = self.stamps.next(alive=lambda: self.process.poll() is None)
            self.services.append(pid)
            self.last = max(self.last, at)
        return (self.last - self.began) / 1e6

    def supervisors(self) -> list[int]:
        """The pids of the supervisor and its helpers, without the services."""
        services = set(self.services)
        return [pid for pid in [self.process.pid, *descendants(self.process.pid)] if pid not in services]

    def stop(self) -> float:
        """Tell it to end with everything; milliseconds until the supervisor and all services were gone."""
        living = [os.pidfd_open(pid) for pid in [*self.services, *self.supervisors()]]
        began = time.monotonic_ns()
        os.kill(self.process.pid, self.peer.stop)
        for fd in living:
            gone = select.poll()
            gone.register(fd, select.POLLIN)
            if not gone.poll(PATIENCE * 1000):
                raise TimeoutError("a process does not end")
        ended = time.monotonic_ns()
        for fd in living:
            os.close(fd)
        return (ended - began) / 1e6


@contextmanager
def session(
    peer: Peer, folder: Path, count: int, program: Path, *, own_pids: bool = False, **environment: str
) -> Iterator[Session]:
    """Start ``peer`` with ``count`` services; when the block ends, so does everything that it started.

    ``own_pids``: as PID 1 of a namespace, which needs root. ``environment`` is for the services.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives its supervisor becomes ours, and is found and ended
    before = descendants(os.getpid())
    folder.mkdir(exist_ok=True)
    argv = peer.prepare(folder, count, program)
    if own_pids:
        argv = ["unshare", "--fork", "--pid", "--kill-child", "--mount-proc", *argv]
    stamps = Stamps(folder / "stamps")
    variables = {"BENCH_STAMPS": str(folder / "stamps"), **environment}
    began = time.monotonic_ns()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=folder,
        env={**surroundings(peer), **variables},
    )
    try:
        yield Session(peer, folder, process, stamps, began)
    finally:
        if process.poll() is None:
            process.kill()
        clear_away(before)
        process.wait()
        stamps.close()


def surroundings(peer: Peer) -> dict[str, str]:
    """The environment for ``peer`` and its commands: ours without what Python takes from it, which would not be the same for all."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}, **peer.environment}


def descendants(*pids: int) -> list[int]:
    """All processes below ``pids``: from the parents that /proc tells, since the list of children leaves some out while others end."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                entry = proc_tree.parse(Path(f"/proc/{name}/stat").read_bytes())
                children.setdefault(entry.parent, []).append(entry.pid)
    found: list[int] = []
    wanted = list(pids)
    while wanted:
        below = children.pop(wanted.pop(), [])
        found += below
        wanted += below
    return found


def _shown(pid: int) -> str:
    """Its name, state and parent, proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().partition(" ")[2][:40]
    except OSError:
        return "(gone)"


def clear_away(others: Collection[int]) -> None:
    """End every process below this one but ``others`` and what those have started meanwhile, until there is none."""
    deadline = time.monotonic() + PATIENCE
    while left := sorted({*descendants(os.getpid())} - {*others, *descendants(*others)}):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):  # it is not ours yet
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            shown = ", ".join(f"{pid} {_shown(pid)}" for pid in left[:5])
            raise TimeoutError(f"{len(left)} processes cannot be ended: {shown}")
        time.sleep(0.005)


def pss(pids: Sequence[int]) -> float:
    """MiB: the proportional set size of all of ``pids``. proc(5): smaps_rollup."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def switches(pids: Sequence[int]) -> int:
    """How often the threads of ``pids`` have been given a processor. proc(5): the ctxt_switches of status."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/status"):
            lines = path.read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if "ctxt_switches:" in line)
    return total


def run_time(pids: Sequence[int]) -> int:
    """Nanoseconds that the threads of ``pids`` have spent on a processor. proc(5): schedstat."""
    return sum(
        int(path.read_text().split()[0]) for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )
