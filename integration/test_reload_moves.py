"""Reloads in which something goes from one entry to another: an address, a name, a dependency, a time."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from integration.test_metrics import free_port
from integration.test_reload import File, pids

SERVER = """
import os, socket
here = socket.socket(fileno=3)
while True:
    connection, _ = here.accept()
    with connection:
        connection.sendall(os.environ["WHO"].encode())
"""


def server(who: str, port: int) -> dict[str, Any]:
    return {
        "program": sys.executable,
        "arguments": ["-SE", "-c", SERVER],
        "environment": {"WHO": who},
        "sockets": [{"name": "main", "listen": f"127.0.0.1:{port}"}],
    }


def answers(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        return connection.recv(100).decode()


def reload(machine: Desk, file: File, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """Change the file, and take it; the lines that tell what was different."""
    change(file.processes)
    file.write()
    done = machine.ctl("reload")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_two_exchange_their_addresses_and_a_new_one_takes_one_over(tmp_path: Path) -> None:
    a, b, c = free_port(), free_port(), free_port()
    with desk(tmp_path, {"x": server("x", a), "y": server("y", b), "other": SLEEPER}) as machine:
        machine.until(lambda found: all(each["pid"] for each in found.values()))
        assert (answers(a), answers(b)) == ("x", "y")
        before = pids(machine)["other"]

        def exchange(processes: dict[str, Any]) -> None:
            processes["x"]["sockets"][0]["listen"] = f"127.0.0.1:{b}"
            processes["y"]["sockets"][0]["listen"] = f"127.0.0.1:{a}"

        told = reload(machine, File(tmp_path), exchange)
        assert f"~ x: sockets.main.listen: 127.0.0.1:{a} -> 127.0.0.1:{b} (restart)" in told
        machine.ctl("start", "*")
        assert (answers(a), answers(b)) == ("y", "x")

        def take_over(processes: dict[str, Any]) -> None:
            processes["x"]["sockets"][0]["listen"] = f"127.0.0.1:{c}"
            processes["new"] = server("new", b)

        reload(machine, File(tmp_path), take_over)
        machine.ctl("start", "*")
        assert (answers(a), answers(b), answers(c)) == ("y", "new", "x")
        assert pids(machine)["other"] == before


def test_a_process_gets_another_name_and_keeps_its_address(tmp_path: Path) -> None:
    port = free_port()
    with desk(tmp_path, {"old": server("old", port), "user": {**SLEEPER, "dependsOn": ["old"]}}) as machine:
        machine.until(lambda found: all(each["pid"] for each in found.values()))
        user = pids(machine)["user"]

        def rename(processes: dict[str, Any]) -> None:
            del processes["old"]
            processes["new"] = server("new", port)
            processes["user"]["dependsOn"] = ["new"]

        assert reload(machine, File(tmp_path), rename) == [
            "- old: removed",
            "+ new: added",
            "~ user: dependsOn.old: {} -> (not set) (no restart)",
            "~ user: dependsOn.new: (not set) -> {} (no restart)",
        ]
        machine.ctl("start", "new")
        assert answers(port) == "new"
        assert pids(machine)["user"] == user
        assert [each["name"] for each in machine.processes()["user"]["dependsOn"]] == ["new"]


def test_what_is_not_depended_on_any_more_holds_nobody_back(tmp_path: Path) -> None:
    processes = {"slow": {**SLEEPER, "type": "oneshot"}, "user": {**SLEEPER, "dependsOn": ["slow"]}}
    with desk(tmp_path, processes) as machine:
        machine.until(lambda found: found["user"]["state"] == "waiting")
        file = File(tmp_path)
        reload(machine, file, lambda processes: processes["user"].pop("dependsOn"))
        before = machine.until(lambda found: found["user"]["state"] == "running")["user"]["pid"]
        reload(machine, file, lambda processes: processes["user"].update(dependsOn=["slow"]))
        reload(machine, file, lambda processes: (processes["user"].pop("dependsOn"), processes.pop("slow")))
        found = machine.processes()
        assert (list(found), found["user"]["pid"]) == (["user"], before)


def test_a_schedule_is_changed_and_taken_away(tmp_path: Path) -> None:
    job = {"program": "/bin/true", "type": "oneshot", "schedule": {"every": "1h"}}
    with desk(tmp_path, {"job": job, "other": SLEEPER}) as machine:
        file = File(tmp_path)
        told = reload(machine, file, lambda processes: processes["job"].update(schedule={"every": "200ms"}))
        assert told == ["~ job: schedule.every: 1h -> 200ms (no restart)"]
        machine.until(lambda found: found["job"]["lastExit"] is not None)
        reload(machine, file, lambda processes: processes["job"].update(schedule={"every": "1h", "overlap": "queue"}))
        found = machine.until(lambda found: found["job"]["state"] != "running")["job"]
        assert (found["schedule"]["when"], found["schedule"]["overlap"]) == ("every 1h", "queue")
        reload(machine, file, lambda processes: processes["job"].pop("schedule"))
        assert machine.processes()["job"]["schedule"] is None
