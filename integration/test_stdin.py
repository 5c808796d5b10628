"""``stdin: tty``: a process on the terminal that ocelot was started on."""

import fcntl
import json
import os
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

from integration.desk import PATIENCE

SCRIPT = """
trap 'echo interrupted; exit 3' INT
[ "$(ps -o tpgid= -p $$)" -eq $$ ] && echo in the foreground of $(tty)
echo through > /dev/tty
while read line; do echo "got $line"; done
"""


class Screen:
    """The other side of a terminal."""

    def __init__(self, fd):
        self.fd = fd
        self.said = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text):
        deadline = time.monotonic() + PATIENCE
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            self.said += os.read(self.fd, 4096).decode()


@contextmanager
def supervised(tmp_path, processes, **streams):
    """ocelot with a new terminal as its controlling one."""
    file = tmp_path / "ocelot.yaml"
    control = {"socket": str(tmp_path / "control.sock")}
    file.write_text(json.dumps({"version": "1.0", "processes": processes, "control": control}))
    master, slave = os.openpty()

    def take():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-m", "ocelot", "supervise", str(file)]
    streams = {"stdin": slave, "stdout": slave, "stderr": slave, **streams}
    process = subprocess.Popen(command, **streams, preexec_fn=take)
    os.close(slave)
    try:
        yield process, Screen(master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def shell(script, **more):
    return {"program": "/bin/sh", "arguments": ["-c", script], **more}


def test_a_process_talks_on_the_terminal_and_ctrl_c_is_first_its_own_and_then_ours(tmp_path):
    processes = {"talker": shell(SCRIPT, stdin="tty"), "other": shell("exec sleep 1000")}
    with supervised(tmp_path, processes) as (process, screen):
        screen.expect("in the foreground of /dev/pts/")
        screen.expect("through")
        screen.type("hello\n")
        screen.expect("got hello")
        screen.type("\x03")
        screen.expect("interrupted")
        screen.expect("talker: exited with status 3")
        assert process.poll() is None
        screen.type("\x03")
        screen.expect("SIGINT")
        assert process.wait(PATIENCE) in (0, 3)


def test_output_that_is_led_elsewhere_goes_there(tmp_path):
    log = {"stdout": {"destination": {"type": "file", "path": str(tmp_path / "out")}}}
    with supervised(tmp_path, {"talker": shell(SCRIPT, stdin="tty", log=log)}) as (_, screen):
        screen.expect("through")
        screen.type("hello\n")
        deadline = time.monotonic() + PATIENCE
        while "got hello" not in (tmp_path / "out").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "got hello" in (tmp_path / "out").read_text()
        assert "got hello" not in screen.said


def test_after_a_restart_it_has_the_terminal_again(tmp_path):
    policy = {"type": "Always", "backoff": "0s"}
    with supervised(tmp_path, {"talker": shell(SCRIPT, stdin="tty", restartPolicy=policy)}) as (_, screen):
        screen.expect("through")
        screen.type("\x03")
        screen.expect("interrupted")
        screen.said = ""
        screen.expect("in the foreground")
        screen.type("again\n")
        screen.expect("got again")


def test_without_a_terminal_it_does_not_start(tmp_path):
    processes = {"talker": shell("true", stdin="tty")}
    with supervised(tmp_path, processes, stdin=subprocess.DEVNULL) as (process, screen):
        screen.expect('cannot start "/bin/sh": it is to have a terminal, and standard input is none')
        assert process.wait(PATIENCE) == 126
