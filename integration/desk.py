"""``ocelot supervise`` on a desk: a real one, started for a test, with its sockets in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocelot.wire.client import call

PATIENCE = 30.0
SLEEPER = {"program": "/bin/sleep", "arguments": ["1000"]}


@dataclass
class Desk:
    socket: str
    process: subprocess.Popen[bytes]
    log: Path

    def ctl(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run ``ocelotctl``."""
        command = [sys.executable, "-m", "ocelot.ctl", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ctl(*arguments, "--json").stdout)

    def processes(self) -> dict[str, Any]:
        """The status of each process, by name; asked in this process, which is quicker than :meth:`ctl`."""
        return {each["name"]: each for each in call(self.socket, "GET", "/v1/status")["processes"]}

    def until(self, happened: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The processes by name as soon as ``happened`` is true of them."""
        deadline = time.monotonic() + PATIENCE
        while not happened(found := self.processes()):
            assert time.monotonic() < deadline, {name: (each["state"], each["reason"]) for name, each in found.items()}
            time.sleep(0.02)
        return found

    def until_connected(self) -> None:
        """Until somebody's connection to the control socket stands (/proc/net/unix: state 3, SS_CONNECTED)."""
        deadline = time.monotonic() + PATIENCE
        bound = (f" {self.socket}", f" {self.socket}.new")  # it was renamed since
        while not any(
            line.endswith(bound) and line.split()[5] == "03" for line in Path("/proc/net/unix").read_text().splitlines()
        ):
            assert time.monotonic() < deadline, "nobody came"
            time.sleep(0.02)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "OCELOT_SOCKET": self.socket}

    def curl(self, path: str, *arguments: str, **identity: Any) -> tuple[int, str]:
        """HTTP status and body, asked by curl, as another user if ``identity`` says so (as in subprocess)."""
        command = ["curl", "-s", "-w", "\n%{http_code}", "--unix-socket", self.socket, f"http://o{path}", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd="/", **identity
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


@contextmanager
def desk(
    folder: Path,
    processes: dict[str, Any],
    *,
    program: Sequence[str] = (sys.executable, "-m", "ocelot"),
    **sections: Any,
) -> Iterator[Desk]:
    """Supervise ``processes`` while the block runs. Shows what ocelot said when the block fails."""
    path = str(folder / "run" / "control.sock")
    file = folder / "ocelot.yaml"
    control = {"socket": path, **sections.pop("control", {})}
    file.write_text(json.dumps({"version": "1.0", "processes": processes, "control": control, **sections}))
    with supervising(file, path, program) as machine:
        yield machine


@contextmanager
def supervising(file: Path, path: str, program: Sequence[str] = (sys.executable, "-m", "ocelot")) -> Iterator[Desk]:
    """Supervise the processes of ``file``, whose control socket is ``path``; otherwise as :func:`desk`."""
    log = file.with_name("log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*program, "supervise", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await_socket(path, process)
        yield Desk(path, process, log)
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def await_socket(path: str, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens at ``path``; fails when ``process`` ends first or the deadline passes."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return
        assert process.poll() is None, "ocelot ended before its control socket was there"
        assert time.monotonic() < deadline, f"nobody listens at {path}"
        time.sleep(0.02)
