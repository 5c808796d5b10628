"""What lasts outlives a reexec, which cuts every connection: it goes on, without losing or repeating anything, and says so once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from integration.desk import PATIENCE, Desk, desk
from integration.test_reload import until

TALKER = {
    "program": "/bin/sh",
    "arguments": ["-c", "trap 'n=$((n+1)); echo said $n' USR1; trap 'exit 7' TERM; while :; do sleep 0.05; done"],
}
CUT = "the connection was cut"


def counted(folder: Path, name: str, script: str, **more: Any) -> dict[str, Any]:
    """``script`` in ``folder``, which notes its starts in NAME.starts."""
    arguments = ["-c", f"echo x >>{name}.starts; {script}; while :; do sleep 0.05; done"]
    return {"program": "/bin/sh", "arguments": arguments, "workingDirectory": str(folder), **more}


def starts(folder: Path, name: str) -> int:
    return len((folder / f"{name}.starts").read_text().splitlines())


class Lasting:
    """An ``ocelotctl`` that goes on for long."""

    def __init__(self, machine: Desk, folder: Path, *arguments: str) -> None:
        self.name = arguments[0]
        about = "-".join(arguments)
        self.output, self.words = folder / f"{about}.out", folder / f"{about}.err"
        with self.output.open("wb") as output, self.words.open("wb") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ocelot.ctl", *arguments],
                env=machine.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=words,
            )

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()


@contextmanager
def lasting(machine: Desk, folder: Path, *commands: tuple[str, ...]) -> Iterator[list[Lasting]]:
    """All of them, connected."""
    with ExitStack() as stack:
        until(lambda: connections(machine) == 0)
        started = []
        for command in commands:
            one = Lasting(machine, folder, *command)
            stack.callback(one.process.wait)
            stack.callback(one.process.kill)
            started.append(one)
        until(lambda: connections(machine) == len(started))
        yield started


def connections(machine: Desk) -> int:
    """How many there are to the control socket (proc(5): its own line is that of what listens)."""
    lines = Path(f"/proc/{machine.process.pid}/net/unix").read_text().splitlines()
    return sum(machine.socket in line for line in lines) - 1


def reexec(machine: Desk, there: Callable[[], bool]) -> None:
    done = machine.ctl("reexec")
    assert done.returncode == 0, done.stderr
    until(there)


def test_what_lasts_goes_on_over_a_reexec(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": TALKER, "other": TALKER}) as machine:
        machine.until(lambda found: found["web"]["state"] == "running")
        commands = [
            ("logs", "-f", "-n", "0", "--plain", "web"),
            ("events", "-f", "-n", "0", "--json", "web"),
            ("wait", "web", "--for", "stopped"),
            ("attach", "web"),
        ]
        with lasting(machine, tmp_path, *commands) as (logs, events, wait, attach):
            all_of_them = connections(machine)
            reexec(machine, lambda: connections(machine) == all_of_them)
            machine.ctl("signal", "USR1", "web")
            until(lambda: logs.lines() == attach.lines() == ["said 1"])
            reexec(machine, lambda: connections(machine) == all_of_them)
            machine.ctl("signal", "USR1", "web")
            until(lambda: logs.lines() == attach.lines() == ["said 1", "said 2"])
            machine.ctl("stop", "web")
            assert wait.process.wait(PATIENCE) == 0
            assert attach.process.wait(PATIENCE) == 7
            until(lambda: len(events.lines()) == 2)
            assert [json.loads(line)["state"] for line in events.lines()] == ["stopping", "stopped"]
            assert logs.lines()[:2] == ["said 1", "said 2"], "each of them once"
            assert len(logs.lines()) <= 3  # the shell may say what has ended its sleep
            for each in (logs, events, wait, attach):
                assert each.words.read_text().count(CUT) == 1, each.name
            machine.process.terminate()
            assert logs.process.wait(PATIENCE) == events.process.wait(PATIENCE) == 3


def test_what_happens_between_two_images_is_not_lost(tmp_path: Path) -> None:
    """It ends and says its last words while nobody listens: those who come back hear of it."""
    noisy = {"program": "/bin/sh", "arguments": ["-c", "while [ ! -e go ]; do sleep 0.01; done; echo last; exit 3"]}
    with desk(tmp_path, {"job": {**noisy, "workingDirectory": str(tmp_path)}, "other": TALKER}) as machine:
        commands = [("logs", "-f", "-n", "0", "--plain", "job"), ("attach", "job"), ("wait", "job", "--for", "exited")]
        with lasting(machine, tmp_path, *commands) as (logs, attach, wait):
            for one in (logs, attach, wait):
                os.kill(one.process.pid, 19)  # SIGSTOP: they come back late
            done = machine.ctl("reexec")
            assert done.returncode == 0, done.stderr
            (tmp_path / "go").touch()
            machine.until(lambda found: found["job"]["state"] == "exited")
            for one in (logs, attach, wait):
                os.kill(one.process.pid, 18)
            assert wait.process.wait(PATIENCE) == 0
            assert attach.process.wait(PATIENCE) == 3
            until(lambda: logs.lines() == ["last"])
            assert attach.lines() == ["last"]


def test_what_was_asked_for_before_a_reexec_is_not_asked_for_twice(tmp_path: Path) -> None:
    """And whoever waits for it hears what became of it."""
    probe = {"handler": {"type": "exec", "command": ["test", "-e", str(tmp_path / "end")]}}
    probe |= {"period": "100ms", "timeout": "100ms", "failureThreshold": 10_000}
    slow = "trap 'while [ ! -e end ]; do sleep 0.05; done; exit 0' TERM"
    processes = {name: counted(tmp_path, name, slow) for name in ("off", "late")}
    processes["again"] = counted(tmp_path, "again", slow.replace("-e end", "-e again.end"))
    processes["on"] = counted(tmp_path, "on", ":", startupProbe=probe)
    processes["fails"] = counted(tmp_path, "fails", "while [ ! -e end ]; do sleep 0.05; done; exit 4")
    processes["fails"]["startupProbe"] = {**probe, "handler": {"type": "exec", "command": ["/bin/false"]}}
    with desk(tmp_path, {**processes, "other": TALKER}) as machine:
        machine.until(lambda found: all(found[name]["pid"] for name in processes))
        machine.ctl("stop", "on", "fails")
        commands = [
            ("restart", "again"),
            ("stop", "off"),
            ("start", "on"),
            ("start", "fails"),
            ("restart", "-t", "3s", "late"),
        ]
        with lasting(machine, tmp_path, *commands) as waiting:
            machine.until(lambda found: all(found[name]["state"] in ("stopping", "starting") for name in processes))
            os.kill(waiting[0].process.pid, 19)  # SIGSTOP: what it waits for is over when it comes back
            reexec(machine, lambda: connections(machine) == len(commands) - 1)
            (tmp_path / "again.end").touch()
            machine.until(lambda found: found["again"]["state"] == "running")
            os.kill(waiting[0].process.pid, 18)
            assert waiting[-1].process.wait(PATIENCE) == 6
            (tmp_path / "end").touch()
            assert [each.process.wait(PATIENCE) for each in waiting] == [0, 0, 0, 1, 6]
            for one in waiting:
                assert one.words.read_text().count(CUT) == 1, one.words.read_text()
            machine.until(lambda found: found["late"]["state"] == "running")
        expected = {"again": 2, "off": 1, "on": 2, "fails": 2, "late": 2}
        assert {name: starts(tmp_path, name) for name in processes} == expected


def test_a_reload_is_not_asked_for_twice(tmp_path: Path) -> None:
    speaks = {"program": sys.executable, "arguments": ["-SE", "-m", "integration.reloader", "well", str(tmp_path)]}
    speaks |= {"notify": "systemd", "reloadSignal": "HUP", "workingDirectory": os.getcwd()}
    with desk(tmp_path, {"web": speaks}) as machine:
        machine.until(lambda found: found["web"]["ready"])
        with lasting(machine, tmp_path, ("reload", "web")) as (reload,):
            machine.until(lambda found: found["web"]["health"]["notify"]["reload"] == "reloading")
            assert "running (reloading)" in machine.ctl("status").stdout
            reexec(machine, lambda: connections(machine) == 1)
            assert reload.process.poll() is None
            (tmp_path / "go").touch()
            assert reload.process.wait(PATIENCE) == 0
        assert (tmp_path / "hups").read_text() == "hup\n"
