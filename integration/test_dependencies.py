"""Dependencies, replicas and commands before and after, with real children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from integration.desk import PATIENCE, SLEEPER, desk

SHORT = {"terminationGracePeriod": "5s"}


def speaker(folder: Path, name: str, *, start: float = 0.0, stop: float = 0.0, **more: Any) -> dict[str, Any]:
    """A service that writes into the diary when it is up and when it has been told to stop."""
    script = f"""
        sleep {start}
        trap 'sleep {stop}; echo "{name} down" >> {folder}/diary; exit 0' TERM
        echo "{name} up" >> {folder}/diary; echo ready
        while :; do sleep 0.02; done"""
    return {"program": "/bin/sh", "arguments": ["-c", script], **SHORT, **more}


def once(folder: Path, name: str, code: int = 0, *, takes: float = 0.0, **more: Any) -> dict[str, Any]:
    script = f'sleep {takes}; echo "{name} done" >> {folder}/diary; exit {code}'
    return {"program": "/bin/sh", "arguments": ["-c", script], "type": "oneshot", **SHORT, **more}


def diary(folder: Path) -> list[str]:
    try:
        return (folder / "diary").read_text().splitlines()
    except FileNotFoundError:
        return []


def states(processes: dict[str, Any]) -> dict[str, str]:
    return {name: each["state"] for name, each in processes.items()}


def everything_is(state: str) -> Any:
    return lambda found: set(states(found).values()) == {state}


def by_log(pattern: str) -> dict[str, Any]:
    return {"readinessProbe": {"handler": {"type": "log", "pattern": pattern}}}


def test_up_in_order_and_down_in_reverse(tmp_path: Path) -> None:
    processes = {
        "web": speaker(tmp_path, "web", stop=0.2, dependsOn=["api", "migrate"]),
        "api": speaker(tmp_path, "api", stop=0.1, dependsOn={"db": "Healthy", "migrate": None}),
        "migrate": once(tmp_path, "migrate", takes=0.2, dependsOn={"db": "LogReady"}),
        "db": speaker(tmp_path, "db", start=0.3, **by_log("^ready$")),
    }
    with desk(tmp_path, processes) as machine:
        waiting = machine.until(lambda found: found["db"]["state"] == "starting")
        assert waiting["api"]["state"] == "waiting"
        assert '"db" to be healthy (starting)' in waiting["api"]["reason"]
        found = machine.until(lambda found: found["web"]["state"] == "running")
        assert [each["name"] for each in found["api"]["dependsOn"] if each["met"]] == ["db", "migrate"]
        machine.until(lambda _: len(diary(tmp_path)) == 4)
        assert diary(tmp_path)[:2] == ["db up", "migrate done"]
    assert diary(tmp_path)[-3:] == ["web down", "api down", "db down"]
    assert machine.process.returncode == 0


def test_a_failure_for_good_is_told_to_the_last_one(tmp_path: Path) -> None:
    processes = {
        "web": {**SLEEPER, "dependsOn": ["api"]},
        "api": {**SLEEPER, "dependsOn": ["migrate"]},
        "migrate": once(tmp_path, "migrate", 7, takes=0.2),
        "soft": {**SLEEPER, "dependsOn": {"migrate": {"required": False}}},
    }
    with desk(tmp_path, processes) as machine:
        found = machine.until(lambda found: found["soft"]["state"] == "running")
        assert states(found) == {"web": "fatal", "api": "fatal", "migrate": "exited", "soft": "running"}
        assert "web -> api -> migrate, and migrate exited with status 7" in found["web"]["reason"]
        assert found["web"]["lastExit"]["cause"] == "dependency"
        # It is brought back together with what it requires
        (tmp_path / "diary").unlink()
        done = machine.ctl("start", "web")
        assert done.returncode == 1
        assert diary(tmp_path) == ["migrate done"]
    assert "soft: starts without migrate, which it does not require" in machine.log.read_text()


def test_the_status_of_a_set_whose_first_failure_took_others_along(tmp_path: Path) -> None:
    processes = {"web": {**SLEEPER, "dependsOn": ["job"]}, "job": once(tmp_path, "job", 7, takes=0.5)}
    with desk(tmp_path, processes) as machine:
        assert machine.process.wait(PATIENCE) == 7


def test_restarts_are_followed(tmp_path: Path) -> None:
    processes = {
        "db": {**SLEEPER, "restartPolicy": {"type": "Always", "backoff": "0s"}},
        "follower": {**SLEEPER, "dependsOn": {"db": {"restart": True}}},
        "other": {**SLEEPER, "dependsOn": ["db"]},
    }
    with desk(tmp_path, processes) as machine:
        before = machine.until(everything_is("running"))
        os.kill(before["db"]["pid"], signal.SIGKILL)
        after = machine.until(
            lambda found: found["follower"]["restarts"] == 1 and set(states(found).values()) == {"running"}
        )
        assert after["follower"]["restartsByCause"] == {"dependency": 1}
        assert after["follower"]["pid"] != before["follower"]["pid"]
        assert after["other"]["pid"] == before["other"]["pid"]


def test_the_verbs_of_an_operator(tmp_path: Path) -> None:
    processes = {
        "web": speaker(tmp_path, "web", stop=0.3, dependsOn=["api"]),
        "api": {**SLEEPER, "dependsOn": ["db"]},
        "db": speaker(tmp_path, "db"),
    }
    with desk(tmp_path, processes) as machine:
        machine.until(lambda _: sorted(diary(tmp_path)) == ["db up", "web up"])
        assert machine.ctl("stop", "db", "web").returncode == 0
        assert diary(tmp_path)[2:] == ["web down", "db down"]
        assert states(machine.processes()) == {"web": "stopped", "api": "running", "db": "stopped"}
        assert machine.ctl("restart", "api").returncode == 0
        machine.until(lambda _: diary(tmp_path)[4:] == ["db up"])
        assert states(machine.processes()) == {"web": "stopped", "api": "running", "db": "running"}


def test_replicas(tmp_path: Path) -> None:
    program = {"program": "/bin/sh", "arguments": ["-c", "echo I am $OCELOT_REPLICA; exec sleep 1000"], **SHORT}
    with desk(tmp_path, {"web": {**program, "replicas": 2}, "db": SLEEPER}) as machine:
        machine.until(everything_is("running"))
        assert machine.ctl("__complete", "names").stdout.split() == ["web", "web[0]", "web[1]", "db"]
        assert machine.ctl("scale", "web", "4").returncode == 0
        assert list(machine.processes()) == ["web[0]", "web[1]", "web[2]", "web[3]", "db"]
        machine.until(lambda _: len(machine.ctl("logs", "web", "--plain").stdout.splitlines()) == 4)
        said = machine.ctl("logs", "web", "--plain").stdout.splitlines()
        assert sorted(said) == [f"I am {number}" for number in range(4)]
        assert machine.ctl("scale", "web", "1").returncode == 0
        assert list(machine.processes()) == ["web[0]", "db"]
        assert machine.ctl("stop", "web[0]").returncode == 0
        assert states(machine.processes()) == {"web[0]": "stopped", "db": "running"}
        assert machine.ctl("start", "web").returncode == 0
        assert [each["name"] for each in machine.json("status", "web")["processes"]] == ["web[0]"]
        assert machine.ctl("signal", "KILL", "web").returncode == 0
        machine.until(lambda found: found["web[0]"]["lastExit"]["signal"] == "SIGKILL")
        failed = machine.ctl("scale", "db", "2")
        assert failed.returncode != 0
        assert 'cannot scale "db": it has no replicas' in failed.stderr


def test_commands_before_and_after(tmp_path: Path) -> None:
    note = f'echo "$0 $OWN $OCELOT_EXIT_STATUS $OCELOT_EXIT_CAUSE" >> {tmp_path}/diary; echo said by $0'
    processes = {
        "app": {
            **speaker(tmp_path, "app"),
            "environment": {"OWN": "it"},
            "preStart": [
                {"command": "/bin/sh", "arguments": ["-c", note, "first"]},
                {"command": "/bin/sh", "arguments": ["-c", note, "second"]},
            ],
            "postStop": {"command": "/bin/sh", "arguments": ["-c", note, "last"]},
        },
        "other": SLEEPER,
    }
    with desk(tmp_path, processes) as machine:
        machine.until(lambda _: len(diary(tmp_path)) == 3)
        os.kill(machine.processes()["app"]["pid"], signal.SIGKILL)
        machine.until(lambda found: found["app"]["state"] == "exited")
        assert diary(tmp_path) == ["first it  ", "second it  ", "app up", "last it 137 signal"]
        assert "said by last" in machine.ctl("logs", "app").stdout


def test_a_command_that_hangs_goes_with_all_its_children(tmp_path: Path) -> None:
    hang = f"sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/shell; sleep 1000"
    command = {"command": "/bin/sh", "arguments": ["-c", hang], "timeout": "700ms"}
    with desk(tmp_path, {"app": {**SLEEPER, "preStart": command}, "other": SLEEPER}) as machine:
        found = machine.until(lambda found: found["app"]["state"] == "fatal")
        assert 'cannot run "/bin/sh" to its end within 0.7s' in found["app"]["reason"]
        for name in ("child", "shell"):
            assert_gone(int((tmp_path / name).read_text()))


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.02)


def test_chains_stop_side_by_side(tmp_path: Path) -> None:
    """Two chains; the end of a dependant that takes its time is awaited, that of another does not hold it up."""
    processes = {
        "slow": speaker(tmp_path, "slow", stop=0.8, dependsOn=["slow-db"]),
        "slow-db": speaker(tmp_path, "slow-db"),
        "quick": speaker(tmp_path, "quick", dependsOn=["quick-db"]),
        "quick-db": speaker(tmp_path, "quick-db"),
    }
    with desk(tmp_path, processes) as machine:
        machine.until(lambda _: len(diary(tmp_path)) == 4)
    assert diary(tmp_path)[4:] == ["quick down", "quick-db down", "slow down", "slow-db down"]
    assert machine.process.returncode == 0


def test_a_graph_can_be_shown_where_its_lines_cannot_be_written(tmp_path: Path) -> None:
    """In a locale older than UTF-8 (locale(7))."""
    with desk(tmp_path, {"web": {**SLEEPER, "dependsOn": ["db"]}, "db": SLEEPER}) as machine:
        old = {**machine.environment, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(
            [sys.executable, "-m", "ocelot.ctl", "graph"], env=old, capture_output=True, text=True, timeout=PATIENCE
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "web  " in done.stdout
        assert "\\u2514\\u2500 db" in done.stdout
