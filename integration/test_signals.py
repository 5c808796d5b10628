"""The README's table of signals, column "in a container, on a desk", with real signals."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, desk
from supervisor.signals import ELSEWHERE, Action

STUBBORN = {
    "program": "/bin/sh",
    "arguments": ["-c", "trap '' TERM; echo trapped; while :; do sleep 0.1; done"],
    "terminationGracePeriod": "50s",
}


@pytest.mark.parametrize(
    "number", [each.number for each in ELSEWHERE if each.action is Action.SHUT_DOWN], ids=lambda number: f"{number}"
)
def test_it_stops_everything_in_order_and_exits(tmp_path: Path, number: int) -> None:
    with desk(tmp_path, {"first": SLEEPER, "then": {**SLEEPER, "dependsOn": ["first"]}}) as running:
        running.until(lambda found: found["then"]["state"] == "running")
        running.process.send_signal(number)
        assert running.process.wait(PATIENCE) == 0
        log = running.log.read_text()
    assert log.index("then: stopped (shutdown)") < log.index("first: stopped (shutdown)")


def test_it_is_passed_to_the_main_process(tmp_path: Path) -> None:
    traps = "; ".join(f"trap 'echo got {name}' {name}" for name in ("USR1", "USR2", "WINCH"))
    main = {"program": "/bin/sh", "arguments": ["-c", f"{traps}; echo trapped; while :; do sleep 0.05; done"]}
    with desk(tmp_path, {"main": {**main, "essential": True}, "beside": SLEEPER}) as running:
        for response in ELSEWHERE:
            if response.action is Action.FORWARD:
                wait_for(running.log, "trapped")
                running.process.send_signal(response.number)
                wait_for(running.log, f"got {signal.Signals(response.number).name.removeprefix('SIG')}")
        assert {each["state"] for each in running.processes().values()} == {"running"}


@pytest.mark.root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_one_that_may_not_be_passed_on_is_told_and_ends_nothing(tmp_path: Path) -> None:
    """A container without CAP_KILL, and a process of another user."""
    without = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill", sys.executable, "-m", "ocelot")
    with desk(tmp_path, {"main": {**SLEEPER, "user": "nobody"}}, program=without) as running:
        found = running.until(lambda found: found["main"]["state"] == "running")
        running.process.send_signal(signal.SIGUSR1)
        wait_for(running.log, "SIGUSR1: Operation not permitted")
        assert running.processes()["main"]["pid"] == found["main"]["pid"]
        os.kill(found["main"]["pid"], signal.SIGKILL)  # which ocelot may not do at its end
        assert running.process.wait(PATIENCE) == 128 + signal.SIGKILL


def test_a_second_sigint_kills_what_is_left_at_once(tmp_path: Path) -> None:
    with desk(tmp_path, {"stubborn": STUBBORN}) as running:
        wait_for(running.log, "trapped")
        began = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        wait_for(running.log, "stopping 1 process")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 20


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
