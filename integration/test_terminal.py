"""``stdin: pty`` and ``ocelotctl attach``: real programs on a terminal of their own, and a terminal of ours connected with it."""

from __future__ import annotations

import base64
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
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from integration.test_sessions import CTL, Terminal, gone
from ocelot.wire.client import Client, Cut, call
from supervisor.output.relay import Relay
from supervisor.output.ring import Ring
from supervisor.output.sinks import Counters
from supervisor.output.terminal import TerminalStream
from supervisor.output.terminal_output import Nowhere

SHELL = {
    "program": "/bin/bash",
    "arguments": ["--norc", "--noediting", "-i"],
    "environment": {"PS1": "ready> ", "HISTFILE": ""},
    "stdin": "pty",
    "shutdownSignal": "SIGHUP",
    "restartPolicy": {"type": "Always", "backoff": "0s"},
}
DETACH = "\x10\x11"
SCREEN = "\x1b[?1049h\x1b[?2004h\x1b[?25l"
BACK = b"\x1b[?1049l\x1b[?2004l\x1b[?25h\x1b[0m"


def script(text: str, **more: Any) -> dict[str, Any]:
    return {"program": "/bin/sh", "arguments": ["-c", text], "stdin": "pty", **more}


@pytest.fixture(scope="module")
def machine() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = {"type": "file", "path": name + "/file"}
        lines = 'while read line; do echo "got $line"; done; echo over; exit 4'
        processes = {
            "sh": SHELL,
            "lines": script("stty -echo; echo begin; " + lines, restartPolicy={"type": "Always", "backoff": "0s"}),
            "split": script("stty -echo; echo to both; echo aside >&2; [ -t 2 ] || echo no terminal; " + lines)
            | {"log": {"stdout": {"destination": {"type": "null"}}, "stderr": {"destination": file}}},
            "deaf": script("stty raw -echo; echo deaf; exec sleep 1000"),
            "flood": script("stty -echo; read go; seq 1000000 1400000; echo done; read end"),
            "closer": script(
                "stty -echo; echo open; exec <&- >/dev/null 2>&1; trap 'echo back > /dev/tty' USR1; while :; do sleep 0.02; done"
            ),
            "after": script("echo after", type="oneshot", dependsOn={"marked": {"condition": "LogReady"}}),
            "marked": script("echo is marked; exec sleep 1000")
            | {"readinessProbe": {"handler": {"type": "log", "pattern": "^is marked$"}}}
            | {"preStart": {"command": "sh", "arguments": ["-c", "tty; echo before"]}},
            "plain": SLEEPER,
        }
        if os.geteuid() == 0:
            processes["nobody"] = {**SHELL, "user": "nobody", "workingDirectory": "/"}
        control = {"mode": "0666", "roles": {"read": ["nobody"]}}
        with desk(folder, processes, control=control) as running:
            running.until(lambda found: found["sh"]["state"] == found["lines"]["state"] == "running")
            yield running


class Attached(Terminal):
    """``ocelotctl attach`` on a terminal, in a shell that shows the settings of that before and afterwards."""

    def __init__(self, machine: Desk, *arguments: str, size: tuple[int, int] = (40, 120)) -> None:
        around = 'read _; stty -g; echo "started $$"; "$@"; status=$?; echo; stty -g; exit $status'
        super().__init__(["/bin/sh", "-c", around, "sh", *CTL, "attach", *arguments], machine.environment)
        self.resize(size)
        self.type("\n")
        self.before = self.expect("started ").split()[-2]
        self.expect("detaches]")

    def resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))

    def ask(self, command: str, answer: str) -> str:
        """Type a command; what it says, up to ``answer``."""
        self.type(command + "\r")
        self.expect(command + "\r\n")
        return self.expect(answer)

    def leave(self) -> None:
        self.type(DETACH)
        assert self.end() == 0
        assert b"[detached]" in self.heard
        assert self.restored

    @property
    def restored(self) -> bool:
        """Whether the settings of our terminal are what they were."""
        return self.heard.split()[-1].decode() == self.before


class Raw:
    """A client of the endpoint itself, which reads only when it is told to."""

    def __init__(self, machine: Desk, name: str) -> None:
        self.client = Client(machine.socket, PATIENCE)
        reply = self.client.request("POST", f"/v1/processes/{name}/terminal", b"{}", upgrade="ocelot-terminal")
        assert reply.status == 101, reply.read()

    def type(self, data: bytes) -> None:
        message = {"kind": "input", "data": base64.b64encode(data).decode()}
        self.client.socket.sendall(json.dumps(message).encode() + b"\n")

    def fill(self) -> None:
        for _ in range(1000):
            self.type(b"x" * 3000)

    def until(self, word: bytes) -> bytes:
        heard = b""
        while word not in heard:
            line = self.client.line()
            heard += base64.b64decode(json.loads(line).get("data", "")) if line else b""
        return heard

    def close(self) -> None:
        self.client.socket.close()


def until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def connections(machine: Desk) -> int:
    lines = Path(f"/proc/{machine.process.pid}/net/unix").read_text().splitlines()
    return sum(machine.socket in line for line in lines) - 1


def busy(machine: Desk) -> float:
    """Seconds of processor time that ocelot has used."""
    fields = Path(f"/proc/{machine.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def woken(machine: Desk) -> int:
    """How often ocelot has gone to sleep, and so was woken up."""
    status = Path(f"/proc/{machine.process.pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


# -- a person at a terminal


def test_a_person_types_into_a_shell_and_leaves_it_running(machine: Desk) -> None:
    pid = machine.processes()["sh"]["pid"]
    terminal = Attached(machine, "sh")
    terminal.ask("echo $((20 + 22))", "42\r\n")
    terminal.ask("stty size", "40 120\r\n")
    terminal.ask("echo $TERM", "xterm\r\n")
    terminal.resize((50, 90))
    terminal.ask("while [ \"$(stty size)\" != '50 90' ]; do sleep 0.02; done; echo resi''zed", "resized\r\n")
    terminal.leave()
    assert machine.processes()["sh"]["pid"] == pid


def test_jobs_can_be_stopped_and_interrupted_from_the_keyboard(machine: Desk) -> None:
    terminal = Attached(machine, "sh")
    terminal.ask("sh -c 'echo be\\gun; exec sleep 1001'", "begun\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.ask("fg", "sleep 1001'\r\n")
    terminal.type("\x03")
    terminal.expect("^C")
    terminal.ask("echo $? by SIGINT", "130 by SIGINT\r\n")
    terminal.leave()


def test_whoever_comes_later_sees_the_last_lines_and_both_see_what_follows(machine: Desk) -> None:
    first = Attached(machine, "sh")
    first.ask("echo mark1; echo mark2", "mark2\r\nready> ")
    second = Attached(machine, "-n", "2", "sh", size=(30, 100))
    assert "mark1" not in second.expect("mark2\r\nready> ")
    second.type("stty size\r")
    for terminal in (first, second):
        terminal.expect("30 100\r\n")
    first.type("echo of the fi''rst\r")
    for terminal in (first, second):
        terminal.expect("of the first\r\n")
        terminal.leave()


def test_the_end_of_the_process_is_ours_and_the_next_start_has_a_new_terminal(machine: Desk) -> None:
    pid = machine.processes()["sh"]["pid"]
    terminal = Attached(machine, "sh")
    terminal.type("exit 7\r")
    assert terminal.end() == 7
    assert terminal.restored
    machine.until(lambda found: found["sh"]["state"] == "running" and found["sh"]["pid"] != pid)
    terminal = Attached(machine, "sh")
    terminal.ask("echo new one", "new one\r\n")
    terminal.leave()


def test_what_is_left_in_the_background_hears_that_the_terminal_is_gone(machine: Desk) -> None:
    terminal = Attached(machine, "sh")
    jobs = (
        terminal.ask("sleep 1001 & nohup sleep 1002 >/dev/null & echo : $(jobs -p) :", " :\r\n").split(":")[-2].split()
    )
    until(lambda: Path(f"/proc/{jobs[1]}/comm").read_text() == "sleep\n")
    terminal.type("exec true\r")
    assert terminal.end() == 0
    assert gone(int(jobs[0]))
    assert not Path(f"/proc/{jobs[1]}/stat").read_text().partition(") ")[2].startswith("Z")
    os.kill(int(jobs[1]), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_attachment_only_and_the_terminal_is_as_before(machine: Desk, number: int) -> None:
    pid = machine.processes()["sh"]["pid"]
    terminal = Attached(machine, "-n", "0", "sh")
    turn_on(terminal)
    [client] = Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split()
    os.kill(int(client), number)
    assert terminal.end() == 128 + number
    assert BACK in terminal.heard
    assert terminal.restored
    assert machine.processes()["sh"]["pid"] == pid


def turn_on(terminal: Attached, what: str = SCREEN) -> None:
    typed = what.replace("\x1b", "\\033")
    terminal.ask(f"printf '{typed}'; echo do''ne", "done\r\n")


def test_what_a_program_has_turned_on_is_turned_off_for_who_leaves_it(machine: Desk) -> None:
    terminal = Attached(machine, "-n", "0", "sh")
    turn_on(terminal)
    terminal.leave()
    assert BACK in terminal.heard
    terminal = Attached(machine, "-n", "0", "sh")
    turn_on(terminal)
    turn_on(terminal, BACK.decode())
    terminal.leave()
    assert b"\x1b" not in terminal.heard


def test_other_keys_may_detach(machine: Desk) -> None:
    terminal = Attached(machine, "--detach-keys", "ctrl-a,d", "sh")
    terminal.type("\x10\x11\x01x\x15")  # the last one takes back what was typed
    terminal.ask("echo still here", "still here\r\n")
    terminal.type("\x01d")
    assert terminal.end() == 0
    assert b"[detached]" in terminal.heard
    done = machine.ctl("attach", "--detach-keys", "ctrl-p,escape", "sh")
    assert (done.returncode, '"escape" is no key' in done.stderr) == (2, True)


@pytest.mark.root
def test_another_user_owns_the_terminal_and_has_job_control(machine: Desk) -> None:
    terminal = Attached(machine, "nobody")
    terminal.ask("id -un; stat -c %U $(tty); : > /dev/stderr && echo opened", "nobody\r\nnobody\r\nopened\r\n")
    terminal.leave()
    assert "job control" not in machine.ctl("logs", "nobody").stdout


# -- without a terminal


def test_input_without_a_terminal_is_sent_and_its_end_ends_the_sending_only(machine: Desk) -> None:
    command = [*CTL, "attach", "-n", "0", "lines"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=machine.environment, **streams) as client:  # type: ignore[call-overload]
        client.stdin.write(b"one\ntwo\n")
        client.stdin.close()
        assert [client.stdout.readline(), client.stdout.readline()] == [b"got one\n", b"got two\n"]
        with suppress(subprocess.TimeoutExpired):
            assert client.wait(0.2) is None, "it ended with its input"
        raw = Raw(machine, "lines")
        raw.type(b"\x04")
        raw.close()
        assert client.stdout.read() == b"over\n"
        assert client.wait(PATIENCE) == 4
        assert client.stderr.read() == b""


AS_NOBODY = """
import os, sys
import ocelot.ctl, ocelot.verbs.again
ocelot.ctl.parser("attach")  # nobody may not read our modules
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(ocelot.ctl.main(["attach", *sys.argv[1:]]))
"""


@pytest.mark.root
@pytest.mark.parametrize(("arguments", "words"), [(["--no-stdin"], ""), ([], 'it needs the role "admin"')])
def test_to_look_on_takes_the_role_read_only_and_no_key_goes_in(
    machine: Desk, arguments: list[str], words: str
) -> None:
    writer = Raw(machine, "sh")
    writer.type(b"echo se''en\r")
    writer.until(b"seen\r\nready> ")
    command = [sys.executable, "-c", AS_NOBODY, "-n", "2", *arguments, "sh"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=machine.environment, **streams) as client:  # type: ignore[call-overload]
        client.stdin.write(b"echo typed\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"seen\n"
        writer.type(b"echo la''st\r")
        heard = b""
        while b"last\n" not in heard:
            heard += os.read(client.stdout.fileno(), 4096)
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 130
        assert b"typed" not in heard
        said = client.stderr.read().decode()
        assert words in said
        assert bool(words) == bool(said)
    writer.close()


def test_only_a_process_that_runs_with_a_terminal_can_be_typed_into(machine: Desk) -> None:
    status, text = machine.curl("/v1/processes/plain/terminal")
    assert (status, json.loads(text)["kind"]) == (409, "no-terminal")
    status, text = machine.curl("/v1/processes/after/terminal")
    assert (status, json.loads(text)["kind"]) == (409, "not-running")
    status, text = machine.curl("/v1/processes/shh/terminal")
    assert (status, json.loads(text)["kind"]) == (404, "no-such-process")


# -- the log


def test_the_log_has_lines_without_carriage_returns_and_all_that_looks_at_it_finds_them(machine: Desk) -> None:
    machine.until(lambda found: found["after"]["state"] == "exited")
    assert machine.json("status", "marked")["processes"][0]["ready"]
    lines = [line["text"] for line in call_logs(machine, "after")]
    assert lines == ["after"]
    assert [line["text"] for line in call_logs(machine, "marked")] == ["not a tty", "before", "is marked"]
    assert b"is marked\n" in machine.log.read_bytes()
    assert b"\r" not in machine.log.read_bytes()


def test_standard_error_may_go_elsewhere_and_output_to_nowhere_is_kept_for_who_is_attached(machine: Desk) -> None:
    until(lambda: Path(machine.log.parent, "file").read_text() == "aside\n")
    raw = Raw(machine, "split")
    assert raw.until(b"no terminal\r\n") == b"to both\r\nno terminal\r\n"
    raw.type(b"x\r")
    raw.until(b"got x\r\n")
    raw.close()
    lines = [(line["stream"], line["text"]) for line in call_logs(machine, "split")]
    assert [text for stream, text in lines if stream == "stdout"] == ["to both", "no terminal", "got x"]
    assert [text for stream, text in lines if stream == "stderr"] == ["aside"]
    assert b"to both" not in machine.log.read_bytes()


def call_logs(machine: Desk, name: str, more: str = "") -> list[Any]:
    with Client(machine.socket) as client:
        return [json.loads(line) for line in client.request("GET", f"/v1/logs?name={name}{more}").lines()]


# -- those who mean no good, or cannot help it


def test_a_process_that_reads_nothing_holds_up_only_who_types(machine: Desk) -> None:
    until(lambda: connections(machine) == 0)
    raw = Raw(machine, "deaf")
    raw.client.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        raw.fill()
    began = busy(machine)
    for _ in range(3):
        call(machine.socket, "GET", "/v1/status", timeout=2.0)
    until(lambda: connections(machine) == 1)
    before = woken(machine)
    time.sleep(0.5)
    assert woken(machine) - before < 5
    raw.close()  # nobody reads what it says, but it is missed all the same
    until(lambda: connections(machine) == 0)
    assert busy(machine) - began < 1.0
    terminal = Attached(machine, "deaf")
    terminal.type("more" * 1000)
    terminal.leave()


def test_a_client_that_reads_nothing_holds_nobody_up_and_is_told_what_it_has_missed(machine: Desk) -> None:
    raw = Raw(machine, "flood")
    raw.type(b"go\r")
    until(lambda: [line["text"] for line in call_logs(machine, "flood", "&n=1")] == ["done"])
    heard = raw.until(b"were left out here")
    assert len(heard) < 2_000_000
    raw.type(b"end\r")
    while json.loads(raw.client.line())["kind"] != "ended":
        pass
    raw.close()
    assert machine.processes()["flood"]["lastExit"]["status"] == 0


def test_a_process_that_closes_its_terminal_lives_on_and_may_open_it_again(machine: Desk) -> None:
    until(lambda: [line["text"] for line in call_logs(machine, "closer")] == ["open"])
    raw = Raw(machine, "closer")
    raw.type(b"into the void\r")
    began = busy(machine)
    time.sleep(0.5)
    assert busy(machine) - began < 0.2, "it spins"
    machine.ctl("signal", "USR1", "closer")
    raw.until(b"back\r\n")
    raw.type(b"into the void again\r")
    raw.close()
    machine.ctl("signal", "USR1", "closer")
    until(lambda: [line["text"] for line in call_logs(machine, "closer")] == ["open", "back", "back"])
    assert machine.processes()["closer"]["state"] == "running"


def test_what_comes_from_a_terminal_that_was_closed_is_read_before_that_is_the_end() -> None:
    async def main() -> bytes:
        ring, relay = Ring(100), Relay()
        stream = TerminalStream("name", "stdout", Nowhere(), ring=ring, counters=Counters(), block=False, relay=relay)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.run)
            slave = stream.open()
            path = os.ttyname(slave)
            os.write(slave, b"one\n")
            os.close(slave)
            assert not stream.drained
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert stream.drained
            with open(path, "w") as again:
                again.write("two\n")
            assert not stream.drained
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert stream.drained
            stream.end()
            nursery.cancel_scope.cancel()
        relay.close()
        return ring.after(0)

    assert trio.run(main) == b"one\ntwo\n"


def test_all_that_was_written_is_read_at_the_end_though_somebody_has_it_open_still() -> None:
    async def main() -> int:
        relay = Relay()
        ring = Ring(100_000)
        stream = TerminalStream("name", "stdout", Nowhere(), ring=ring, counters=Counters(), block=False, relay=relay)
        slave = stream.open()
        os.write(slave, b"x" * 6_000)
        await stream.finish()
        os.close(slave)
        relay.close()
        return ring.end

    assert trio.run(main) == 6_000


def test_nonsense_ends_the_connection_of_who_says_it(machine: Desk) -> None:
    for nonsense in (b"hello\n", b'{"kind":"size","rows":0,"columns":9}\n', b"x" * 2_000_000):
        raw = Raw(machine, "sh")
        with suppress(BrokenPipeError):
            raw.client.socket.sendall(nonsense)
        with pytest.raises(Cut):
            raw.until(b"for ever")
        raw.close()
    assert machine.processes()["sh"]["state"] == "running"


def test_the_last_lines_arrive_even_if_something_stays_on_the_terminal(tmp_path: Path) -> None:
    """The kernel hangs the terminal up when the leader of its session ends."""
    stays = {f"p{n}": script(f"sleep 5 & seq 300; echo last {n}") for n in range(40)}
    with desk(tmp_path, {**stays, "plain": SLEEPER}) as machine:
        machine.until(lambda found: all(found[name]["state"] == "exited" for name in stays))
        said = machine.ctl("logs", "--plain").stdout
        assert [n for n in range(40) if f"last {n}\n" not in said] == []


# -- across images and configurations


def test_who_is_attached_stays_so_over_a_reexec_and_misses_nothing(tmp_path: Path) -> None:
    with desk(tmp_path, {"sh": {**SHELL, "workingDirectory": str(tmp_path)}, "plain": SLEEPER}) as machine:
        pid = machine.until(lambda found: found["sh"]["state"] == "running")["sh"]["pid"]
        terminal = Attached(machine, "sh", size=(33, 77))
        terminal.ask("echo wait''ing; while [ ! -e go ]; do sleep 0.01; done; echo in between", "waiting\r\n")
        [client] = Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split()
        os.kill(int(client), signal.SIGSTOP)
        done = machine.ctl("reexec")
        assert done.returncode == 0, done.stderr
        (tmp_path / "go").touch()
        until(lambda: call_logs(machine, "sh")[-1]["text"] == "ready> ")
        os.kill(int(client), signal.SIGCONT)
        said = terminal.expect("in between\r\nready> ")
        assert "the connection was cut" in said
        terminal.ask("stty size; echo $$", f"33 77\r\n{pid}\r\n")
        terminal.leave()
        terminal = Attached(machine, "sh")
        terminal.ask("echo and later", "and later\r\n")
        terminal.leave()


def test_a_reload_gives_and_takes_the_terminal(tmp_path: Path) -> None:
    plain = {**SHELL, "arguments": ["-c", "tty; exec sleep 1000"], "stdin": "null"}
    with desk(tmp_path, {"sh": plain, "other": SLEEPER}) as machine:
        file = tmp_path / "ocelot.yaml"
        for stdin, says in (("pty", "/dev/pts/"), ("null", "not a tty")):
            machine.until(lambda found: found["sh"]["state"] == "running")
            config = json.loads(file.read_text())
            config["processes"]["sh"]["stdin"] = stdin
            file.write_text(json.dumps(config))
            done = machine.ctl("reload", "--dry-run")
            assert "stdin" in done.stdout
            assert machine.json("reload")["restarted"] == ["sh"]
            until(lambda says=says: any(says in line["text"] for line in call_logs(machine, "sh")[-1:]))
        assert len(call_logs(machine, "sh")) == 3, "the lines of before are kept"
