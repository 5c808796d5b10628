"""Notifications to a real ocelot: by systemd-notify, by hand, by strangers, and by those who mean it ill."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from integration import speaker
from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.config import structs
from ocelot.wire.client import call
from supervisor.health.notify import Notifications

pytestmark = pytest.mark.root

SPEAKER = str(Path(speaker.__file__))


def speaking(*words: str, **more: Any) -> dict[str, Any]:
    return {"program": sys.executable, "arguments": ["-SE", SPEAKER, *words], "notify": "systemd", **more}


def heard(machine: Desk, name: str) -> dict[str, Any]:
    found: dict[str, Any] = machine.processes()[name]["health"]["notify"]
    return found


def test_what_processes_say(tmp_path: Path) -> None:
    said = {
        "plain": speaking("0.2", "READY=1+STATUS=serving 3 clients"),
        "gone": speaking("gone"),
        "dropped": speaking("dropped"),
        "barrier": speaking("barrier", "fdstore", "READY=1"),
        "garbage": speaking("garbage", "READY=1"),
        "flood": speaking("flood", "READY=1"),
        "main": speaking("child", "MAINPID=1", "READY=1"),
        "reloads": speaking("READY=1", "0.1", "RELOADING=1+MONOTONIC_USEC=1"),
        "stops": speaking("READY=1", "0.4", "STOPPING=1+ERRNO=5"),
        "newline": {
            "program": "/bin/sh",
            "arguments": ["-c", "sleep 0.2; echo >&5; exec 5>&-; exec sleep 1000"],
            "notify": {"fd": 5},
        },
    }
    with desk(tmp_path, said) as machine:
        found = machine.until(lambda all_: all(each["state"] == "running" for each in all_.values()))
        machine.until(lambda all_: all_["stops"]["ready"] is False)
        found = machine.until(lambda all_: all_["reloads"]["health"]["notify"]["state"] == "reloading")
        for name in set(said) - {"stops"}:
            assert found[name]["ready"], name
        notify = {name: process["health"]["notify"] for name, process in found.items()}
        assert notify["plain"]["text"] == "serving 3 clients"
        assert notify["gone"]["text"] == "child 4"
        assert notify["stops"]["state"] == "stopping"
        assert notify["stops"]["errno"] == 5
        assert notify["newline"] is None
        main = notify["main"]["mainPid"]
        assert main != found["main"]["pid"]
        assert Path(f"/proc/{main}/stat").read_text().split()[3] == str(found["main"]["pid"])
        log = machine.log.read_text()
        assert "barrier True" in log
        assert "fdstore True" in log
        assert log.count("barrier: notify: FDSTORE is refused") == 1
        assert log.count("main: notify: MAINPID=1 is refused") == 1
        assert log.count("garbage: notify: a message of more than 4096 bytes is ignored") == 1
        assert log.count("flood: notify: sends more than") == 1
        assert "could not be taken" not in log
        environment = Path(f"/proc/{found['plain']['pid']}/environ").read_bytes().split(b"\0")
        path = next(each[14:].decode() for each in environment if each.startswith(b"NOTIFY_SOCKET="))
        assert path.startswith("/run/ocelot/notify/plain.")
        assert os.path.exists(path)
    assert not os.path.exists(path)


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="systemd-notify is not installed")
def test_systemd_notify_in_a_script(tmp_path: Path) -> None:
    script = "systemd-notify --status='coming up'; sleep 0.2; systemd-notify --ready --status=up; exec sleep 1000"
    mine = "systemd-notify --ready --pid=$$ --uid=nobody; exec sleep 1000"
    unwatched = 'test -n "$WATCHDOG_USEC" && exit 9; systemd-notify --ready; exec sleep 1000'
    said = {
        name: {"program": "/bin/sh", "arguments": ["-c", text], "notify": "systemd"}
        for name, text in (("script", script), ("user", mine), ("unwatched", unwatched))
    }
    said["other"] = {**said["script"], "user": "nobody"}
    said["other"]["readinessProbe"] = {"handler": {"type": "exec", "command": ["id", "-u"]}}
    with desk(tmp_path, said) as machine:
        found = machine.until(lambda all_: all(each["ready"] for each in all_.values()))
        assert found["other"]["health"]["probes"][0]["output"] == "65534"
        assert found["script"]["health"]["notify"]["text"] == "up"
        assert found["user"]["health"]["notify"]["mainPid"] == found["user"]["pid"]


def test_who_is_not_of_the_process_is_not_heard(tmp_path: Path) -> None:
    go = tmp_path / "go"
    victim = speaking(f"await:{go}", "STATUS=mine")
    with desk(tmp_path, {"victim": victim, "other": speaking("READY=1")}) as machine:
        found = machine.until(lambda all_: all_["other"]["ready"] and all_["victim"]["pid"])
        environment = Path(f"/proc/{found['victim']['pid']}/environ").read_bytes().split(b"\0")
        address = next(each[14:].decode() for each in environment if each.startswith(b"NOTIFY_SOCKET="))
        for _ in range(500):
            speaker.send(b"READY=1\nMAINPID=1", address=address)
        for _ in range(3):  # of another user, and ended before anybody can look at them
            speaker.from_a_child(b"READY=1", uid=65534, address=address)
        go.touch()
        found = machine.until(lambda all_: all_["victim"]["health"]["notify"]["text"] == "mine")  # and all before it
        assert (found["victim"]["state"], found["victim"]["ready"]) == ("starting", False)
        assert found["victim"]["health"]["notify"]["mainPid"] in (None, found["victim"]["pid"])
        log = machine.log.read_text()
        assert log.count("victim: notify: a message from pid") == 1


def test_a_flood_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    floods = {f"flood{number}": speaking("flood", "flood", "READY=1") for number in range(3)}
    with desk(tmp_path, floods) as machine:
        machine.until(lambda all_: any(each["health"]["notify"]["text"] for each in all_.values()))
        waited = []
        for _ in range(20):
            began = time.monotonic()
            call(machine.socket, "GET", "/v1/status")
            waited.append(time.monotonic() - began)
            time.sleep(0.02)
        print(f"a status during a flood: {sorted(waited)[10] * 1000:.0f}ms, at most {max(waited) * 1000:.0f}ms")
        assert sorted(waited)[10] < 0.2
        machine.until(lambda all_: all(each["ready"] for each in all_.values()))


def test_deadlines_and_watchdogs(tmp_path: Path) -> None:
    watchdog = {"type": "systemd", "watchdog": "300ms"}
    again = {"type": "Always", "backoff": "0s"}
    said = {
        "never": {**SLEEPER, "notify": {"type": "systemd", "timeout": "200ms"}},
        "extends": speaking(
            "EXTEND_TIMEOUT_USEC=5000000", "0.6", "READY=1", notify={"type": "systemd", "timeout": "400ms"}
        ),
        "no-newline": {**SLEEPER, "notify": {"fd": 3, "timeout": "300ms"}},
        "faithful": speaking("READY=1", *["ping"] * 50, notify=watchdog),
        "silent": speaking("READY=1", "ping", notify=watchdog, restartPolicy=again),
        "trigger": speaking("READY=1", "0.2", "WATCHDOG=trigger", notify=watchdog, restartPolicy=again),
    }
    with desk(tmp_path, said) as machine:
        found = machine.until(
            lambda all_: all(all_[name]["restarts"] for name in ("silent", "trigger")) and all_["extends"]["ready"],
        )
        assert found["silent"]["restartsByCause"].keys() == {"watchdog"}
        assert found["trigger"]["restartsByCause"].keys() == {"watchdog"}
        assert (found["faithful"]["restarts"], found["faithful"]["ready"]) == (0, True)
        assert found["faithful"]["health"]["notify"]["watchdog"] == 0.3
        found = machine.until(lambda all_: all_["never"]["state"] == all_["no-newline"]["state"] == "exited")
        assert found["never"]["lastExit"]["cause"] == "startup"
        assert "it did not say that it is ready within 0.2s" in found["never"]["reason"]
        log = machine.log.read_text()
        assert "silent: stopping: it sent no WATCHDOG=1 for 0.3s" in log
        assert "trigger: stopping: it sent WATCHDOG=trigger" in log


@pytest.mark.parametrize("image", ["same", "another"])
def test_a_daemon_goes_on_as_the_main_pid_that_it_names(tmp_path: Path, image: str) -> None:
    """The first process exits, as daemons do: that is no end, but the end of its heir is."""
    again = {"type": "Always", "backoff": "0s"}
    with desk(tmp_path, {"daemon": speaking("0.1", "succeed", restartPolicy=again)}) as machine:

        def goes_on() -> dict[str, Any]:
            def settled(all_: dict[str, Any]) -> bool:
                notify = all_["daemon"]["health"]["notify"]
                heir = notify["text"].startswith("goes on") and notify["mainPid"] == all_["daemon"]["pid"]
                return bool(heir and all_["daemon"]["state"] == "running")

            found: dict[str, Any] = machine.until(settled)["daemon"]
            return found

        found = goes_on()
        assert (found["state"], found["ready"], found["restarts"]) == ("running", True, 0)
        os.kill(found["pid"], signal.SIGKILL)
        machine.until(lambda all_: all_["daemon"]["restarts"] == 1)
        last = goes_on()
        assert (last["restartsByCause"], last["lastExit"]["signal"]) == ({"signal": 1}, "SIGKILL")
        if image == "another":
            assert machine.ctl("reexec").returncode == 0
        assert machine.ctl("stop", "daemon").returncode == 0
        assert not os.path.exists(f"/proc/{last['pid']}")
        worker = last["health"]["notify"]["text"].split()[-1]
        assert not os.path.exists(f"/proc/{worker}")  # of the group that the first process had made


def test_who_spoke_while_ocelot_had_no_time_is_not_condemned(tmp_path: Path) -> None:
    """A machine that is overloaded, or was paused, must not kill processes that did what they should."""
    limit, go, spoken = 2.0, tmp_path / "go", [tmp_path / "late", tmp_path / "newline"]
    script = f"while [ ! -e {go} ]; do sleep 0.01; done; echo >&5; : > {spoken[1]}; exec sleep 1000"
    said = {
        "faithful": speaking("READY=1", *["ping"] * 50, notify={"type": "systemd", "watchdog": f"{limit}s"}),
        "late": speaking(
            f"await:{go}", "READY=1", f"mark:{spoken[0]}", notify={"type": "systemd", "timeout": f"{limit}s"}
        ),
        "newline": {
            "program": "/bin/sh",
            "arguments": ["-c", script],
            "notify": {"fd": 5, "timeout": f"{limit}s"},
        },
    }
    with desk(tmp_path, said) as machine:
        machine.until(lambda all_: all_["faithful"]["ready"] and all_["late"]["pid"] and all_["newline"]["pid"])
        machine.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        go.touch()
        while time.monotonic() < stopped + limit + 0.1 or not all(path.exists() for path in spoken):
            assert time.monotonic() < stopped + PATIENCE
            time.sleep(0.02)
        machine.process.send_signal(signal.SIGCONT)
        found = machine.until(lambda all_: all(each["state"] != "starting" for each in all_.values()))
        assert {name: (each["state"], each["restarts"]) for name, each in found.items()} == dict.fromkeys(
            said, ("running", 0)
        )


class Silent:
    """A relay that only remembers what it is to look at."""

    def __init__(self) -> None:
        self.ready: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, ready: Callable[[], None]) -> None:
        self.ready[fd] = ready

    def add_again(self, fd: int, ready: Callable[[], None]) -> None:
        self.add(fd, ready)

    def remove(self, fd: int) -> None:
        self.ready.pop(fd, None)

    def start_soon(self, work: object) -> bool:
        raise AssertionError("nothing to be done later")

    def look(self) -> None:
        for ready in self.ready.values():
            ready()


def test_others_reach_the_socket_whatever_our_umask_is(tmp_path: Path) -> None:
    async def main() -> list[int]:
        folder = tmp_path / "new" / "notify"
        said = Notifications("p", structs.Notify(type="systemd"), Silent(), lambda: None, folder=str(folder))
        before = os.umask(0o077)
        try:
            address = said.handles().environment["NOTIFY_SOCKET"]
        finally:
            os.umask(before)
        modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (folder.parent, folder, address)]
        said.close()
        return modes

    assert trio.run(main) == [0o755, 0o755, 0o666]


@pytest.mark.parametrize("folder", ["notify", "/proc/nowhere"])
def test_what_a_life_leaves_unread_is_not_for_the_next_one(tmp_path: Path, folder: str) -> None:
    """Also where there may be no files: then the socket is abstract."""

    async def main() -> None:
        relay = Silent()
        folder_ = str(tmp_path / folder)
        heard = Notifications("p", structs.Notify(type="systemd"), relay, lambda: None, folder=folder_)
        address = heard.handles().environment["NOTIFY_SOCKET"]
        assert address.startswith("@ocelot/notify/p." if folder.startswith("/") else f"{folder_}/p.")
        speaker.send(b"READY=1", address=address)  # before the pid is known: it waits
        relay.look()
        assert not heard.ready.is_set()
        heard.begin(os.getpid())
        relay.look()
        assert heard.ready.is_set()
        reader, writer = os.pipe()
        speaker.from_a_child(b"READY=1", address=address)
        speaker.send(b"BARRIER=1", writer, address=address)
        os.close(writer)
        assert heard.handles().environment["NOTIFY_SOCKET"] == address
        assert os.read(reader, 1) == b""  # whoever waits for that barrier waits no longer
        os.close(reader)
        heard.begin(os.getpid())
        relay.look()
        assert not heard.ready.is_set()
        heard.close()
        assert not (tmp_path / "notify").exists() or os.listdir(tmp_path / "notify") == []

    trio.run(main)


def reloading(how: str, folder: Path, **more: Any) -> dict[str, Any]:
    folder.mkdir()
    arguments = ["-SE", "-m", "integration.reloader", how, str(folder)]
    process = {"program": sys.executable, "arguments": arguments, "workingDirectory": str(Path(__file__).parent.parent)}
    return {**process, "notify": "systemd", "reloadSignal": "HUP", **more}


def test_a_reload_waits_for_the_process_to_say_that_it_is_done(tmp_path: Path) -> None:
    silent = {"notify": {"type": "systemd", "reload": False}}
    said = {how: reloading(how, tmp_path / how) for how in ("well", "stale", "mute", "dies")}
    said["silent"] = reloading("mute", tmp_path / "silent", **silent)
    with desk(tmp_path, said) as machine:
        machine.until(lambda all_: all(each["ready"] for each in all_.values()))

        late = machine.ctl("reload", "-t", "1s", "well")
        assert late.returncode == 6
        assert "it has not said READY=1 within 1s" in late.stderr
        assert "running (reloading)" in machine.ctl("status").stdout
        assert heard(machine, "well")["reload"] == "reloading"
        (tmp_path / "well" / "go").touch()
        machine.until(lambda all_: all_["well"]["health"]["notify"]["reload"] == "done")
        assert machine.processes()["well"]["reason"] == "has reloaded"
        assert machine.ctl("reload", "well").returncode == 0
        assert heard(machine, "well")["text"] == "reloaded"

        for name in ("stale", "mute"):
            late = machine.ctl("reload", "-t", "500ms", name)
            assert late.returncode == 6
            assert f'cannot wait any longer for "{name}" to reload: it got the signal, but has not said' in late.stderr
        assert heard(machine, "stale")["text"] == "reloaded", "it was heard, but it was another reload"
        assert machine.ctl("reload", "silent").returncode == 0
        assert machine.ctl("reload", "--no-wait", "mute").returncode == 0
        gone = machine.ctl("reload", "dies")
        assert (gone.returncode, "it ended before it had reloaded" in gone.stderr) == (1, True)
