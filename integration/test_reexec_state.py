"""``ocelotctl reexec``: what goes on in the new image, kind by kind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from integration.desk import SLEEPER, Desk, desk
from integration.reexecs import by_name, now, reexec, shell, until


def test_every_state_goes_on(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    processes = {
        "runs": shell("echo before; while [ -e hold ]; do sleep 0.05; done; echo after; exec sleep 1000"),
        "stopping": shell(
            f"trap 'while [ -e {hold} ]; do sleep 0.02; done; exit 4' TERM; echo up; while :; do sleep 0.02; done"
        ),
        "backoff": shell("exit 6", restartPolicy={"type": "Always", "backoff": "50s", "multiplier": 1}),
        "soon": shell("exit 6", restartPolicy={"type": "Always", "backoff": "2s", "multiplier": 1}),
        "fatal": {"program": "/nowhere", "restartPolicy": {"type": "Never"}},
        "exited": shell("exit 5"),
        "stopped": SLEEPER,
        "waiting": {**SLEEPER, "dependsOn": ["slow"]},
        "slow": shell(f"while [ -e {hold} ]; do sleep 0.05; done", type="oneshot"),
        "web": {**SLEEPER, "replicas": 2},
        "hourly": {**SLEEPER, "schedule": {"every": "1h"}},
    }
    processes["runs"]["workingDirectory"] = str(tmp_path)
    with desk(tmp_path, processes) as running:
        running.ctl("stop", "stopped")
        until(lambda: "up" in running.ctl("logs", "stopping").stdout)
        running.ctl("stop", "--no-wait", "stopping")
        before = by_name(running.json("status"))
        soon = before.pop("soon")["restarts"]  # at any point of its round, now and then
        assert {name: each["state"] for name, each in before.items()} == {
            "runs": "running",
            "stopping": "stopping",
            "backoff": "backoff",
            "fatal": "fatal",
            "exited": "exited",
            "stopped": "stopped",
            "waiting": "waiting",
            "slow": "running",
            "web[0]": "running",
            "web[1]": "running",
            "hourly": "waiting",
        }
        reexec(running)
        after = by_name(running.json("status"))
        for name, each in before.items():
            for key in ("state", "goal", "pid", "restarts", "lastExit", "reason", "startedAt"):
                assert after[name][key] == each[key], (name, key)
        next_runs = [each["hourly"]["schedule"]["nextRun"] for each in (before, after)]
        assert next_runs[1] == pytest.approx(next_runs[0], abs=0.1)
        waited = before["backoff"]["nextStartIn"] - after["backoff"]["nextStartIn"]
        assert 0 < waited < 50
        hold.unlink()
        until(lambda: now(running, "stopping")["state"] == "stopped")
        assert now(running, "stopping")["lastExit"]["code"] == 4
        assert "stopped (operator)" in now(running, "stopping")["reason"]
        until(lambda: now(running, "waiting")["state"] == "running")
        assert now(running, "slow")["state"] == "exited"
        until(lambda: now(running, "soon")["restarts"] > soon + 1)
        assert running.ctl("logs", "--plain", "runs").stdout.split() == ["before", "after"]
        assert running.ctl("start", "stopped").returncode == 0
        assert running.ctl("scale", "web", "1").returncode == 0


def test_health_and_what_says_it_go_on(tmp_path: Path) -> None:
    go = tmp_path / "go"
    probe = {"handler": {"type": "exec", "command": ["/bin/true"]}, "period": "200ms"}
    says = f"while [ ! -e {go} ]; do sleep 0.05; done; echo >&3; exec sleep 1000"
    processes = {
        "ready": {**SLEEPER, "readinessProbe": {**probe, "period": "1h", "timeout": "1s"}},
        "alive": {**SLEEPER, "livenessProbe": probe},
        "doubtful": {
            **SLEEPER,
            "livenessProbe": {
                "handler": {"type": "exec", "command": ["/bin/false"]},
                "period": "200ms",
                "failureThreshold": 1000,
            },
        },
        "newline": shell(says, notify={"fd": 3, "timeout": "60s"}),
        "later": {**SLEEPER, "dependsOn": ["newline"]},
        "line": shell(
            f"while [ ! -e {go} ]; do sleep 0.05; done; echo I am up; exec sleep 1000",
            readinessProbe={"handler": {"type": "log", "pattern": "am up"}},
        ),
    }
    with desk(tmp_path, processes) as running:
        until(lambda: now(running, "ready")["ready"] and now(running, "alive")["state"] == "running")
        until(lambda: failures(running) > 3)
        before = failures(running)
        reexec(running)
        assert failures(running) >= before
        seen = by_name(running.json("status"))
        assert seen["ready"]["ready"], "though its next check is in an hour"
        assert {name: seen[name]["state"] for name in ("newline", "later", "line")} == {
            "newline": "starting",
            "later": "waiting",
            "line": "starting",
        }
        go.touch()
        for name in ("newline", "later", "line"):
            until(lambda name=name: now(running, name)["ready"])
        events = running.ctl("events", "--json").stdout
        changes = [json.loads(line) for line in events.splitlines()]
        numbers = [each["number"] for each in changes]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "one journal, over both images"
        assert [each["event"] for each in changes if each["name"] == "ready"][-1] == "ready"
        runs = now(running, "alive")["health"]["probes"][0]["runs"]
        until(lambda: now(running, "alive")["health"]["probes"][0]["runs"] > runs)
        assert now(running, "alive")["restarts"] == 0


def failures(running: Desk) -> int:
    """In a row, of the probe that fails."""
    return int(now(running, "doubtful")["health"]["probes"][0]["failures"])


def test_sockets_are_held(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    server = "import socket, time\ns = socket.socket(fileno=3)\nwhile True:\n    c, _ = s.accept()\n    c.sendall(b'hello')\n    c.close()\n"
    entry = {"program": sys.executable, "arguments": ["-c", server], "sockets": [{"name": "web", "listen": str(path)}]}

    def greeted() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            return client.recv(10) == b"hello"

    with desk(tmp_path, {"web": entry}) as running:
        until(path.exists)
        assert greeted()
        inode = path.stat().st_ino
        reexec(running)
        assert greeted()
        running.ctl("restart", "web")
        assert greeted(), "the next start gets the same socket"
        assert path.stat().st_ino == inode
    assert not path.exists()


def test_a_program_of_somebody_else_holds_it_up_and_it_is_said_which(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as running:
        command = [sys.executable, "-m", "ocelot.ctl", "exec", "web", "--", "sleep", "1000"]
        session = subprocess.Popen(command, env=running.environment, stdin=subprocess.DEVNULL)
        try:
            until(
                lambda: (
                    subprocess.run(["pgrep", "-P", str(running.process.pid), "-c"], capture_output=True).stdout
                    == b"2\n"
                )
            )
            done = running.ctl("reexec", timeout=60)
            assert done.returncode == 1
            assert "a program runs that is no supervised process: sleep (pid" in done.stderr
            assert "everything goes on as before" in done.stderr
        finally:
            session.terminate()
            session.wait(20)
        until(lambda: running.ctl("reexec").returncode == 0)


@pytest.mark.parametrize("delay", [0.5, 0.8, 1.1, 1.4])
def test_a_signal_that_comes_meanwhile_is_heeded(tmp_path: Path, delay: float) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as running:
        asked = subprocess.Popen(
            [sys.executable, "-m", "ocelot.ctl", "reexec"],
            env=running.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)  # somewhere between the request and the first moments of the new image
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        asked.wait(30)
        assert "stopped (shutdown): was killed by SIGTERM" in running.log.read_text()


def test_the_metrics_listener_and_the_counters_go_on(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    talker = shell("while :; do echo line; sleep 0.01; done")
    crash = shell(
        "exit 3", restartPolicy={"type": "Always", "backoff": "50ms", "multiplier": 1, "successExitCodes": []}
    )
    with desk(tmp_path, {"talker": talker, "crash": crash}, metrics={"listen": f"127.0.0.1:{port}"}) as running:

        def counters() -> dict[str, float]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
                text = answer.read().decode()
            return {
                f"{sample.name}{dict(sorted(sample.labels.items()))}": sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if family.type in ("counter", "histogram") and not family.name.startswith("ocelot_machine")
            }

        def listens() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        restarts = "ocelot_process_restarts_total{'cause': 'exit', 'process': 'crash'}"
        until(lambda: counters().get(restarts, 0.0) > 5)
        before = counters()
        for _ in range(2):
            reexec(running)
            after = counters()
            assert after[restarts] >= before[restarts]
            assert all("'process': 'crash'" in key for key in before.keys() - after.keys())  # it is between two lives
            for key in before.keys() & after.keys():
                assert after[key] >= before[key], key
            assert after["ocelot_reaped_children_total{}"] > before["ocelot_reaped_children_total{}"] > 5
            assert after["ocelot_loop_busy_seconds_count{}"] > before["ocelot_loop_busy_seconds_count{}"] > 5
            before = after


def test_checks_that_take_their_time_do_not_hold_it_up(tmp_path: Path) -> None:
    probe = {
        "handler": {"type": "exec", "command": ["/bin/sh", "-c", f"echo $$ >> {tmp_path}/checks; sleep 30; exit 1"]},
        "period": "60s",
        "timeout": "50s",
    }
    with desk(tmp_path, {"web": {**SLEEPER, "livenessProbe": probe}}) as running:
        checks = tmp_path / "checks"
        until(lambda: checks.exists() and checks.read_text().endswith("\n"))
        (first,) = checks.read_text().split()
        before = now(running, "web")
        reexec(running)
        until(lambda: len(checks.read_text().split()) == 2, 30)  # made anew, as it was due
        until(lambda: not Path(f"/proc/{first}").exists())
        after = now(running, "web")
        assert after["pid"] == before["pid"]
        assert after["health"]["probes"][0]["failures"] == 0


def test_what_is_started_later_is_given_the_same(tmp_path: Path) -> None:
    """Signals, limits, environment, descriptors: nothing of the way through another image is seen in its children."""
    entry = shell("exec sleep 1000")

    def given(pid: int) -> dict[str, Any]:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        keep = ("SigBlk", "SigIgn", "SigCgt", "Umask", "NoNewPrivs", "Groups", "Cap", "Uid", "Gid")
        return {
            "status": [line for line in status if line.startswith(keep)],
            "limits": Path(f"/proc/{pid}/limits").read_text(),
            "environment": sorted(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")),
            "descriptors": sorted(os.listdir(f"/proc/{pid}/fd")),
            "cwd": os.readlink(f"/proc/{pid}/cwd"),
            "score": Path(f"/proc/{pid}/oom_score_adj").read_text(),
        }

    with desk(tmp_path, {"before": entry, "after": entry}) as running:
        running.ctl("start", "before", "after")
        reexec(running)
        reexec(running)
        running.ctl("restart", "after")
        seen = by_name(running.json("status"))
        assert seen["after"]["restarts"] == 1
        assert given(seen["before"]["pid"]) == given(seen["after"]["pid"])
        own = Path(f"/proc/{running.process.pid}/status").read_text()
        assert "SigBlk:\t0000000000000000" in own


def test_whoever_follows_a_log_misses_nothing_and_sees_nothing_twice(tmp_path: Path) -> None:
    counter = shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done")
    with desk(tmp_path, {"web": counter}) as running:
        said = tmp_path / "said"
        with said.open("wb") as output:
            command = [sys.executable, "-m", "ocelot.ctl", "logs", "-f", "--plain", "web"]
            follower = subprocess.Popen(command, env=running.environment, stdout=output)
        try:
            until(lambda: len(said.read_text().splitlines()) > 20)
            for _ in range(3):
                reexec(running)
                seen = len(said.read_text().splitlines())
                until(lambda seen=seen: len(said.read_text().splitlines()) > seen + 20)
            lines = said.read_text().splitlines()
            assert lines[:-1] == [f"line {number}" for number in range(1, len(lines))]
            running.process.send_signal(signal.SIGTERM)
            assert follower.wait(30) == 3, "and when ocelot ends, it does too"
        finally:
            follower.kill()
            follower.wait()
