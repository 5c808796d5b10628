"""``ocelotctl reexec`` under load: who dies meanwhile is counted, whoever writes loses nothing, whoever connects is answered."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.desk import SLEEPER, Desk, await_socket, desk
from integration.reexecs import by_name, reexec, until

TIMES = 6
WRITERS = 3
CHECKOUT = Path(__file__).parent.parent


def crasher(tally: Path, end: str) -> dict[str, Any]:
    """Writes a line for each start, and ends at once or after a moment."""
    script = f'echo x >> "{tally}"; {end}'
    policy = {"type": "Always", "backoff": "20ms", "multiplier": 1, "successExitCodes": []}
    return {"program": "/bin/sh", "arguments": ["-c", script], "restartPolicy": policy}


def writer(path: Path) -> dict[str, Any]:
    """Counts on its standard output, which goes to a file that is rotated all the time, until there is a file ``enough``."""
    enough = path.parent / "enough"
    script = (
        f'i=0; while [ ! -e "{enough}" ]; do i=$((i+1)); echo line $i; done; echo $i > "{path}.count"; exec sleep 1000'
    )
    stream = {
        "destination": {"type": "file", "path": str(path)},
        "rotation": {"maxSizeBytes": "256KiB", "maxFiles": 5000},
    }
    return {"program": "/bin/sh", "arguments": ["-c", script], "log": {"stdout": stream}}


def written(path: Path) -> list[str]:
    """All lines of a log file and of what it was before, in order."""

    def age(old: Path) -> tuple[str, int]:
        stamp, _, number = old.name.rpartition("-")
        return stamp, int(number)

    old = sorted(path.parent.glob(f"{path.name}.*Z-*"), key=age)
    return b"".join(each.read_bytes() for each in [*old, path]).decode().splitlines()


class Hammer(threading.Thread):
    """Asks for the status without a pause, each time on a connection of its own."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.answers = 0
        self.failures: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(20)
                    connection.connect(self.path)
                    connection.sendall(
                        b"GET /v1/status?name=sleeper-0 HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n"
                    )
                    answer = b""
                    while piece := connection.recv(65536):
                        answer += piece
                if not answer.startswith(b"HTTP/1.1 200"):
                    self.failures.append(answer[:200].decode())
                self.answers += 1
            except OSError as error:
                self.failures.append(repr(error))


@contextmanager
def hammering(path: str) -> Iterator[Hammer]:
    hammer = Hammer(path)
    hammer.start()
    yield hammer
    hammer.ended.set()
    hammer.join(30)


def check_all(running: Desk, folder: Path) -> None:
    """Replace it again and again under load, and then hold everything against everything."""
    assert running.ctl("start", "sleeper-*").returncode == 0  # which waits for them
    before = by_name(running.json("status"))
    with hammering(running.socket) as hammer:
        for turn in range(1, TIMES + 1):
            reply = reexec(running)
            assert reply["turn"] == turn
            print(f"away for {reply['away'] * 1000:.0f} ms")
            seen = by_name(running.json("status"))
            for name, each in seen.items():
                assert each["restarts"] >= before[name]["restarts"], name
                if name.startswith("sleeper"):
                    assert (each["pid"], each["startedAt"]) == (before[name]["pid"], before[name]["startedAt"])
                    assert each["uptime"] > before[name]["uptime"]
            before = seen
    assert hammer.failures == []
    assert hammer.answers > 50
    (folder / "enough").touch()
    for number in range(WRITERS):
        path = folder / f"writer-{number}.log"
        last = int(content_of(Path(f"{path}.count")))
        assert last > 10_000
        awaited = time.monotonic() + 20
        while (lines := written(path))[-1:] != [f"line {last}"]:
            assert time.monotonic() < awaited
            time.sleep(0.05)
        assert lines == [f"line {i}" for i in range(1, last + 1)]
    running.ctl("stop", "crasher-*", "killed-*")
    after = by_name(running.json("status"))
    for name, each in after.items():
        tally = folder / name
        if tally.exists():
            starts = len(tally.read_bytes().splitlines())
            assert starts in (each["restarts"], each["restarts"] + 1), (
                name
            )  # the last one may be stopped before it wrote
            assert starts > TIMES  # it died all along
            kind = "signal" if name.startswith("killed") else "exit"
            assert set(each["restartsByCause"]) == {kind}, name
    assert zombies_of(running.process.pid) == []


def content_of(path: Path) -> str:
    """Of a file that is about to be written."""
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def zombies_of(parent: int) -> list[str]:
    done = subprocess.run(
        ["ps", "--ppid", str(parent), "-o", "stat=,comm="], capture_output=True, text=True, check=False
    )
    return [line for line in done.stdout.splitlines() if line.startswith("Z")]


def load(folder: Path) -> dict[str, Any]:
    processes: dict[str, Any] = {f"sleeper-{n}": SLEEPER for n in range(20)}
    for n in range(13):
        processes[f"crasher-{n}"] = crasher(folder / f"crasher-{n}", f"sleep 0.{n:02}; exit {n}")
        processes[f"killed-{n}"] = crasher(folder / f"killed-{n}", f"sleep 0.{n:02}; kill -9 $$")
    for n in range(WRITERS):
        processes[f"writer-{n}"] = writer(folder / f"writer-{n}.log")
    return processes


def test_under_load_nothing_is_lost(tmp_path: Path) -> None:
    with desk(tmp_path, load(tmp_path), logLevel="error") as running:
        check_all(running, tmp_path)


@pytest.mark.root
def test_as_pid_1_of_a_namespace(tmp_path: Path) -> None:
    file = tmp_path / "ocelot.json"
    path = str(tmp_path / "control.sock")
    processes = {
        "sleeper": SLEEPER,
        "orphans": {
            "program": "/bin/sh",
            "arguments": ["-c", "while :; do (sleep 0.05 &); sleep 0.02; done"],
        },
    }
    file.write_text(json.dumps({"version": "1.0", "processes": processes, "control": {"socket": path}}))
    command = [
        "unshare",
        "--fork",
        "--pid",
        "--mount-proc",
        "--kill-child",
        sys.executable,
        "-m",
        "ocelot",
        "supervise",
    ]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, str(file)], stdout=output, stderr=output, cwd=CHECKOUT)
    try:
        await_socket(path, process)
        running = Desk(path, process, log)
        before = reaped(running)
        for turn in range(1, 4):
            assert reexec(running)["turn"] == turn
            assert reaped(running) >= before
            until(lambda before=before: reaped(running) > before)
            before = reaped(running)
        status = running.json("status")
        assert status["identity"] == "container"
        assert status["pid"] == 1
        assert by_name(status)["sleeper"]["restarts"] == 0
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(20) == 0
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        process.kill()
        process.wait()


def reaped(running: Desk) -> float:
    lines = running.ctl("metrics").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("ocelot_reaped_orphans_total ")]
    return float(line.split()[1])
