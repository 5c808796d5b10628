"""Becoming another program, and running a shell with job control on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.signal_masks import mask

ROOT = Path(__file__).parent.parent

EXECUTE = """
import os, resource, signal, sys
from ocelot import log
from ocelot.config import structs
from ocelot.linux.identity import identity
from ocelot.linux.inherited import Inherited, raise_own_limits
from bootstrap import handoff
from bootstrap.steps import Machine
inherited = Inherited.capture()
# What a life as PID 1 leaves behind: our limits, ignored signals, handlers, a mask.
raise_own_limits()
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGRTMIN + 3, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
os.environ["PYTHONHOME"] = "/nowhere"
machine = Machine(runner=None, identity=identity(), warn=log.warn, info=log.info, environment={"PHASE": "yes"})
program, *arguments = sys.argv[1:]
try:
    handoff.execute(structs.Exec(program=program, arguments=tuple(arguments)), machine, inherited)
except Exception as error:
    print(error)
    sys.exit(9)
"""

REPORT = """
import json, os, resource, signal
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status"))
print(json.dumps({"pid": os.getpid(), "env": dict(os.environ), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
  "blocked": int(status["SigBlk"], 16), "fds": sorted(os.listdir("/proc/self/fd")), "blocking": os.get_blocking(1)}))
"""


def execute(
    *argv: str, namespace: bool = False, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "--fork", "--pid", "--mount-proc"] if namespace else []
    limited = ["prlimit", "--nofile=300:4096", *command, sys.executable, "-c", EXECUTE, *argv]
    env = {"PATH": os.environ["PATH"], **(environment or {})}
    return subprocess.run(limited, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.root
def test_the_program_is_pid_1_with_limits_mask_and_environment_as_they_were_given() -> None:
    done = execute(sys.executable, "-c", REPORT, namespace=True, environment={"GIVEN": "x"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["pid"] == 1
    assert found["nofile"] == 300
    assert found["blocked"] == 0
    assert found["fds"] == ["0", "1", "2", "3"]  # 3 is the listing itself
    assert found["blocking"] is True
    assert found["env"]["GIVEN"] == "x"
    assert found["env"]["PHASE"] == "yes"
    assert not [key for key in found["env"] if key.startswith("PYTHON")]
    assert "/run/ocelot/bin" not in found["env"]["PATH"]


def test_no_signal_is_ignored_or_handled_any_more() -> None:
    done = execute("/bin/cat", "/proc/self/status")
    lines = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert [mask(lines[name]) for name in ("SigIgn", "SigCgt", "SigBlk")] == [0, 0, 0]


def test_argv_0_is_the_name_as_it_was_written() -> None:
    done = execute("sh", "-c", "echo $0")
    assert done.stdout == "sh\n"


def test_a_missing_program_is_an_error_and_we_live_on() -> None:
    done = execute("/bin/nosuch")
    assert done.returncode == 9
    assert 'cannot execute "/bin/nosuch": No such file or directory' in done.stdout


@pytest.mark.root
def test_a_program_on_a_noexec_mount(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path], check=True)
    try:
        program = tmp_path / "true"
        program.write_bytes(Path("/bin/true").read_bytes())
        program.chmod(0o755)
        done = execute(str(program))
        assert done.returncode == 9
        assert "mounted noexec (remove noExec from that mount)" in done.stdout
    finally:
        subprocess.run(["umount", tmp_path], check=True)


SHELL = """
import sys, trio
from ocelot import log
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import identity
from ocelot.linux.inherited import Inherited
from bootstrap import handoff
from bootstrap.steps import Machine
from supervisor.process.programs import Programs
from supervisor.children.reaper import Reaper
async def main():
    inherited = Inherited.capture()
    reaper = Reaper()
    programs = Programs(reaper, inherited=inherited, stdout=Writer.attach(1), stderr=Writer.attach(2))
    machine = Machine(runner=programs, identity=identity(), warn=log.warn, info=log.info,
                      environment=inherited.child_environment({"PS1": "READY> ", "HISTFILE": ""}))
    async with trio.open_nursery() as nursery:
        await nursery.start(reaper.run)
        status = await handoff.shell(structs.Shell(program="/bin/bash", arguments=("--norc", "-i")), machine, sys.argv[1])
        nursery.cancel_scope.cancel()
    print("the shell", status)
trio.run(main)
"""


class Screen:
    """The other side of a terminal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, wanted: str, within: float = 30) -> None:
        deadline = time.monotonic() + within
        while wanted not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"no {wanted!r} in {self.text!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.text += os.read(self.fd, 4096).decode(errors="replace")
        self.text = self.text.partition(wanted)[2]


def test_the_shell_has_job_control_on_its_terminal() -> None:
    master, slave = pty.openpty()
    screen = Screen(master)
    process = subprocess.Popen(
        [sys.executable, "-c", SHELL, os.ttyname(slave)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        screen.expect("READY> ")
        assert "no job control" not in screen.text
        screen.type("tty; echo $TERM; sh -c \"echo u''p; exec sleep 100\"\n")
        screen.expect("/dev/pts/")
        screen.expect("vt220")
        screen.expect("up\r\n")
        screen.type("\x1a")  # Ctrl-Z reaches the foreground group only where there is job control
        screen.expect("Stopped")
        screen.expect("READY> ")
        shell = os.tcgetpgrp(master)
        screen.type("fg\n")
        deadline = time.monotonic() + 30
        while os.tcgetpgrp(master) == shell and time.monotonic() < deadline:
            time.sleep(0.01)
        screen.type("\x03")  # and Ctrl-C ends the job, not the shell
        screen.expect("READY> ")
        screen.type("exit 5\n")
        assert process.stdout is not None
        assert process.stdout.read() == "the shell exited with status 5\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        os.close(slave)
        os.close(master)


OUTER = """
unshare --fork --pid --mount --mount-proc {python} -m ocelot bootstrap run -f {file} --in-place
echo status $?
: < /dev/tty && echo still ours
"""

CONFIG = """
postSwitch:
  environment: {PS1: 'READY> '}
  handoff: {mode: shell, program: /bin/bash, arguments: [--norc, --noediting]}
"""


@pytest.mark.root
def test_in_a_container_the_shell_leaves_the_terminal_to_whoever_started_us(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text(CONFIG)
    pid, master = pty.fork()
    if pid == 0:  # the leader of a session, whose controlling terminal the new pty is
        os.chdir(ROOT)
        os.execv("/bin/sh", ["sh", "-c", OUTER.format(python=sys.executable, file=file)])
    screen = Screen(master)
    try:
        screen.expect("READY> ")
        assert "no job control" not in screen.text
        screen.type("exit 5\n")
        screen.expect("status 5\r\n")
        screen.expect("still ours\r\n")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)
