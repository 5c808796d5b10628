"""When PID 1's event loop breaks, for want of memory or by a bug: it goes on from where everything stands, or ends in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.errors import ControlError
from ocelot.wire.client import call

OURS = (sys.executable, "-m", "integration.breaking")
CHECKOUT = Path(__file__).parent.parent
AGAIN = {"restartPolicy": {"type": "Always", "backoff": "100ms"}}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make it, and the loop of whoever is started with OURS breaks."""
    monkeypatch.setenv("BREAK", str(tmp_path / "break"))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    return tmp_path / "break"


def shell(folder: Path, script: str, **more: Any) -> dict[str, Any]:
    return {"program": "/bin/sh", "arguments": ["-c", script], "workingDirectory": str(folder), **more}


def break_it(machine: Desk, broken: Path) -> None:
    """And wait until another image answers."""
    before = machine.log.read_text().count("goes on with")
    broken.touch()
    wake(machine)
    until(lambda: machine.log.read_text().count("goes on with") > before)


def wake(machine: Desk) -> None:
    with suppress(ControlError, OSError):
        call(machine.socket, "GET", "/v1/version", timeout=PATIENCE)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_supervises_on(tmp_path: Path, broken: Path) -> None:
    talks = shell(tmp_path, "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done")
    path = tmp_path / "talks.log"
    talks["log"] = {"stdout": {"destination": {"type": "file", "path": str(path)}}}
    with desk(tmp_path, {"a": {**SLEEPER, **AGAIN}, "b": SLEEPER, "talks": talks}, program=OURS) as machine:
        before = machine.until(lambda found: all(each["state"] == "running" for each in found.values()))
        for turn in (2, 3):
            break_it(machine, broken)
            found = machine.processes()
            assert {name: each["pid"] for name, each in found.items()} == {n: p["pid"] for n, p in before.items()}
            assert f"(image {turn}" in machine.log.read_text()
        subprocess.run(["kill", "-KILL", str(before["a"]["pid"])], check=True)
        machine.until(lambda found: found["a"]["pid"] not in (None, before["a"]["pid"]))
        machine.ctl("stop", "talks")
        lines = path.read_text().splitlines()
        assert lines == [f"line {i}" for i in range(1, len(lines) + 1)], "none is lost, and none is there twice"
        assert machine.log.read_text().count("the event loop broke") == 2


def test_what_was_half_done_is_done(tmp_path: Path, broken: Path) -> None:
    """A stop, a start behind preStart, an end behind postStop that is not to be followed by a start, and one that is."""
    wait = "[ -e $0.begun ] || { echo x >$0.begun; sleep 1000; }"
    commands = {name: {"command": "/bin/sh", "arguments": ["-c", wait, name]} for name in ("before", "after", "then")}
    run = {"workingDirectory": str(tmp_path)}
    processes = {
        "stops": shell(
            tmp_path, "trap 'while [ ! -e go ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done"
        ),
        "before": {**SLEEPER, **run, "preStart": commands["before"]},
        "after": {"program": "/bin/false", **run, "postStop": commands["after"]},
        "then": shell(tmp_path, "[ -e ended ] && exec sleep 1000; touch ended", postStop=commands["then"], **AGAIN),
        "other": SLEEPER,
    }
    with desk(tmp_path, processes, program=OURS) as machine:
        machine.until(lambda found: found["stops"]["pid"])
        until(lambda: all((tmp_path / f"{name}.begun").exists() for name in commands))
        machine.ctl("stop", "--no-wait", "stops")
        machine.until(lambda found: found["stops"]["state"] == "stopping")
        break_it(machine, broken)
        (tmp_path / "go").touch()
        expected = {"stops": "stopped", "before": "running", "after": "exited", "then": "running", "other": "running"}
        found = machine.until(lambda found: {name: each["state"] for name, each in found.items()} == expected)
        assert found["after"]["lastExit"]["status"] == 1
        assert found["after"]["restarts"] == 0


def test_a_shutdown_goes_on(tmp_path: Path, broken: Path) -> None:
    """Also one that an essential process has begun by its end: its status is that of all."""
    slow = shell(
        tmp_path,
        "trap 'while [ ! -e go ]; do sleep 0.05; done; echo x >ended; exit 0' TERM; while :; do sleep 0.05; done",
    )
    ends = shell(tmp_path, "while [ ! -e end ]; do sleep 0.05; done; exit 7", essential=True)
    with desk(tmp_path, {"slow": slow, "ends": ends}, program=OURS) as machine:
        machine.until(lambda found: all(each["state"] == "running" for each in found.values()))
        (tmp_path / "end").touch()
        machine.until(lambda found: found["slow"]["state"] == "stopping")
        break_it(machine, broken)
        assert machine.processes()["slow"]["state"] == "stopping"
        (tmp_path / "go").touch()
        assert machine.process.wait(PATIENCE) == 7
        assert (tmp_path / "ended").exists()


def test_a_request_to_end_goes_on(tmp_path: Path, broken: Path) -> None:
    slow = shell(tmp_path, "trap 'while [ ! -e go ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done")
    with desk(tmp_path, {"slow": slow, "other": SLEEPER}, program=OURS) as machine:
        machine.until(lambda found: all(each["state"] == "running" for each in found.values()))
        machine.process.send_signal(signal.SIGTERM)
        machine.until(lambda found: found["slow"]["state"] == "stopping")
        break_it(machine, broken)
        (tmp_path / "go").touch()
        assert machine.process.wait(PATIENCE) == 0
        assert machine.log.read_text().count("going down: asked by SIGTERM") == 1


def test_what_breaks_again_and_again_ends_in_order(tmp_path: Path, broken: Path) -> None:
    polite = shell(tmp_path, "trap 'echo x >ended; exit 0' TERM; while :; do sleep 0.05; done")
    with desk(tmp_path, {"polite": polite, "other": SLEEPER}, program=OURS) as machine:
        machine.until(lambda found: found["polite"]["state"] == "running")
        broken.mkdir()
        wake(machine)
        assert machine.process.wait(2 * PATIENCE) == 1
        assert (tmp_path / "ended").exists()
        assert "the event loop broke 10 times within 60s: MemoryError" in machine.log.read_text()


def test_no_thread_is_started_that_would_find_no_memory() -> None:
    """CPython waits for ever for one that cannot say that it runs."""
    script = """
import resource
from ocelot.linux.threads import ROOM, make_sure_of_room
make_sure_of_room()
for line in open("/proc/self/status"):
    if line.startswith("VmSize:"):
        used = int(line.split()[1]) * 1024
for more in (ROOM // 2, 2 * ROOM):
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
    try:
        make_sure_of_room()
        print("room")
    except OSError as error:
        print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.split() == ["12", "room"]
