"""Log throughput: a service writes as fast as it can, next to a bare loop that reads 64 KiB and writes them to a file.

The service times itself, from its first write to the return of its last, which is when all but the last pipe-full has been
taken from it. Every system writes into a new folder of the same file system; the rounds go in turns, so that a busy minute of
the host falls on all of them, and the medians count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration.bench.figures import Figure

WRITER = """
import os, sys, time
block = (b"127.0.0.1 - - [23/Nov/2026:09:45:00 +0000] GET /index.html HTTP/1.1 200 612 curl/7.88.1 ########\\n" * 700)[:65536]
began = time.monotonic()
for _ in range(int(sys.argv[1])):
    os.write(1, block)
took = time.monotonic() - began
with open(sys.argv[2] + ".new", "w") as file:
    file.write(str(took))
os.rename(sys.argv[2] + ".new", sys.argv[2])
time.sleep(float(sys.argv[3]))
"""
"""Blocks that do not end with a line, as those of a busy program do not."""

RELAY = """
import os
file = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while block := os.read(0, 65536):
    os.write(file, block)
"""

BLOCK = 65536
LIMIT = 10_000_000
KEPT = 5
PATIENCE = 120.0

BARE = "bare relay"
ROTATED = "ocelot, rotated"
PLAIN = "ocelot, one file"
OCELOT: dict[str, dict[str, Any]] = {
    PLAIN: {},
    ROTATED: {"rotation": {"maxSizeBytes": LIMIT, "maxFiles": KEPT}},
    "ocelot, rotated, json": {"rotation": {"maxSizeBytes": LIMIT, "maxFiles": KEPT}, "format": "json"},
    "ocelot, rotated, gzip": {"rotation": {"maxSizeBytes": LIMIT, "maxFiles": KEPT, "compression": "gzip"}},
}

System = Callable[[Path, list[str]], "list[str] | str"]


def measure(folder: Path, rounds: int = 5, megabytes: int = 300, supervisord: str | None = None) -> dict[str, Figure]:
    """MB/s by system, as many ``rounds`` each; peers that are not installed are left out."""
    taken: dict[str, list[float]] = {}
    blocks = megabytes * 1_000_000 // BLOCK
    for _ in range(rounds):
        for name, system in systems(supervisord).items():
            place = folder / "place"
            place.mkdir()
            try:
                seconds = one(place, blocks, system)
            finally:
                shutil.rmtree(place)
            taken.setdefault(name, []).append(blocks * BLOCK / 1e6 / seconds)
    return {name: Figure(tuple(found), "MB/s") for name, found in taken.items()}


def systems(supervisord: str | None) -> dict[str, System]:
    """What is measured: each makes its files in a folder and returns the command that runs the writer there."""
    found: dict[str, System] = {BARE: _bare}
    for name, log in OCELOT.items():
        found[name] = _ocelot(log)
    if supervisord is not None:
        found["supervisord, rotated"] = _supervisord(supervisord)
    if shutil.which("s6-log"):
        found["s6-log, rotated"] = _piped(f"s6-log n{KEPT} s{LIMIT} ./logs")
    if shutil.which("svlogd"):
        found["svlogd, rotated"] = _piped("svlogd -b 65536 ./logs", f"s{LIMIT}\nn{KEPT}\n")
    return found


def one(place: Path, blocks: int, system: System) -> float:
    """Seconds that the writer took."""
    done = place / "done"
    writer = [sys.executable, "-c", WRITER, str(blocks), str(done)]
    command = system(place, writer)
    with _running(command, place) as process:
        deadline = time.monotonic() + PATIENCE
        while not done.exists():
            if process.poll() not in (None, 0) or time.monotonic() > deadline:
                raise RuntimeError(f"{command} has not come to its end: {(place / 'out').read_text()[-2000:]}")
            time.sleep(0.02)
        return float(done.read_text())


@contextmanager
def _running(command: list[str] | str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (place / "out").open("wb") as out:
        process = subprocess.Popen(
            command, shell=isinstance(command, str), cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.poll() is None and not isinstance(command, str):  # a pipeline ends by itself
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _quoted(words: list[str]) -> str:
    import shlex

    return shlex.join(words)


def _bare(_place: Path, writer: list[str]) -> str:
    return f"{_quoted([*writer, '0'])} | {_quoted([sys.executable, '-c', RELAY])}"


def _piped(logger: str, config: str = "") -> System:
    def system(place: Path, writer: list[str]) -> str:
        (place / "logs").mkdir()
        if config:
            (place / "logs" / "config").write_text(config)
        return f"{_quoted([*writer, '0'])} | {logger}"

    return system


def _ocelot(log: dict[str, Any]) -> System:
    def system(place: Path, writer: list[str]) -> list[str]:
        stdout = {"destination": {"type": "file", "path": str(place / "log")}, **log}
        process = {"program": writer[0], "arguments": [*writer[1:], "0"], "log": {"stdout": stdout}}
        file = place / "ocelot.yaml"
        control = {"socket": str(place / "control.sock")}
        file.write_text(json.dumps({"version": "1.0", "processes": {"writer": process}, "control": control}))
        return [sys.executable, "-m", "ocelot", "supervise", str(file)]

    return system


def _supervisord(program: str) -> System:
    def system(place: Path, writer: list[str]) -> list[str]:
        _configure_supervisord(place, writer)
        return [program, "-c", str(place / "supervisord.conf")]

    return system


def _configure_supervisord(place: Path, writer: list[str]) -> None:
    script = place / "writer.py"
    script.write_text(WRITER)
    (place / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nuser={_user()}\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={place}/pid\n"
        f"[program:writer]\ncommand={writer[0]} {script} {writer[3]} {writer[4]} 1000\nautorestart=false\nstartsecs=0\n"
        f"stdout_logfile={place}/log\nstdout_logfile_maxbytes={LIMIT}\nstdout_logfile_backups={KEPT}\n"
    )


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m integration.bench.logs", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each system (5)")
    parser.add_argument("--megabytes", type=int, default=300, help="that the service writes (300)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ocelot-logs-") as name:
        found = measure(Path(name), options.rounds, options.megabytes, shutil.which("supervisord"))
    bare = found[BARE].value
    for system, figure in found.items():
        spread = f"{min(figure.samples):,.0f}-{max(figure.samples):,.0f}"
        print(f"{system:<24} {figure.value:>7,.0f} MB/s  {figure.value / bare:>5.2f} of a bare relay  ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
