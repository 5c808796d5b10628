"""``ocelotctl reload`` and SIGHUP on a real supervisor: only what is different is touched, and a bad file touches nothing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration.desk import SLEEPER, Desk, desk

RELOADER = {
    "program": "/bin/sh",
    "arguments": ["-c", "trap 'echo reloaded $X' HUP; echo up $X; while :; do sleep 0.1; done"],
}


class File:
    """The configuration that a desk was started with, to be changed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ocelot.yaml"
        self.content: dict[str, Any] = json.loads(self.path.read_text())

    @property
    def processes(self) -> dict[str, Any]:
        found: dict[str, Any] = self.content["processes"]
        return found

    def write(self) -> None:
        self.path.write_text(json.dumps(self.content))


def pids(running: Desk) -> dict[str, int | None]:
    return {each["name"]: each["pid"] for each in running.json("status")["processes"]}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_only_what_is_different_is_touched(tmp_path: Path) -> None:
    start = {
        "same": SLEEPER,
        "live": {**SLEEPER, "restartPolicy": {"type": "Always"}},
        "other": {**SLEEPER, "environment": {"PORT": 80}},
        "stopped": {**SLEEPER, "environment": {"PORT": 80}},
        "gone": SLEEPER,
        "failed": {"program": "/bin/false", "restartPolicy": {"type": "Always", "maxRetries": 0}},
    }
    with desk(tmp_path, start) as running:
        running.ctl("stop", "stopped")
        file = File(tmp_path)
        before = pids(running)
        assert running.ctl("reload").stdout == "nothing has changed\n"
        file.processes["live"]["restartPolicy"]["backoff"] = "5s"
        for name in ("other", "stopped"):
            file.processes[name]["environment"]["PORT"] = 81
        file.processes["failed"] = SLEEPER
        file.processes["new"] = SLEEPER
        del file.processes["gone"]
        file.content["control"]["mode"] = "0666"
        file.write()

        expected = {
            "- gone: removed",
            "~ live: restartPolicy.backoff: 2s -> 5s (no restart)",
            "~ other: environmentVariables.PORT: 80 -> 81 (restart)",
            "~ stopped: environmentVariables.PORT: 80 -> 81 (restart)",
            "~ failed: program: /bin/false -> /bin/sleep (restart)",
            '~ failed: arguments: [] -> ["1000"] (restart)',
            "~ failed: restartPolicy.type: Always -> Never (no restart)",
            "~ failed: restartPolicy.maxRetries: 0 -> (not set) (no restart)",
            "+ new: added",
            "~ control.mode: 0600 -> 0666 (no restart)",
        }
        dry = running.ctl("reload", "--dry-run").stdout.splitlines()
        assert set(dry[:-1]) == expected
        assert dry[-1] == "would be restarted: other, failed"
        assert pids(running) == before

        done = running.ctl("reload").stdout.splitlines()
        assert set(done[:-1]) == expected
        assert done[-1] == "restarted: other, failed"
        running.ctl("start", "other", "failed", "new")  # waits for them
        after = pids(running)
        assert list(after) == ["same", "live", "other", "stopped", "failed", "new"]
        for name in ("same", "live", "stopped"):
            assert after[name] == before[name], name
        assert before["other"] != after["other"]
        assert b"PORT=81" in Path(f"/proc/{after['other']}/environ").read_bytes()
        assert after["failed"] is not None
        running.ctl("start", "stopped")
        assert b"PORT=81" in Path(f"/proc/{pids(running)['stopped']}/environ").read_bytes()
        assert running.ctl("reload").stdout == "nothing has changed\n"


@pytest.mark.parametrize("way", ["command", "signal"])
def test_a_file_with_errors_changes_nothing(tmp_path: Path, way: str) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as running:
        before = pids(running)
        file = tmp_path / "ocelot.yaml"
        file.write_text("processes:\n  new: {program: /bin/true}\n  web: {programm: /bin/sleep}\n")
        problem = f'{file}:3:9: processes.web.programm: unknown key "programm" (did you mean "program"?)'
        if way == "command":
            done = running.ctl("reload")
            assert done.returncode == 1
            assert problem in done.stderr.splitlines()
            assert "nothing was changed" in done.stderr
            answer = running.ctl("reload", "--json")
            assert answer.returncode == 1
            assert problem in json.loads(answer.stdout)["problems"]
            assert json.loads(answer.stdout)["applied"] is False
        else:
            running.process.send_signal(signal.SIGHUP)
            until(lambda: problem in running.log.read_text())
        assert pids(running) == before


def test_sighup_reloads_and_tells_it_in_the_log(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as running:
        file = File(tmp_path)
        file.processes["new"] = SLEEPER
        file.content["logLevel"] = "debug"
        file.write()
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "new" in pids(running))
        text = running.log.read_text()
        assert "reload: + new: added" in text
        assert "reload: ~ logLevel: info -> debug (no restart)" in text


def test_another_file_and_one_that_is_not_there(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as running:
        other = tmp_path / "other.json"
        content = json.loads((tmp_path / "ocelot.yaml").read_text())
        content["processes"]["more"] = SLEEPER
        other.write_text(json.dumps(content))
        assert running.ctl("reload", "--file", str(other)).stdout == "+ more: added\n"
        assert running.ctl("reload").stdout == "- more: removed\n"
        done = running.ctl("reload", "--file", str(tmp_path / "nowhere"))
        assert done.returncode == 1
        assert "cannot read the file: No such file or directory" in done.stderr


def test_what_depends_on_others_is_stopped_before_and_started_after_them(tmp_path: Path) -> None:
    def noting(name: str, *others: str) -> dict[str, Any]:
        script = f"trap 'echo -{name} >> {tmp_path}/order; exit' TERM; echo +{name} >> {tmp_path}/order; while :; do sleep 0.05; done"
        return {"program": "/bin/sh", "arguments": ["-c", script], "dependsOn": list(others)}

    order = tmp_path / "order"
    with desk(tmp_path, {"web": noting("web", "db"), "db": noting("db"), "cache": noting("cache")}) as running:
        until(lambda: order.exists() and len(order.read_text().split()) == 3)
        order.write_text("")
        file = File(tmp_path)
        for name in ("web", "db"):
            file.processes[name]["environment"] = {"X": "1"}
        file.write()
        assert "restarted: web, db" in running.ctl("reload").stdout
        until(lambda: len(order.read_text().split()) == 4)
        found = order.read_text().split()
        assert found[:2] == ["-web", "-db"]
        assert sorted(found[2:]) == ["+db", "+web"]  # two shells at once: what each writes first is not for us to order
        started = {each["name"]: each["startedAt"] for each in running.json("status")["processes"]}
        assert started["db"] < started["web"]


def test_what_an_operator_stopped_stays_stopped_unless_its_policy_is_always(tmp_path: Path) -> None:
    policies = ("Always", "UnlessStopped", "Never")
    with desk(tmp_path, {each: {**SLEEPER, "restartPolicy": {"type": each}} for each in policies}) as running:
        running.ctl("stop", "--all")
        file = File(tmp_path)
        for each in file.processes.values():
            each["environment"] = {"CHANGED": "1"}
        file.write()
        assert running.json("reload")["restarted"] == ["Always"]
        until(lambda: pids(running)["Always"] is not None)
        found = pids(running)
        assert (found["UnlessStopped"], found["Never"]) == (None, None)


def test_what_was_scaled_is_as_the_file_says_again_unless_it_is_to_stay(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": {**SLEEPER, "replicas": 3}, "db": {**SLEEPER, "replicas": 1}}) as running:
        assert running.ctl("scale", "web", "5").returncode == 0
        assert running.ctl("reexec").returncode == 0
        told = "~ web: replicas: 5 (scaled) -> 3 (no restart)\n"
        assert running.ctl("reload", "--dry-run").stdout == told
        assert running.ctl("reload", "--dry-run", "--keep-scale").stdout == "nothing has changed\n"
        file = File(tmp_path)
        file.processes["web"]["environment"] = {"NEW": "1"}
        file.processes["db"]["replicas"] = 2
        file.write()
        kept = running.ctl("reload", "--keep-scale").stdout
        assert "~ web: environmentVariables.NEW" in kept
        assert "~ db: replicas: 1 -> 2 (no restart)" in kept
        until(lambda: len(pids(running)) == 7)
        assert running.ctl("reload", "--dry-run").stdout == told
        assert running.ctl("reload").stdout == told
        until(lambda: len(pids(running)) == 5)
        file.processes["web"]["replicas"] = 4
        file.write()
        assert running.ctl("reload").stdout == "~ web: replicas: 3 -> 4 (no restart)\n"
        assert running.ctl("reload", "--keep-scale", "web").returncode == 2


def test_replicas_come_and_go(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": {**SLEEPER, "replicas": 2}}) as running:
        before = pids(running)
        file = File(tmp_path)
        file.processes["web"]["replicas"] = 3
        file.write()
        running.ctl("reload")
        until(lambda: len(pids(running)) == 3)
        now = pids(running)
        assert {name: now[name] for name in before} == before
        file.processes["web"]["replicas"] = 1
        file.write()
        running.ctl("reload")
        until(lambda: list(pids(running)) == ["web[0]"])
        assert pids(running)["web[0]"] == before["web[0]"]


def test_replicas_that_go_are_not_called_restarted(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": {**SLEEPER, "replicas": 3}}) as running:
        file = File(tmp_path)
        file.processes["web"].update(replicas=1, environment={"PORT": 80})
        file.write()
        assert running.ctl("reload", "--dry-run").stdout.splitlines()[-1] == "would be restarted: web[0]"
        before = pids(running)
        assert running.ctl("reload").stdout.splitlines()[-1] == "restarted: web[0]"
        after = running.until(lambda now: list(now) == ["web[0]"] and now["web[0]"]["state"] == "running")
        assert after["web[0]"]["pid"] != before["web[0]"]


def test_a_process_reloads_by_its_own_signal(tmp_path: Path) -> None:
    processes = {"web": {**RELOADER, "reloadSignal": "HUP", "environment": {"X": "1"}}, "plain": SLEEPER}
    with desk(tmp_path, processes) as running:
        until(lambda: "up 1" in running.ctl("logs", "web").stdout)
        before = pids(running)
        assert running.ctl("reload", "web").returncode == 0
        until(lambda: "reloaded 1" in running.ctl("logs", "web").stdout)
        done = running.ctl("reload", "plain")
        assert done.returncode == 1
        assert 'cannot reload "plain": it has no reloadSignal' in done.stderr
        assert running.ctl("reload", "web", "--dry-run").returncode == 2
        assert running.ctl("reload", "nobody").returncode == 4
        assert pids(running) == before


def test_what_was_reloaded_survives_a_reexec(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": {**SLEEPER, "replicas": 2}, "gone": SLEEPER}) as running:
        file = File(tmp_path)
        file.processes["web"]["replicas"] = 3
        file.processes["new"] = SLEEPER
        del file.processes["gone"]
        file.write()
        running.ctl("reload")
        until(lambda: list(pids(running)) == ["web[0]", "web[1]", "web[2]", "new"])
        running.ctl("start", "*")
        before = pids(running)
        assert running.ctl("reexec").returncode == 0
        assert pids(running) == before
        assert running.ctl("reload").stdout == "nothing has changed\n"
        assert running.ctl("scale", "web", "1").returncode == 0
        until(lambda: list(pids(running)) == ["web[0]", "new"])
