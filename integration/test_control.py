"""The control socket with real processes behind it, asked by ocelotctl, by curl, and by clients that mean harm."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.errors import ControlError
from supervisor.control.listeners import listen_tcp, listen_unix

TALKER = {"program": "/bin/sh", "arguments": ["-c", "echo hello; echo oops >&2; exec sleep 1000"]}
ROLES = {"read": ["1234", "@4321"], "operate": [1235], "admin": []}


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def machine(folder: Path) -> Iterator[Desk]:
    processes = {
        "web": TALKER,
        "web-2": SLEEPER,
        "stubborn": {
            "program": "/bin/sh",
            "arguments": ["-c", "trap '' TERM; while :; do sleep 1; done"],
            "terminationGracePeriod": "1s",
        },
        "done": {"program": "/bin/true", "type": "oneshot"},
        "broken": {"program": "/no/such/program"},
    }
    with desk(folder, processes, control={"mode": "0666", "roles": ROLES}) as running:
        yield running


def state(machine: Desk, name: str) -> str:
    return str(machine.json("status", name)["processes"][0]["state"])


def test_status_for_people_and_for_programs(machine: Desk) -> None:
    table = machine.ctl("status")
    assert table.returncode == 0
    assert "NAME" in table.stdout
    status = machine.json("status")
    assert status["pid"] == machine.process.pid
    assert [process["name"] for process in status["processes"]] == ["web", "web-2", "stubborn", "done", "broken"]
    code, body = machine.curl("/v1/status")
    assert (code, json.loads(body)["pid"]) == (200, machine.process.pid)


def test_the_status_of_one_says_why_and_what_it_wrote(machine: Desk) -> None:
    machine.until(lambda _: len(machine.ctl("logs", "web").stdout.splitlines()) == 2)
    whole = machine.ctl("status", "web", "broken").stdout
    assert " web | hello" in whole
    assert " web | oops" in whole
    assert '  why: cannot start "/no/such/program": there is no such file' in whole
    assert "  to try again: ocelotctl start broken\n" in whole
    assert "hello" not in machine.ctl("status", "--lines", "0", "web").stdout
    assert "hello" not in machine.ctl("status").stdout


def test_stop_start_and_restart_have_taken_effect_when_they_return(machine: Desk) -> None:
    before = machine.json("status", "web")["processes"][0]["pid"]
    assert machine.ctl("stop", "web").returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert state(machine, "web") == "stopped"
    assert machine.ctl("status", "web").returncode == 1
    assert machine.ctl("start", "web").returncode == 0
    first = machine.json("status", "web")["processes"][0]["pid"]
    assert machine.ctl("restart", "web").returncode == 0
    second = machine.json("status", "web")["processes"][0]
    assert second["state"] == "running"
    assert second["pid"] not in (before, first)


def test_a_pattern_means_several_and_the_rest_is_left_alone(machine: Desk) -> None:
    assert machine.ctl("stop", "web*").returncode == 0
    states = {process["name"]: process["state"] for process in machine.json("status")["processes"]}
    assert (states["web"], states["web-2"], states["stubborn"]) == ("stopped", "stopped", "running")


def test_a_start_that_fails_says_so(machine: Desk) -> None:
    done = machine.ctl("start", "web-2", "broken")
    assert done.returncode == 1
    assert 'ocelotctl: cannot start "broken": cannot start "/no/such/program": there is no such file' in done.stderr
    assert "hint: mend that, then ocelotctl start broken" in done.stderr
    assert "/no/such/program" in done.stdout


def test_a_stop_outlasts_a_process_that_ignores_it(machine: Desk) -> None:
    late = machine.ctl("stop", "stubborn", "--timeout", "100ms")
    assert late.returncode == 6
    assert machine.ctl("stop", "stubborn").returncode == 0
    assert state(machine, "stubborn") == "stopped"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["status", "wbe"], 4, 'did you mean "web"?'),
        (["stop", "nothing-like-it"], 4, "there are: web"),
        (["stop"], 2, "--all"),
        (["frobnicate"], 2, 'cannot find the command "frobnicate"'),
        (["strat", "web"], 2, 'did you mean "start"?'),
        (["scale", "web[0]", "2"], 4, 'name the entry, "web"'),
        (["signal", "NOPE", "web"], 2, "there is no such signal"),
        (["signal", "HUP", "done"], 1, "it does not run"),
        (["--socket", "/nowhere", "status"], 3, "there is no such socket"),
        (["status", "--socket", "/nowhere"], 3, "there is no such socket"),
        (["logs", "--since", "yesteryear"], 2, "which time"),
    ],
)
def test_mistakes_have_their_exit_status_and_a_hint(
    machine: Desk, arguments: list[str], status: int, words: str
) -> None:
    if "done" in arguments:
        machine.ctl("wait", "done", "--for", "completed")
    done = machine.ctl(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr


def test_a_signal_reaches_the_process(machine: Desk) -> None:
    pid = machine.json("status", "web-2")["processes"][0]["pid"]
    assert machine.ctl("signal", "USR1", "web-2").returncode == 0
    deadline = time.monotonic() + PATIENCE
    while machine.json("status", "web-2")["processes"][0]["pid"] == pid:
        assert time.monotonic() < deadline
    assert machine.json("status", "web-2")["processes"][0]["lastExit"]["signal"] == "SIGUSR1"


def test_logs_old_and_new(machine: Desk) -> None:
    _await_text(machine, "hello", "oops")
    assert machine.ctl("logs", "web", "-n", "1").stdout.count("\n") == 1
    assert machine.ctl("logs", "web", "-n", "0").stdout == ""
    lines = [json.loads(line) for line in machine.ctl("logs", "web", "--json").stdout.splitlines()]
    assert {(line["stream"], line["text"]) for line in lines} == {("stdout", "hello"), ("stderr", "oops")}
    command = [sys.executable, "-m", "ocelot.ctl", "logs", "web", "-f", "-n", "1", "--plain"]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        try:
            assert follower.stdout.readline() in ("hello\n", "oops\n")  # it has the old, and so is there for the new
            machine.ctl("restart", "web")
            assert {follower.stdout.readline(), follower.stdout.readline()} == {"hello\n", "oops\n"}
            follower.send_signal(signal.SIGINT)
            assert follower.wait(PATIENCE) == 130
        finally:
            follower.kill()


def _await_text(machine: Desk, *words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(word in machine.ctl("logs", "web", "--plain").stdout for word in words):
        assert time.monotonic() < deadline


def test_the_boot_as_a_table_and_as_a_picture(machine: Desk, folder: Path) -> None:
    assert "start" in machine.ctl("boot").stdout
    assert machine.ctl("boot", "--svg", str(folder / "boot.svg")).returncode == 0
    assert (folder / "boot.svg").read_text().startswith("<svg")


def test_power_off_ends_it_in_order(folder: Path) -> None:
    with desk(folder, {"web": SLEEPER}) as machine:
        done = machine.ctl("poweroff")
        assert (done.returncode, done.stdout) == (0, "stopping everything in order; then ocelot exits\n")
        assert machine.process.wait(PATIENCE) == 0
        assert not os.path.exists(machine.socket)
        assert machine.ctl("status").returncode == 3


def test_completion_names_live_processes(machine: Desk) -> None:
    assert machine.ctl("__complete", "names").stdout.split() == ["web", "web-2", "stubborn", "done", "broken"]
    assert machine.ctl("__complete", "names", "--socket", "/nowhere").stdout == ""


def test_ocelotctl_starts_without_heavy_imports(machine: Desk) -> None:
    code = (
        "import sys, ocelot.ctl; ocelot.ctl.main(['status']); "
        "print(sorted({'msgspec', 'trio', 'http', 'socket', 'shutil', 'dataclasses', 'json', 'argparse', 're', 'enum'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r}); {code}"],
        env=machine.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


# -- who may do what


@pytest.mark.root
@pytest.mark.parametrize(
    ("identity", "read", "operate", "admin"),
    [
        ({"user": 1234, "group": 1234, "extra_groups": []}, 200, 403, 403),
        ({"user": 1300, "group": 1300, "extra_groups": [7, 4321]}, 200, 403, 403),
        ({"user": 1300, "group": 4321, "extra_groups": []}, 200, 403, 403),
        ({"user": 1235, "group": 1235, "extra_groups": []}, 200, 200, 403),
        ({"user": 1300, "group": 1300, "extra_groups": []}, 403, 403, 403),
    ],
)
def test_the_kernel_vouches_for_users_and_groups(
    machine: Desk, identity: dict[str, object], read: int, operate: int, admin: int
) -> None:
    assert machine.curl("/v1/status", **identity)[0] == read
    assert machine.curl("/v1/processes/web/restart", "-X", "POST", **identity)[0] == operate
    assert machine.curl("/v1/power/halt", "-X", "POST", **identity)[0] == admin
    assert machine.curl("/v1/version", **identity)[0] == 200


@pytest.mark.root
def test_a_crowd_of_one_user_locks_nobody_out(machine: Desk) -> None:
    """200 connections of a user without a role, held open: most are refused, and root is answered all the while."""
    held, result = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            crowd = _crowd()
            os.write(result, str(_refused(crowd, machine.socket)).encode())
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert int(os.read(held, 10)) == 200 - 16
        assert machine.ctl("status").returncode == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(held)
        os.close(result)


def _crowd() -> list[socket.socket]:
    """Become user 1300, with 200 sockets."""
    os.setgroups([])
    os.setuid(1300)
    return [socket.socket(socket.AF_UNIX) for _ in range(200)]


def _refused(crowd: list[socket.socket], path: str) -> int:
    """Connect them all, and count those that are refused. The first ones in are the ones let in."""
    for client in crowd:
        client.connect(path)
    refused = 0
    for client in reversed(crowd):
        client.settimeout(1.0)
        try:
            refused += b"503" in client.recv(100)
        except TimeoutError:
            break
    return refused


def test_hostile_clients_change_nothing(machine: Desk) -> None:
    machine.ctl(
        "wait", "web", "web-2", "stubborn", "--for", "running"
    )  # those have their pipes, what ends has none any more
    machine.ctl("wait", "done", "broken", "--for", "exited")
    before = os.listdir(f"/proc/{machine.process.pid}/fd")
    for payload in (
        b"\x00" * 10_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 200_000,
        b"POST /v1/processes/start HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\n\r\n",
        b"POST /v1/processes/start HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/logs?follow=1 HTTP/1.1\r\nHost: o\r\n\r\n",
        b"GET /%00%ff/../v1 HTTP/1.1\r\nHost: o\r\n\r\n",
        os.urandom(5000),
    ) * 10:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(machine.socket)
            try:
                client.sendall(payload)
            except OSError:
                continue  # it has hung up already
    assert machine.ctl("status").returncode == 0
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(f"/proc/{machine.process.pid}/fd")) > len(before):
        assert time.monotonic() < deadline, "descriptors leak"
        time.sleep(0.05)
    assert machine.process.poll() is None


def test_a_half_closed_client_is_answered(machine: Desk) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(machine.socket)
        client.sendall(b"GET /v1/version HTTP/1.1\r\nHost: o\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := client.recv(4096):
            heard += piece
    assert heard.startswith(b"HTTP/1.1 200 OK")


def _asked(path: str, target: str, body: dict[str, object]) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(path)
    text = json.dumps(body).encode()
    client.sendall(b"POST %s HTTP/1.1\r\nHost: o\r\nContent-Length: %d\r\n\r\n" % (target.encode(), len(text)) + text)
    return client


def test_who_has_stopped_waiting_is_not_waited_for(machine: Desk) -> None:
    """A user has 16 connections: each that he gave up would be gone for as long as he had asked to wait."""
    machine.ctl("wait", "web")
    before = len(os.listdir(f"/proc/{machine.process.pid}/fd"))
    for _ in range(20):
        _asked(machine.socket, "/v1/processes/web/wait", {"condition": "stopped", "timeout": 3600}).close()
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(f"/proc/{machine.process.pid}/fd")) > before:
        assert time.monotonic() < deadline, "they are still there"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "then", [b"GET /v1/version HTTP/1.1\r\nHost: o\r\n\r\n", b""], ids=["pipelined", "half closed"]
)
def test_who_has_said_more_or_all_is_waited_for(machine: Desk, then: bytes) -> None:
    machine.ctl("wait", "web")
    with _asked(machine.socket, "/v1/processes/web/wait", {"condition": "stopped", "timeout": 0.5}) as client:
        if then:
            client.sendall(then)
        else:
            client.shutdown(socket.SHUT_WR)
        heard = b""
        while b'"settled":false' not in heard or (then and b'"api"' not in heard):
            heard += (block := client.recv(65536))
            assert block, heard


# -- the socket's file


def test_a_live_socket_is_refused_and_a_dead_one_replaced(folder: Path) -> None:
    path = str(folder / "c.sock")
    with listen_unix(path, 0o600), pytest.raises(ControlError, match="another instance answers there"):
        listen_unix(path, 0o600)
    assert os.path.exists(path)
    with listen_unix(path, 0o640):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_what_is_no_socket_is_not_touched(folder: Path) -> None:
    path = folder / "precious"
    path.write_text("data")
    with pytest.raises(ControlError, match="it is not a socket"):
        listen_unix(str(path), 0o600)
    assert path.read_text() == "data"


def test_the_folder_is_made_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        listen_unix(str(folder / "a" / "b" / "c.sock"), 0o666).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "a" / "b").stat().st_mode) == 0o755


def test_a_path_that_is_too_long_is_named_as_such(folder: Path) -> None:
    with pytest.raises(ControlError, match="has at most 103 bytes"):
        listen_unix(str(folder / ("x" * 120)), 0o600)


@pytest.mark.parametrize("address", ["localhost:80", "1.2.3.4", ":x", "1.2.3.4:70000", "::1"])
def test_addresses_are_numeric(address: str) -> None:
    with pytest.raises(ControlError, match="numeric address"):
        listen_tcp(address)


def test_a_taken_port_is_named() -> None:
    with listen_tcp("[::1]:0") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ControlError, match="Address already in use"):
            listen_tcp(f"[::1]:{port}")


def test_who_waits_at_a_terminal_is_told_for_what(machine: Desk) -> None:
    """After a while; and to stop waiting leaves what was asked for to go on."""
    machine.ctl("start", "stubborn")
    command = [sys.executable, "-m", "ocelot.ctl", "wait", "stubborn", "web", "--for", "stopped"]
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=machine.environment, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        told = b""
        while b"\n" not in told:
            assert select.select([master], [], [], PATIENCE)[0], "nothing was told"
            told += os.read(master, 4096)
        assert told.startswith(b"ocelotctl: waiting for stubborn, web to be stopped; Ctrl-C ends only this waiting")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    os.close(master)
    assert state(machine, "stubborn") == "running"
    with subprocess.Popen(
        [*command[:3], "stop", "stubborn"], env=machine.environment, stderr=subprocess.DEVNULL
    ) as process:
        machine.until(lambda now: now["stubborn"]["state"] == "stopping")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    machine.until(lambda now: now["stubborn"]["state"] == "stopped")


def test_what_is_done_badly_is_a_failure_and_what_is_done_well_is_none(folder: Path) -> None:
    """Whatever the state is called: health is for those who have to know."""
    mine = {"restartPolicy": {"type": "Never", "successExitCodes": [0, 3]}}
    processes = {
        "web": SLEEPER,
        "well": {"program": "/bin/sh", "arguments": ["-c", "exit 3"], "type": "oneshot", **mine},
        "badly": {"program": "/bin/sh", "arguments": ["-c", "exit 4"], **mine},
        "killed": {"program": "/bin/sh", "arguments": ["-c", "kill -9 $$"]},
        "later": {"program": "/bin/false", "type": "oneshot", "schedule": {"every": "1h"}},
        "stopped": SLEEPER,
    }
    with desk(folder, processes) as machine:
        machine.ctl("start", "later")
        machine.ctl("stop", "stopped")
        ended = ("well", "badly", "killed", "later")
        found = machine.until(lambda now: {now[name]["state"] for name in ended} == {"exited"})
        assert {name for name, each in found.items() if each["failed"]} == {"badly", "killed"}
        health = machine.ctl("health")
        assert (health.returncode, health.stdout) == (1, "failed: badly, killed\n")
        assert machine.ctl("status", "web", "well").returncode == 0
        assert machine.ctl("status", "badly").returncode == 1
        assert machine.ctl("status", "--json", "well").returncode == 0
        machine.ctl("stop", "badly", "killed")
        assert machine.ctl("health").returncode == 0
