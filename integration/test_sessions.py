"""exec and shell beside real processes: pipes and pseudo-terminals, signals, who they run as, and how they end."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk

CTL = [sys.executable, "-m", "ocelot.ctl"]


@pytest.fixture(scope="module")
def machine() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        processes = {
            "web": {**SLEEPER, "environment": {"COLOUR": "blue"}, "workingDirectory": "/usr"},
            "other": SLEEPER,
            "nobody": {**SLEEPER, "user": "nobody", "workingDirectory": "/"},
        }
        if os.geteuid() != 0:
            del processes["nobody"]
        with desk(Path(name), processes, control={"mode": "0666"}) as running:
            yield running


class Terminal:
    """A program on a pseudo-terminal of its own, as a person would have it."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, {**environment, "TERM": "dumb", "SHELL": "/bin/sh", "PS1": "$ "})
        self.heard = b""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, word: str) -> str:
        """Read on until ``word`` has come; what came since the last time."""
        deadline = time.monotonic() + PATIENCE
        while word.encode() not in self.heard:
            assert select.select([self.fd], [], [], deadline - time.monotonic())[0], self.heard
            try:
                self.heard += os.read(self.fd, 4096)
            except OSError:
                raise AssertionError(f"it ended before it said {word}: {self.heard!r}") from None
        before, _, self.heard = self.heard.partition(word.encode())
        return (before + word.encode()).decode()

    def end(self) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + PATIENCE
        while select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                self.heard += os.read(self.fd, 4096)
            except OSError:
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def gone(pid: int) -> bool:
    """Whether a process ends within the deadline."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(") ")[2].startswith("Z"):
                    return True
        except (FileNotFoundError, ProcessLookupError):  # gone before the file was opened, or before it was read
            return True
        time.sleep(0.02)
    return False


# -- pipes


def test_streams_status_environment_and_folder_are_those_of_the_process(machine: Desk) -> None:
    done = machine.ctl("exec", "web", "--", "sh", "-c", "echo $COLOUR; pwd; echo oops >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "blue\n/usr\n", "oops\n")
    done = machine.ctl("exec", "-e", "COLOUR=red", "-w", "/", "web", "sh", "-c", "echo $COLOUR; pwd")
    assert (done.returncode, done.stdout) == (0, "red\n/\n")


def test_input_arrives_and_ends(machine: Desk) -> None:
    text = b"x" * 1_000_000
    done = subprocess.run(
        [*CTL, "exec", "web", "--", "cat"], input=text, env=machine.environment, capture_output=True, check=True
    )
    assert done.stdout == text
    done = subprocess.run(
        [*CTL, "shell", "web"], input=b"echo $COLOUR", env=machine.environment, capture_output=True, check=True
    )
    assert done.stdout == b"blue\n"


def test_a_stream_that_was_closed_is_none_of_our_connections(machine: Desk) -> None:
    script = "exec web -- sh -c 'readlink /proc/self/fd/0; cat; echo to nobody >&2' <&- 2>&-"
    done = shell(machine, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "/dev/null\n", "")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("health", 0),
        ("status web", 0),
        ("--json status", 0),
        ("start web", 0),
        ("logs", 0),
        ("graph --svg -", 0),
        ("top -d 0.1s", 0),
        ("stop", 2),
    ],
)
def test_it_works_without_any_streams(machine: Desk, command: str, status: int) -> None:
    assert shell(machine, f"{command} <&- >&- 2>&-").returncode == status
    done = shell(machine, f"{command} >&-")
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert shell(machine, f"{command} 2>&-").stdout.count("cannot") == 0


def shell(machine: Desk, words: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", f"exec {sys.executable} -m ocelot.ctl {words}"]
    return subprocess.run(
        command, env=machine.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["exec", "web", "--", "sh", "-c", "kill -9 $$"], 137, ""),
        (["exec", "web", "--", "/no/such/program"], 127, 'cannot start "/no/such/program"'),
        (["exec", "web", "--", "/etc/passwd"], 126, "cannot start"),
        (["exec", "web"], 2, "no command was given"),
        (["exec", "wbe", "ls"], 4, 'did you mean "web"?'),
        (["exec", "-e", "nonsense", "web", "ls"], 2, "KEY=VALUE"),
    ],
)
def test_how_it_ends_is_told(machine: Desk, command: list[str], status: int, words: str) -> None:
    done = machine.ctl(*command)
    assert done.returncode == status
    assert words in done.stderr


def test_a_signal_to_the_client_reaches_the_command(machine: Desk) -> None:
    script = "trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.02; done"
    command = [*CTL, "exec", "web", "--", "sh", "-c", script]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.readline() == "got it\n"
        assert client.wait(PATIENCE) == 3


def test_the_session_ends_with_its_client(machine: Desk) -> None:
    script = "trap '' HUP TERM; sleep 1001 & echo $$ $!; sleep 1002"
    command = [*CTL, "exec", "web", "--", "sh", "-c", script]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        pids = [int(pid) for pid in client.stdout.readline().split()]
        client.kill()
    assert all(gone(pid) for pid in pids)


def test_what_ends_by_itself_may_leave_something_behind(machine: Desk) -> None:
    done = machine.ctl("exec", "web", "--", "sh", "-c", "sleep 20 >/dev/null 2>&1 & echo $!")
    pid = int(done.stdout)
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)


@pytest.mark.root
def test_it_runs_as_the_user_of_the_process(machine: Desk) -> None:
    done = machine.ctl("exec", "nobody", "--", "id", "-un")
    assert (done.returncode, done.stdout) == (0, "nobody\n")


@pytest.mark.root
def test_the_terminal_belongs_to_the_user_of_the_process(machine: Desk) -> None:
    script = 'test -O "$(tty)" && echo hello > "$(tty)" && id -un'
    terminal = Terminal([*CTL, "exec", "nobody", "--", "sh", "-c", script], machine.environment)
    assert terminal.end() == 0
    assert terminal.heard.split() == [b"hello", b"nobody"]


def test_sessions_go_down_with_ocelot(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as machine:
        script = "trap '' HUP TERM INT; echo $$; while :; do sleep 1; done"
        command = [*CTL, "exec", "web", "--", "sh", "-c", script]
        with subprocess.Popen(command, env=machine.environment, stdout=-1, stderr=-1, text=True) as client:
            assert client.stdout is not None
            pid = int(client.stdout.readline())
            machine.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert machine.process.wait(PATIENCE) == 0
            assert time.monotonic() - began < 1.5
            assert gone(pid)
            _, complaint = client.communicate(timeout=PATIENCE)
            assert (client.returncode, "the connection ended" in complaint) == (3, True)


def test_it_leaves_no_descriptor_behind(machine: Desk) -> None:
    folder = f"/proc/{machine.process.pid}/fd"
    machine.ctl("exec", "web", "--", "true")
    before = len(os.listdir(folder))
    for _ in range(5):
        machine.ctl("exec", "web", "--", "true")
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) > before:
        assert time.monotonic() < deadline, "descriptors leak"
        time.sleep(0.02)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 100])
def test_a_client_that_hands_over_the_wrong_number_is_left_alone(machine: Desk, count: int) -> None:
    folder = f"/proc/{machine.process.pid}/fd"
    before = len(os.listdir(folder))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(machine.socket)
        client.sendall(b"POST /v1/exec HTTP/1.1\r\nHost: o\r\nConnection: Upgrade\r\nUpgrade: ocelot-session\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        socket.send_fds(client, [b"\n"], [0] * count)
        assert client.recv(4096) == b""
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) > before:
        assert time.monotonic() < deadline, "descriptors leak"
        time.sleep(0.02)


def test_another_protocol_is_not_spoken(machine: Desk) -> None:
    head = "POST /v1/exec HTTP/1.1\r\nHost: o\r\nConnection: Upgrade\r\nUpgrade: {}\r\nContent-Length: 0\r\n\r\n"
    for offered, status in (("websocket", b"426"), ("websocket, Ocelot-Session", b"101")):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(machine.socket)
            client.sendall(head.format(offered).encode())
            assert client.recv(4096).split()[1] == status


def test_without_the_upgrade_it_says_what_is_missing(machine: Desk) -> None:
    code, body = machine.curl("/v1/exec", "-X", "POST")
    assert (code, json.loads(body)["kind"]) == (426, "upgrade-required")
    assert machine.ctl("status").returncode == 0


# -- pseudo-terminals


def test_a_shell_with_job_control_window_size_and_its_own_status(machine: Desk) -> None:
    terminal = Terminal([*CTL, "shell", "-e", "ENV=", "web"], machine.environment)
    termios.tcsetwinsize(terminal.fd, (33, 77))
    terminal.type("PS1='> '; stty size; echo do''ne $$.\n")
    terminal.expect("done ")
    shell = int(terminal.expect(".").removesuffix("."))
    termios.tcsetwinsize(terminal.fd, (40, 80))
    terminal.type("while test \"$(stty size)\" != '40 80'; do :; done; echo resi''zed\n")
    terminal.expect("resized")
    terminal.type("echo $COLOUR; tty; echo sle''eping; sleep 1000\n")
    assert "blue" in terminal.expect("sleeping")
    await_foreground(shell)
    terminal.type("\x03")
    terminal.type("echo status=$?.\n")
    terminal.expect("status=130.")
    terminal.type("set -m; sleep 1000; echo stop''ped\n")
    await_foreground(shell)
    terminal.type("\x1a")
    terminal.expect("stopped")
    terminal.type("kill -9 %1\n")
    terminal.type("exit 5\nexit 5\n")  # a shell may warn of stopped jobs once
    assert terminal.end() == 5


def await_foreground(shell: int) -> None:
    """Until a program that the shell has started is in the foreground of their terminal (proc(5): pgrp and tpgid)."""
    deadline = time.monotonic() + PATIENCE
    while True:
        for child in Path(f"/proc/{shell}/task/{shell}/children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2].split()
            if fields[2] == fields[5] and Path(f"/proc/{child}/comm").read_text() == "sleep\n":
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_terminal_that_goes_takes_the_session_along(machine: Desk) -> None:
    terminal = Terminal([*CTL, "exec", "web", "--", "sh", "-c", "echo pid=$$.; sleep 1000"], machine.environment)
    pid = int(terminal.expect(".").partition("pid=")[2].rstrip("."))
    os.close(terminal.fd)
    os.waitpid(terminal.pid, 0)
    assert gone(pid)


def test_output_that_goes_elsewhere_goes_there_unchanged(machine: Desk, tmp_path: Path) -> None:
    """Standard input is a terminal and standard output a file: only the first is replaced."""
    script = f"{' '.join(CTL)} exec web -- sh -c 'test -t 0 && test ! -t 1 && test -t 2 && printf \"a\\nb\\n\"' > {tmp_path}/out"
    terminal = Terminal(["/bin/sh", "-c", script], machine.environment)
    assert terminal.end() == 0
    assert (tmp_path / "out").read_bytes() == b"a\nb\n"


def test_no_tty_when_told_so(machine: Desk) -> None:
    terminal = Terminal([*CTL, "exec", "-T", "web", "--", "sh", "-c", "ps -o tty= -p $$"], machine.environment)
    assert terminal.end() == 0
    assert b"?" in terminal.heard


# -- attach

TRAPPED = "trap 'echo caught; exit 9' INT; trap 'echo usr' USR1; echo ready; while :; do sleep 0.02; done"


@pytest.fixture
def trapping(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, {"trap": {"program": "/bin/sh", "arguments": ["-c", TRAPPED]}, "idle": SLEEPER}) as running:
        yield running


def test_attached_to_a_process_we_get_its_output_its_signals_and_its_end(trapping: Desk) -> None:
    command = [*CTL, "attach", "trap"]
    with subprocess.Popen(command, env=trapping.environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.readline() == "usr\n"
        client.send_signal(signal.SIGINT)
        assert client.stdout.readline() == "caught\n"
        assert client.wait(PATIENCE) == 9


@pytest.mark.parametrize("keys", ["\x1d", "\x10\x11"])
def test_a_key_detaches_and_leaves_it_running(trapping: Desk, keys: str) -> None:
    terminal = Terminal([*CTL, "attach", "trap"], trapping.environment)
    terminal.expect("detaches]")
    terminal.expect("ready")
    terminal.type(f"x{keys}")
    assert terminal.end() == 0
    assert b"detached" in terminal.heard
    assert trapping.json("status", "trap")["processes"][0]["state"] == "running"


def test_control_c_on_a_terminal_goes_to_the_process(trapping: Desk) -> None:
    terminal = Terminal([*CTL, "attach", "trap"], trapping.environment)
    terminal.expect("detaches]")
    terminal.type("\x03")
    terminal.expect("caught")
    assert terminal.end() == 9


def test_only_what_runs_can_be_attached_to(trapping: Desk) -> None:
    trapping.ctl("stop", "idle")
    done = trapping.ctl("attach", "idle")
    assert (done.returncode, "it is stopped" in done.stderr) == (1, True)
    assert trapping.ctl("attach", "nothing").returncode == 4
