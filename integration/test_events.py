"""The events stream and wait, with real processes; and who may ask for what, at every endpoint."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.wire.protocol import Role
from ocelot.wire.routes import ROUTES, Route

CTL = [sys.executable, "-m", "ocelot.ctl"]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Desk]:
    processes = {
        "web": SLEEPER,
        "done": {"program": "/bin/true", "type": "oneshot"},
        "failing": {"program": "/bin/sh", "arguments": ["-c", "exit 3"], "type": "oneshot"},
    }
    with desk(tmp_path, processes) as running:
        yield running


def events(machine: Desk, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in machine.ctl("events", "--json", *arguments).stdout.splitlines()]


def test_history_follows_what_happened_in_order(machine: Desk) -> None:
    machine.ctl("wait", "done", "--for", "completed")
    found = events(machine, "done")
    assert [event["state"] for event in found] == ["starting", "running", "exited"]
    assert found[-1]["cause"] == "exit"
    assert events(machine, "done", "-n", "1") == found[-1:]
    assert events(machine, "done", "--after", str(found[0]["number"])) == found[1:]
    assert events(machine, "--after", "5", "done")[0] == {"kind": "gap", "missed": None}
    text = machine.ctl("events", "done").stdout.splitlines()
    assert [line.split(" ", 1)[1].split(",")[0] for line in text] == ["done: starting", "done: running", "done: exited"]
    assert machine.ctl("events", "nothing").returncode == 4


def test_followers_hear_of_changes_as_they_happen(machine: Desk) -> None:
    command = [*CTL, "events", "-f", "--json", "web"]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        before = json.loads(follower.stdout.readline())
        machine.ctl("restart", "web")
        states = []
        while states[-2:] != ["starting", "running"] or "stopped" not in states:
            event = json.loads(follower.stdout.readline())
            assert event["number"] > before["number"]
            states.append(event["state"])
            before = event
        assert states[-4:] == ["stopping", "stopped", "starting", "running"]
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE) == 130


def test_a_follower_goes_on_across_a_reexec_and_misses_nothing(machine: Desk) -> None:
    command = [*CTL, "events", "-f", "--json", "web"]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, stderr=-1, text=True) as follower:
        assert follower.stdout is not None
        found = [json.loads(follower.stdout.readline()) for _ in range(2)]
        assert machine.ctl("reexec").returncode == 0
        machine.ctl("restart", "web")
        while found[-1]["kind"] != "change" or [event["state"] for event in found].count("running") < 2:
            found.append(json.loads(follower.stdout.readline()))
        assert [event["kind"] for event in found] == ["change"] * len(found)
        states = [event["state"] for event in found]
        assert states == ["starting", "running", "stopping", "stopped", "starting", "running"]
        numbers = [event["number"] for event in found]
        assert numbers == sorted(set(numbers))
        machine.process.terminate()
        assert follower.wait(PATIENCE) == 3


def test_wait_returns_when_it_has_come(machine: Desk) -> None:
    assert machine.ctl("wait", "web").returncode == 0
    assert machine.ctl("wait", "done", "--for", "completed").returncode == 0
    assert machine.ctl("wait", "failing", "--for", "exited").returncode == 0
    waiting = subprocess.Popen([*CTL, "wait", "web", "--for", "stopped", "--json"], env=machine.environment, stdout=-1)
    machine.until_connected()
    assert machine.ctl("status").returncode == 0  # what was asked later has its answer
    assert waiting.poll() is None
    machine.ctl("stop", "web")
    output, _ = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0
    assert json.loads(output)["processes"][0]["state"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["failing", "--for", "completed"], 1, "exited with status 3"),
        (["failing", "done"], 1, '"failing" is ready'),
        (["web", "--for", "exited", "-t", "100ms"], 6, "not exited within 0.1s"),
        (["wbe"], 4, 'did you mean "web"?'),
        (["web", "--for", "tea"], 2, "invalid choice"),
    ],
)
def test_wait_says_why_it_is_in_vain(machine: Desk, arguments: list[str], status: int, words: str) -> None:
    assert machine.ctl("wait", "failing", "--for", "exited").returncode == 0  # for a moment it was ready
    began = time.monotonic()
    done = machine.ctl("wait", *arguments)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert time.monotonic() - began < 20.0  # of the 90 that it would wait


# -- the matrix


RANK = {None: 0, Role.READ: 1, Role.OPERATE: 2, Role.ADMIN: 3}
WHO = [
    (1300, 1300, [], None),
    (1234, 1234, [], Role.READ),
    (1300, 4321, [], Role.READ),
    (1300, 1300, [7, 4321], Role.READ),
    (1235, 1235, [], Role.OPERATE),
    (1300, 1300, [4322], Role.OPERATE),
    (1236, 1236, [], Role.ADMIN),
    (0, 0, [], Role.ADMIN),
]
LAST = ("reexec", "power")
"""Operations that end the one who is asked: asked only by those who may not."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("ocelot", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def _ask_everything(path: str, allowed: int) -> dict[str, int]:
    """The HTTP status of every route. Those that are allowed get a request that they can answer at once."""
    found = {}
    for route in ROUTES:
        if route.operation in LAST and allowed >= RANK[route.role]:
            continue
        connection = _Connection(path)
        target = route.path.replace("{name}", "web").replace("{verb}", "halt")
        connection.request(route.method, target, _body(route), {"Connection": "close"})
        found[route.operation] = connection.getresponse().status
        connection.close()
    return found


def _body(route: Route) -> bytes | None:
    if route.method == "GET":
        return None
    return json.dumps({"names": ["web"], "wait": False, "timeout": 0, "signal": "CONT", "condition": "ready"}).encode()


@pytest.mark.root
def test_every_endpoint_asks_for_its_role_of_every_user() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        roles = {"read": ["1234", "@4321"], "operate": [1235, "@4322"], "admin": ["1236"]}
        with desk(Path(name), {"web": SLEEPER}, control={"mode": "0666", "roles": roles}) as machine:
            for uid, gid, groups, role in WHO:
                found = _as_user(uid, gid, groups, machine.socket, RANK[role])
                for route in ROUTES:
                    if route.operation in found:
                        refused = found[route.operation] == 403
                        assert refused == (RANK[role] < RANK[route.role]), f"{route.operation} for {uid}:{gid} {groups}"
                assert set(found) >= {route.operation for route in ROUTES} - set(LAST)
            assert machine.process.poll() is None


def _as_user(uid: int, gid: int, groups: list[int], path: str, allowed: int) -> dict[str, int]:
    """Ask in a child that has become that user."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            os.write(told, json.dumps(_ask_everything(path, allowed)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    with os.fdopen(heard, "rb") as answers:
        found = json.loads(answers.read() or b"{}")
    assert os.waitpid(child, 0)[1] == 0
    return dict(found)


def test_a_reader_that_falls_behind_is_told_how_much_it_missed_and_goes_on(tmp_path: Path) -> None:
    storm = {
        "program": "/bin/true",
        "restartPolicy": {"type": "Always", "backoff": "0s", "multiplier": 1, "resetAfter": "1ms"},
    }
    with desk(tmp_path, {"storm": storm}, logLevel="error") as machine, socket.socket(socket.AF_UNIX) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(PATIENCE)
        slow.connect(machine.socket)
        slow.sendall(b"GET /v1/events?follow=1&n=0 HTTP/1.1\r\nHost: o\r\n\r\n")
        first = last = _latest(machine)
        deadline = time.monotonic() + PATIENCE  # then it would be left as one that takes nothing
        while last - first < 2000:  # more than the sockets hold and is kept
            assert time.monotonic() < deadline
            time.sleep(0.1)
            last = _latest(machine)
        machine.ctl("stop", "storm")
        heard = b""
        while b'"stopped"' not in heard[-2000:]:
            piece = slow.recv(65536)
            assert piece
            heard += piece
        gaps = [json.loads(line) for line in heard.split(b"\n") if b'"gap"' in line]
        changes = heard.count(b'"kind":"change"')
        assert gaps
        assert changes + sum(gap["missed"] for gap in gaps) >= 2000
        assert changes < 2000


def _latest(machine: Desk) -> int:
    number = events(machine, "-n", "1")[0]["number"]
    assert isinstance(number, int)
    return number


def test_the_graph_of_a_running_set(tmp_path: Path) -> None:
    processes = {
        "app": {**SLEEPER, "dependsOn": {"db": {"condition": "Started"}, "migrate": {}}},
        "migrate": {"program": "/bin/true", "type": "oneshot", "dependsOn": ["db"]},
        "db": SLEEPER,
        "alone": {**SLEEPER, "replicas": 2},
    }
    with desk(tmp_path, processes) as machine:
        assert machine.ctl("wait", "app").returncode == 0
        assert machine.ctl("graph").stdout.splitlines() == [
            "app  running",
            "├─ db  running  (started)",
            "└─ migrate  exited  (completed successfully)",
            "   └─ db  running  (started)",
            "alone  2 running",
        ]
        assert machine.ctl("graph", "alone[1]").stdout == "alone  2 running\n"
        assert machine.json("graph")["app"] == ["db", "migrate"]
        assert machine.ctl("graph", "--svg", str(tmp_path / "graph.svg")).returncode == 0
        assert "app needs migrate" in (tmp_path / "graph.svg").read_text()
        assert {event["name"] for event in events(machine, "alone")} == {"alone[0]", "alone[1]"}
