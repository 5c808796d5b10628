"""``ocelotctl top`` in a real terminal (tmux), and printed once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, desk

BUSY = {"program": "/bin/sh", "arguments": ["-c", "echo spinning; while :; do :; done"]}


def test_printed_once_it_shows_who_is_busy(tmp_path: Path) -> None:
    with desk(tmp_path, {"idle": SLEEPER, "busy": BUSY}) as machine:
        lines = machine.ctl("top", "--once", "--delay", "500ms").stdout.splitlines()
        assert lines[0].split() == ["NAME", "STATE", "PID", "CPU", "MEMORY", "TASKS", "FDS", "RESTARTS", "UPTIME"]
        assert [line.split()[0] for line in lines[1:]] == ["busy", "idle"]
        busy, idle = json.loads(machine.ctl("--json", "top", "--delay", "500ms").stdout)
        assert busy["cpu"] > 10 * idle["cpu"]
        assert idle["memory"] > 4096


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux: make machine")
def test_the_live_view_sorts_filters_and_shows_a_log(tmp_path: Path) -> None:
    def tmux(*words: str) -> str:
        command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def screen(expected: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + PATIENCE
        while not expected(text := tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return text

    with desk(tmp_path, {"idle": SLEEPER, "busy": BUSY}) as machine:
        top = f"{sys.executable} -m ocelot.ctl --socket {machine.socket} top -d 300ms; echo ended=$?; exec cat"
        tmux("new-session", "-d", "-x", "110", "-y", "24", top)
        try:
            text = screen(lambda text: "%" in text and "2 processes" in text)
            assert "CPU ▾" in text
            names = [line.split()[0] for line in text.splitlines() if line.startswith(("busy", "idle"))]
            assert names == ["busy", "idle"]
            tmux("send-keys", "s", "s")
            screen(lambda text: "NAME ▾" in text)
            tmux("send-keys", "Down", "l")
            screen(lambda text: "spinning" in text and "─ busy" in text)
            tmux("send-keys", "/", "i", "d", "Enter")
            screen(lambda text: 'filter "id"' in text and "1 process," in text)
            tmux("send-keys", "q")
            screen(lambda text: "ended=0" in text)
        finally:
            tmux("kill-server")
