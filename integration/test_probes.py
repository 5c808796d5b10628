"""Probes by a real ocelot: of servers that answer well, badly, slowly or not at all, by programs, and by the log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from integration import peers
from integration.desk import PATIENCE, SLEEPER, Desk, desk

GENEROUS = {"period": "5s", "timeout": "5s"}


def probed(handler: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**SLEEPER, "readinessProbe": {"handler": handler, **GENEROUS, **more}}


def results(machine: Desk) -> dict[str, tuple[bool, str]]:
    """What the first probe of each process found, once all have been made."""
    found = machine.until(lambda all_: all(each["health"]["probes"][0]["ok"] is not None for each in all_.values()))
    return {
        name: (each["health"]["probes"][0]["ok"], each["health"]["probes"][0]["output"]) for name, each in found.items()
    }


def test_http(tmp_path: Path) -> None:
    with peers.web() as web, peers.web(peers.certificate(tmp_path)) as secure, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))

        def get(path: str, timeout: str = "5s", **more: Any) -> dict[str, Any]:
            return probed({"type": "httpGet", "port": web.port, "path": path, **more}, timeout=timeout)

        wanted = {
            "ok": (get("/ok"), (True, "200 OK")),
            "by-name": (get("/ok", host="localhost"), (True, "200 OK")),
            "moved": (get("/moved"), (True, "302 Found")),
            "old": (get("/old"), (True, "204 No Content")),
            "continue": (get("/continue"), (True, "200")),
            "endless": (get("/endless"), (True, "200 OK")),
            "missing": (get("/missing"), (False, "answered 404 Not Found: not here")),
            "expected": (get("/missing", expectedStatus="200,404"), (True, "404 Not Found")),
            "unexpected": (get("/ok", expectedStatus=204), (False, "answered 200 OK: ok")),
            "broken": (get("/broken"), (False, "answered 500 Oh No: ?[31mdown")),
            "hang": (get("/hang", timeout="250ms"), (False, "timed out after 0.25s")),
            "drip": (get("/drip", timeout="250ms"), (False, "timed out after 0.25s")),
            "garbage": (get("/garbage"), (False, "what answers does not speak HTTP: illegal status line")),
            "head": (get("/head"), (False, "what answers does not speak HTTP: Receive buffer too long")),
            "nothing": (get("/nothing"), (False, "the connection was closed without an answer")),
            "tls": (get("/ok", port=secure.port, scheme="https"), (True, "200 OK")),
            "tls-missing": (
                get("/missing", port=secure.port, scheme="https"),
                (False, "answered 404 Not Found: not here"),
            ),
            "tls-to-plain": (get("/ok", scheme="https"), (False, "the connection broke: TLS: ")),
            "refused": (
                get("/ok", port=silent.getsockname()[1]),
                (False, f"cannot connect to 127.0.0.1:{silent.getsockname()[1]}: Connection refused"),
            ),
            "headers": (
                get("/ok?a=b", headers={"host": "example.com", "X-Probe": "0644"}),
                (False, "the connection was"),
            ),
        }
        with desk(tmp_path, {name: process for name, (process, _) in wanted.items()}) as machine:
            found = results(machine)
            for name, (_, (ok, output)) in wanted.items():
                assert found[name][0] is ok, (name, found[name])
                assert found[name][1].startswith(output), (name, found[name])
            assert all(process["ready"] is found[name][0] for name, process in machine.processes().items())
        sent = next(request for request in web.requests if "/ok?" in request)
        assert sent.startswith("GET /ok?a=b HTTP/1.1\r\n")
        assert "\r\nhost: example.com\r\n" in sent.lower()
        assert "x-probe: 0644\r\n" in sent.lower()
        assert sent.lower().count("host:") == 1
        plain = next(request for request in web.requests if "/moved" in request)
        assert f"\r\nhost: 127.0.0.1:{web.port}\r\n" in plain.lower()
        assert "\r\nconnection: close\r\n" in plain.lower()


def test_connections_programs_and_grpc(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    path = str(tmp_path / "listening")
    gone = socket.socket(socket.AF_UNIX)
    gone.bind(str(tmp_path / "gone"))
    gone.close()
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX) as local,
        peers.grpc({"": 1, "ready": 1, "down": 2, "unset": 0}.get) as grpc,
        peers.web() as web,
    ):
        local.bind(path)
        local.listen()
        port = listening.getsockname()[1]

        def run(script: str, **more: Any) -> dict[str, Any]:
            return probed({"type": "exec", "command": ["/bin/sh", "-c", script]}, **more)

        def ask(service: str, **more: Any) -> dict[str, Any]:
            return probed({"type": "grpc", "port": grpc, "service": service, **more})

        wanted = {
            "tcp": (probed({"type": "tcpSocket", "port": port}), (True, "connected")),
            "tcp6": (probed({"type": "tcpSocket", "host": "::1", "port": 9}), (False, "cannot connect to ::1:9: ")),
            "name": (probed({"type": "tcpSocket", "host": "no.such.invalid", "port": 9}, timeout="1s"), (False, "")),
            "unix": (probed({"type": "unixSocket", "path": path}), (True, "connected")),
            "unix-gone": (
                probed({"type": "unixSocket", "path": f"{tmp_path}/gone"}),
                (False, f"cannot connect to {tmp_path}/gone: C"),
            ),
            "unix-none": (
                probed({"type": "unixSocket", "path": "/no/such"}),
                (False, "cannot connect to /no/such: No such file"),
            ),
            "good": (run("echo fine; echo more >&2"), (True, "fine more")),
            "bad": (run("echo why; exit 3"), (False, "exited with status 3: why")),
            "killed": (run("kill -SEGV $$"), (False, "was killed by SIGSEGV")),
            "floods": (
                run("head -c 300000 /dev/zero | tr '\\0' x; exit 1"),
                (False, "exited with status 1: xxxx"),
            ),
            "leaves": (run(f"sleep 1000 & echo $! > {marks}/left; exit 0"), (True, "")),
            "hangs": (
                run(f"echo looks; trap '' TERM; sleep 1000 & echo $! > {marks}/hung; wait", timeout="1s"),
                (False, "timed out after 1s: looks"),
            ),
            "absent": (
                probed({"type": "exec", "command": ["/no/such/check"]}),
                (False, 'cannot start "/no/such/check"'),
            ),
            "where": (
                {
                    **run("pwd; echo $OWN"),
                    "workingDirectory": "/",
                    "environment": {"OWN": "mine"},
                },
                (True, "/ mine"),
            ),
            "serving": (ask(""), (True, "SERVING")),
            "service": (ask("ready"), (True, "SERVING")),
            "not-serving": (ask("down"), (False, "NOT_SERVING")),
            "unknown": (ask("unset"), (False, "UNKNOWN")),
            "no-service": (ask("other"), (False, 'the service "other" answered NOT_FOUND: unknown service')),
            "not-grpc": (ask("", port=web.port), (False, "what answers does not speak HTTP/2")),
        }
        with desk(tmp_path, {name: process for name, (process, _) in wanted.items()}) as machine:
            found = results(machine)
            for name, (_, (ok, output)) in wanted.items():
                assert found[name][0] is ok, (name, found[name])
                assert found[name][1].startswith(output), (name, found[name])
            assert len(found["floods"][1]) <= 1024
            for name in ("hung", "left"):
                await_gone(int((marks / name).read_text()))


def await_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"pid {pid} lives on"
        time.sleep(0.02)


def test_what_becomes_of_a_process(tmp_path: Path) -> None:
    """Liveness restarts, startup gives up, readiness comes and goes, and a line of the log is waited for."""
    alive, ready = tmp_path / "alive", tmp_path / "ready"
    alive.touch()

    def exists(path: Path) -> dict[str, Any]:
        return {
            "handler": {"type": "exec", "command": ["test", "-e", str(path)]},
            "period": "200ms",
            "timeout": "200ms",
        }

    policy = {"type": "OnFailure", "backoff": "10ms", "maxRetries": 1}
    set_ = {
        "lively": {**SLEEPER, "livenessProbe": exists(alive), "restartPolicy": {"type": "Always", "backoff": "0s"}},
        "serving": {**SLEEPER, "readinessProbe": {**exists(ready), "failureThreshold": 1}},
        "late": {
            **SLEEPER,
            "startupProbe": {**exists(tmp_path / "never"), "failureThreshold": 2},
            "restartPolicy": policy,
        },
        "logged": {
            "program": "/bin/sh",
            "arguments": ["-c", "echo coming up; sleep 0.4; echo 'listening on 80' >&2; exec sleep 1000"],
            "readinessProbe": {"handler": {"type": "log", "pattern": "^listening on [0-9]+$"}},
        },
        "mute": {
            **SLEEPER,
            "startupProbe": {"handler": {"type": "log", "pattern": "up"}, "period": "100ms", "failureThreshold": 3},
        },
    }
    with desk(tmp_path, set_) as machine:
        found = machine.until(lambda all_: all_["lively"]["ready"] and all_["logged"]["ready"])
        pid = found["lively"]["pid"]
        assert found["logged"]["health"]["probes"][0]["output"] == "listening on 80"
        alive.unlink()
        found = machine.until(lambda all_: all_["lively"]["restarts"] >= 1)
        alive.touch()
        assert found["lively"]["restartsByCause"].keys() == {"liveness"}
        assert found["lively"]["lastExit"]["cause"] == "liveness"
        assert found["lively"]["pid"] != pid
        assert (
            "lively: stopping: its liveness probe failed 3 times in a row: exited with status 1"
            in machine.log.read_text()
        )
        for _ in range(2):
            ready.touch()
            machine.until(lambda all_: all_["serving"]["ready"])
            ready.unlink()
            found = machine.until(lambda all_: not all_["serving"]["ready"])
        assert (found["serving"]["state"], found["serving"]["restarts"]) == ("running", 0)
        found = machine.until(lambda all_: all_["late"]["state"] == "fatal" and all_["mute"]["state"] != "starting")
        assert found["late"]["restartsByCause"] == {"startup": 1}
        assert "its startup probe failed 2 times in a row: exited with status 1" in found["late"]["reason"]
        assert "nothing has matched within 0.1s" in found["mute"]["reason"]


def test_probes_of_a_built_runtime(tmp_path: Path) -> None:
    """What images carry: everything, and TLS if it was asked for."""
    runtime = tmp_path / "runtime"
    build = [sys.executable, "-m", "ocelot", "runtime", "build", str(runtime), "--prefix", str(runtime), "--tls"]
    subprocess.run([*build, "--no-cache"], check=True, capture_output=True)
    with peers.web() as web, peers.web(peers.certificate(tmp_path)) as secure, peers.grpc({"": 1}.get) as grpc:
        expected = {
            "http": (probed({"type": "httpGet", "port": web.port, "path": "/ok", "host": "localhost"}), "200 OK"),
            "grpc": (probed({"type": "grpc", "port": grpc}), "SERVING"),
            "exec": (probed({"type": "exec", "command": ["echo", "fine"]}), "fine"),
            "https": (probed({"type": "httpGet", "port": secure.port, "path": "/ok", "scheme": "https"}), "200 OK"),
        }
        set_ = {name: process for name, (process, _) in expected.items()}
        with desk(tmp_path, set_, program=[f"{runtime}/bin/ocelot"]) as machine:
            assert results(machine) == {name: (True, output) for name, (_, output) in expected.items()}


WITHOUT_TLS = """
import sys
from ocelot.image.runtime import TLS
from ocelot.image.standins import absent
for name in TLS:
    sys.modules[name] = absent
import trio
from ocelot.config import structs
from supervisor.health.probe_network import check_http
from supervisor.health.probes import Failed
try:
    trio.run(check_http, structs.HttpGet(port=int(sys.argv[1]), scheme="https"))
except Failed as failed:
    print(failed)
"""


def test_a_runtime_without_tls_says_so() -> None:
    with peers.web() as web:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TLS, str(web.port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    assert done.stdout.startswith("cannot speak TLS: this runtime was built without it")


@pytest.mark.root
def test_a_hundred_probed_processes_cost_little(tmp_path: Path) -> None:
    """Wake-ups and CPU of ocelot itself with 100 processes that are probed every second."""
    with peers.web() as web:
        probe = {"handler": {"type": "tcpSocket", "port": web.port}, "period": "1s"}
        with desk(tmp_path, {f"p{n}": {**SLEEPER, "livenessProbe": probe} for n in range(100)}) as machine:
            machine.until(lambda all_: all(each["ready"] for each in all_.values()))
            before, known = cost(machine.process.pid), len(web.requests)
            deadline = time.monotonic() + PATIENCE
            while (probes := len(web.requests) - known) < 300:
                assert time.monotonic() < deadline, probes
                time.sleep(0.05)
            after = cost(machine.process.pid)
        cpu, switches = ((b - a) / probes for a, b in zip(before, after, strict=True))
        print(f"a probe: {cpu * 1000:.2f} ms of a core, {switches:.1f} wake-ups")
        assert cpu < 0.005
        assert switches < 5


def cost(pid: int) -> tuple[float, float]:
    """Seconds of CPU and voluntary context switches of a process so far."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = next(
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("voluntary")
    )
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"), float(switches.split()[1])
