"""Supervision on this machine: start-up, restart, memory, orphans, control; next to a bare trio loop, tini and no one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from integration.bench.figures import Figure
from integration.desk import await_socket
from integration.lab import cache, roots

PATIENCE = 60.0
"""Seconds that any one figure may take."""

ORPHANS = 5_000
"""As many as a busy machine can fork in a few seconds; beyond that it is the forking that takes the time."""

OCELOT = (sys.executable, "-m", "ocelot")

_BARE_TRIO = """\
import os, signal, sys, trio
async def main():
    start = lambda: os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
    with trio.open_signal_receiver(signal.SIGCHLD) as deaths:
        pid = start()
        async for _ in deaths:
            while True:
                try:
                    found, _status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    found = 0
                if found == pid:
                    pid = start()
                if not found:
                    break
trio.run(main)
"""

_ORPHANS = """\
import os, sys, time
ready, gate = os.pipe(), os.pipe()
if os.fork() == 0:
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            os.close(gate[1])
            os.read(gate[0], 1)
            os._exit(0)
    os.write(ready[1], b"x")
    os._exit(0)
os.read(ready[0], 1)
os.wait()
count = lambda: int(open("/proc/loadavg").read().split()[3].split("/")[1])
many = count()
began = time.monotonic()
os.close(gate[1])
while count() > many - int(sys.argv[1]) * 0.99:
    time.sleep(0.002)
print("seconds", time.monotonic() - began, flush=True)
time.sleep(1000)
"""


def reporter(fifo: Path, then: str = "exec sleep 1000") -> list[str]:
    """A program whose first instruction tells its pid through ``fifo``."""
    return [str(roots.BUSYBOX), "sh", "-c", f"echo $$ > {fifo}; {then}"]


class Fifo:
    """Where the measured programs tell their pid; a read waits for one line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "fifo"
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path)
        self._file = os.fdopen(os.open(self.path, os.O_RDWR), "r", buffering=1)

    def pid(self) -> int:
        return int(self._file.readline())

    def close(self) -> None:
        self._file.close()


def write_file(folder: Path, processes: dict[str, Sequence[str]]) -> Path:
    """A file for ``ocelot supervise`` whose processes are restarted at once."""
    always = {"type": "Always", "backoff": "0s", "resetAfter": "1ms"}
    entries = {
        name: {"program": argv[0], "arguments": list(argv[1:]), "restartPolicy": always, "terminationGracePeriod": "1s"}
        for name, argv in processes.items()
    }
    file = folder / "ocelot.yaml"
    content = {"version": "1.0", "logLevel": "error", "control": {"socket": str(folder / "control.sock")}}
    file.write_text(json.dumps({**content, "processes": entries}))
    return file


@contextmanager
def running(argv: Sequence[str], *, own_pids: bool = False) -> Iterator[subprocess.Popen[str]]:
    """``argv`` in a process group of its own, which ends with the block. ``own_pids``: as PID 1 of a namespace."""
    if own_pids:
        argv = ["unshare", "--fork", "--pid", "--kill-child", "--mount-proc", *argv]
    checkout = str(cache.CHECKOUT)
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": checkout, "container": "bench"},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL if own_pids else signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()


def first_service(folder: Path, who: str, runs: int = 7) -> Figure:
    """Milliseconds from starting ``who`` to the first instruction of its first service."""
    fifo = Fifo(folder)
    samples = []
    for _ in range(runs):
        began = time.monotonic()
        with running(_supervising(who, folder, fifo)):
            os.kill(fifo.pid(), 0)
            samples.append((time.monotonic() - began) * 1000)
    fifo.close()
    return Figure(tuple(samples), "ms")


def restart(folder: Path, who: str, runs: int = 50) -> Figure:
    """Milliseconds from ``kill -9`` of a service to the first instruction of its successor."""
    fifo = Fifo(folder)
    samples = []
    with running(_supervising(who, folder, fifo)):
        pid = fifo.pid()
        for _ in range(runs):
            time.sleep(0.01)  # so that nobody is still busy with the start before
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            pid = fifo.pid()
            samples.append((time.monotonic() - began) * 1000)
        os.kill(pid, signal.SIGTERM)
    fifo.close()
    return Figure(tuple(samples), "ms")


def _supervising(who: str, folder: Path, fifo: Fifo) -> list[str]:
    service = reporter(fifo.path)
    match who:
        case "ocelot":
            return [*OCELOT, "supervise", str(write_file(folder, {"service": service}))]
        case "entry":
            return [*OCELOT, "entry", "--", *service]
        case "trio":
            return [sys.executable, "-c", _BARE_TRIO, *service]
        case "tini":
            return ["tini", "-s", "--", *service]
    return service


def memory(folder: Path, services: int) -> Figure:
    """MiB (PSS) of ocelot alone, supervising that many sleeping services."""
    sleeper = [str(roots.BUSYBOX), "sleep", "1000"]
    file = write_file(folder, {f"s{number}": sleeper for number in range(services)})
    with running([*OCELOT, "supervise", str(file)]) as process:
        await_socket(str(folder / "control.sock"), process)  # type: ignore[arg-type]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        _until(lambda: len(children.read_text().split()) == services)
        return Figure((_pss(process.pid),), "MiB")


def memory_of_bare_trio(folder: Path) -> Figure:
    fifo = Fifo(folder)
    with running(_supervising("trio", folder, fifo)) as process:
        os.kill(fifo.pid(), 0)
        found = _pss(process.pid)
    fifo.close()
    return Figure((found,), "MiB")


def _pss(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def control(folder: Path, runs: int = 300) -> tuple[Figure, Figure]:
    """Milliseconds of one status request on the socket, and of a whole ``ocelotctl status``."""
    from ocelot.wire.client import Client

    path = str(folder / "control.sock")
    file = write_file(folder, {"service": [str(roots.BUSYBOX), "sleep", "1000"]})
    asked, called = [], []
    with running([*OCELOT, "supervise", str(file)]) as process:
        await_socket(path, process)  # type: ignore[arg-type]
        for _ in range(runs):
            began = time.monotonic()
            with Client(path) as client:
                assert client.request("GET", "/v1/status").read()
            asked.append((time.monotonic() - began) * 1000)
        for _ in range(7):
            began = time.monotonic()
            argv = [sys.executable, "-m", "ocelot.ctl", "--socket", path, "status"]
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=cache.CHECKOUT)
            called.append((time.monotonic() - began) * 1000)
    return Figure(tuple(asked), "ms"), Figure(tuple(called), "ms")


def orphans(folder: Path, who: str, count: int = ORPHANS) -> Figure | str:
    """Seconds until 99 in 100 of ``count`` orphans that exit at once are gone, with ``who`` as PID 1. Needs root."""
    script = folder / "orphans.py"
    script.write_text(_ORPHANS)
    service = [sys.executable, "-IS", str(script), str(count)]
    init = {"ocelot": [*OCELOT, "entry", "--"], "tini": ["tini", "--"]}[who]
    with running([*init, *service], own_pids=True) as process:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], PATIENCE)[0]:
            return f"not within {PATIENCE:.0f} s"
        line = process.stdout.readline().split()
        return Figure((float(line[1]),), "s") if line else "could not be started"


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("what was waited for did not happen")
        time.sleep(0.01)
