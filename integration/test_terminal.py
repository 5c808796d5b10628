"""``stdin: pty`` and ``ocelotctl attach``: real programs on a terminal of their own, and a terminal of ours connected with it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from integration.test_sessions import CTL, Terminal
from ocelot.wire.client import call

SHELL = {
    "program": "/bin/bash",
    "arguments": ["--norc", "--noediting", "-i"],
    "environment": {"PS1": "ready> ", "PS2": ""},
    "stdin": "pty",
    "shutdownSignal": "SIGHUP",
    "restartPolicy": {"type": "Always", "backoff": "0s"},
}
"""A person's shell, whose prompt is not told from what is typed by anything but its place."""

DETACH = "\x10\x11"


def python(source: str, **more: Any) -> dict[str, Any]:
    return {"program": sys.executable, "arguments": ["-u", "-c", source], "stdin": "pty", **more}


@pytest.fixture(scope="module")
def machine() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as name, desk(Path(name), {"sh": SHELL, "plain": SLEEPER}) as running:
        yield running


class Attached(Terminal):
    """``ocelotctl attach`` on a terminal."""

    def __init__(self, machine: Desk, *arguments: str, size: tuple[int, int] = (40, 120)) -> None:
        super().__init__(["/bin/sh", "-c", 'read _; exec "$@"', "sh", *CTL, "attach", *arguments], machine.environment)
        self.resize(size)
        self.type("\n")
        self.before = termios.tcgetattr(self.fd)

    def resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))

    def ask(self, command: str, answer: str) -> str:
        """Type a command; what it says, which is to end with ``answer``."""
        self.type(command + "\r")
        self.expect(command + "\r\n")
        return self.expect(answer)


def attached(machine: Desk, *arguments: str, size: tuple[int, int] = (40, 120)) -> Attached:
    terminal = Attached(machine, *arguments, size=size)
    terminal.expect("detaches]")
    return terminal


def test_a_person_types_into_a_shell_and_leaves_it_running(machine: Desk) -> None:
    pid = machine.until(lambda found: found["sh"]["state"] == "running")["sh"]["pid"]
    terminal = attached(machine, "sh")
    terminal.ask("echo $((20 + 22))", "42\r\n")
    terminal.ask("stty size", "40 120\r\n")
    terminal.ask("echo $TERM; ps -o tpgid= -p $$", "xterm\r\n")
    terminal.resize((50, 90))
    assert "50 90" in terminal.ask("sleep 0.2; stty size", "90\r\n")
    terminal.type(DETACH)
    assert terminal.end() == 0
    assert b"[detached]" in terminal.heard
    assert machine.processes()["sh"]["pid"] == pid
