"""``make boot`` and ``make shell`` as a person sees them: the second on a terminal of its own, with something typed."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from integration.lab import cache
from integration.lab.vm import clean, tail

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(cache.kernel() is None, reason="no kernel in the cache: make machine"),
    pytest.mark.skipif(cache.daemon("nginx", "/usr/sbin/nginx") is None, reason="no nginx: make machine"),
]
DEMO = [sys.executable, "-m", "integration.demo"]


def test_the_demonstration_finds_everything_as_it_should_be() -> None:
    done = subprocess.run(DEMO, cwd=cache.CHECKOUT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "hello from a microVM" in done.stdout
    assert "ok: the exit status is 0" in done.stdout


class Terminal:
    """The other end of a terminal on which ``process`` runs."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._seen = b""
        self._cursor = 0

    def expect(self, pattern: str, within: float = 120) -> None:
        """Wait until the screen shows ``pattern`` after what was last expected."""
        deadline = time.monotonic() + within
        while (found := re.compile(pattern, re.MULTILINE).search(clean(self._seen), self._cursor)) is None:
            more = self._read(deadline - time.monotonic())
            assert more, f"the terminal did not show {pattern!r}\n{tail(clean(self._seen))}"
            self._seen += more
        self._cursor = found.end()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def _read(self, within: float) -> bytes:
        if not select.select([self._master], [], [], max(0.0, within))[0]:
            return b""
        try:
            return os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return b""


@contextmanager
def on_a_terminal(command: list[str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=cache.CHECKOUT, start_new_session=True
        ) as process:
            os.close(slave)
            try:
                yield Terminal(process, master)
            finally:
                if process.poll() is None:  # the emulator is its child, in the session that it leads
                    os.killpg(process.pid, 9)
    finally:
        os.close(master)


def test_an_interactive_guest_on_a_terminal() -> None:
    with on_a_terminal([*DEMO, "--shell"]) as terminal:
        terminal.expect(r"^[/~] # ")
        terminal.type("ocelotctl wait web --for ready --timeout 60s; ocelotctl status; echo said $?\r")
        terminal.expect(r"^prepare +exited .*\nweb +running .*\nshell +running ")
        terminal.expect(r"^said 0$")
        terminal.type("tty; wget -qO- 127.0.0.1\r")
        terminal.expect(r"^/dev/ttyS0\n.*hello from a microVM")
        terminal.type("exit 3\r")
        terminal.expect(r'"status":3')
        assert terminal.process.wait(60) == 0
