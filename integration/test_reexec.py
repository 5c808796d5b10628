"""``ocelotctl reexec`` under load: who dies meanwhile is counted, whoever writes loses nothing, whoever connects is answered."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from integration.desk import SLEEPER, Desk, await_socket, desk
from ocelot import __version__

TIMES = 6
WRITERS = 3
CHECKOUT = Path(__file__).parent.parent


def crasher(tally: Path, end: str) -> dict[str, Any]:
    """Writes a line for each start, and ends at once or after a moment."""
    script = f'echo x >> "{tally}"; {end}'
    policy = {"type": "Always", "backoff": "20ms", "multiplier": 1, "successExitCodes": []}
    return {"program": "/bin/sh", "arguments": ["-c", script], "restartPolicy": policy}


def writer(path: Path) -> dict[str, Any]:
    """Counts on its standard output, which goes to a file that is rotated all the time, until there is a file ``enough``."""
    enough = path.parent / "enough"
    script = (
        f'i=0; while [ ! -e "{enough}" ]; do i=$((i+1)); echo line $i; done; echo $i > "{path}.count"; exec sleep 1000'
    )
    stream = {
        "destination": {"type": "file", "path": str(path)},
        "rotation": {"maxSizeBytes": "256KiB", "maxFiles": 5000},
    }
    return {"program": "/bin/sh", "arguments": ["-c", script], "log": {"stdout": stream}}


def written(path: Path) -> list[str]:
    """All lines of a log file and of what it was before, in order."""

    def age(old: Path) -> tuple[str, int]:
        stamp, _, number = old.name.rpartition("-")
        return stamp, int(number)

    old = sorted(path.parent.glob(f"{path.name}.*Z-*"), key=age)
    return b"".join(each.read_bytes() for each in [*old, path]).decode().splitlines()


class Hammer(threading.Thread):
    """Asks for the status without a pause, each time on a connection of its own."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.answers = 0
        self.failures: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(20)
                    connection.connect(self.path)
                    connection.sendall(
                        b"GET /v1/status?name=sleeper-0 HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n"
                    )
                    answer = b""
                    while piece := connection.recv(65536):
                        answer += piece
                if not answer.startswith(b"HTTP/1.1 200"):
                    self.failures.append(answer[:200].decode())
                self.answers += 1
            except OSError as error:
                self.failures.append(repr(error))


@contextmanager
def hammering(path: str) -> Iterator[Hammer]:
    hammer = Hammer(path)
    hammer.start()
    yield hammer
    hammer.ended.set()
    hammer.join(30)


def by_name(status: Any) -> dict[str, Any]:
    return {each["name"]: each for each in status["processes"]}


def reexec(running: Desk, *arguments: str) -> Any:
    """Replace it; one that is busy is asked again."""
    done = running.ctl("reexec", "--json", *arguments, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_all(running: Desk, folder: Path) -> None:
    """Replace it again and again under load, and then hold everything against everything."""
    assert running.ctl("start", "sleeper-*").returncode == 0  # which waits for them
    before = by_name(running.json("status"))
    with hammering(running.socket) as hammer:
        for turn in range(1, TIMES + 1):
            reply = reexec(running)
            assert reply["turn"] == turn
            print(f"away for {reply['away'] * 1000:.0f} ms")
            seen = by_name(running.json("status"))
            for name, each in seen.items():
                assert each["restarts"] >= before[name]["restarts"], name
                if name.startswith("sleeper"):
                    assert (each["pid"], each["startedAt"]) == (before[name]["pid"], before[name]["startedAt"])
                    assert each["uptime"] > before[name]["uptime"]
            before = seen
    assert hammer.failures == []
    assert hammer.answers > 50
    (folder / "enough").touch()
    for number in range(WRITERS):
        path = folder / f"writer-{number}.log"
        last = int(content_of(Path(f"{path}.count")))
        assert last > 10_000
        awaited = time.monotonic() + 20
        while (lines := written(path))[-1:] != [f"line {last}"]:
            assert time.monotonic() < awaited
            time.sleep(0.05)
        assert lines == [f"line {i}" for i in range(1, last + 1)]
    running.ctl("stop", "crasher-*", "killed-*")
    after = by_name(running.json("status"))
    for name, each in after.items():
        tally = folder / name
        if tally.exists():
            starts = len(tally.read_bytes().splitlines())
            assert starts in (each["restarts"], each["restarts"] + 1), (
                name
            )  # the last one may be stopped before it wrote
            assert starts > 20
            kind = "signal" if name.startswith("killed") else "exit"
            assert set(each["restartsByCause"]) == {kind}, name
    assert zombies_of(running.process.pid) == []


def content_of(path: Path) -> str:
    """Of a file that is about to be written."""
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def zombies_of(parent: int) -> list[str]:
    done = subprocess.run(
        ["ps", "--ppid", str(parent), "-o", "stat=,comm="], capture_output=True, text=True, check=False
    )
    return [line for line in done.stdout.splitlines() if line.startswith("Z")]


def load(folder: Path) -> dict[str, Any]:
    processes: dict[str, Any] = {f"sleeper-{n}": SLEEPER for n in range(20)}
    for n in range(13):
        processes[f"crasher-{n}"] = crasher(folder / f"crasher-{n}", f"sleep 0.{n:02}; exit {n}")
        processes[f"killed-{n}"] = crasher(folder / f"killed-{n}", f"sleep 0.{n:02}; kill -9 $$")
    for n in range(WRITERS):
        processes[f"writer-{n}"] = writer(folder / f"writer-{n}.log")
    return processes


def test_under_load_nothing_is_lost(tmp_path: Path) -> None:
    with desk(tmp_path, load(tmp_path), logLevel="error") as running:
        check_all(running, tmp_path)


@pytest.mark.root
def test_as_pid_1_of_a_namespace(tmp_path: Path) -> None:
    file = tmp_path / "ocelot.json"
    path = str(tmp_path / "control.sock")
    processes = {
        "sleeper": SLEEPER,
        "orphans": {
            "program": "/bin/sh",
            "arguments": ["-c", "while :; do (sleep 0.05 &); sleep 0.02; done"],
        },
    }
    file.write_text(json.dumps({"version": "1.0", "processes": processes, "control": {"socket": path}}))
    command = [
        "unshare",
        "--fork",
        "--pid",
        "--mount-proc",
        "--kill-child",
        sys.executable,
        "-m",
        "ocelot",
        "supervise",
    ]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, str(file)], stdout=output, stderr=output, cwd=CHECKOUT)
    try:
        await_socket(path, process)
        running = Desk(path, process, log)
        before = reaped(running)
        for turn in range(1, 4):
            assert reexec(running)["turn"] == turn
            after = reaped(running)
            assert after > before
            before = after
        status = running.json("status")
        assert status["identity"] == "container"
        assert status["pid"] == 1
        assert by_name(status)["sleeper"]["restarts"] == 0
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(20) == 0
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        process.kill()
        process.wait()


def reaped(running: Desk) -> float:
    lines = running.ctl("metrics").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("ocelot_reaped_orphans_total ")]
    return float(line.split()[1])


# -- when it cannot be


def image(folder: Path, code: str) -> Path:
    """A runtime that is this one, with something different about it: ``code`` runs first."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "python3").symlink_to(sys.executable)
    path = [str(CHECKOUT), *sys.path]
    script = f"#!{programs}/python3\nimport sys\nsys.path[:] = {path!r}\n{code}\n"
    (programs / "ocelot").write_text(f"{script}from ocelot.cli import main\nsys.exit(main())\n")
    return folder


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, {"sleeper": SLEEPER}) as found:
        yield found


def test_a_runtime_of_its_own(running: Desk, tmp_path: Path) -> None:
    folder = image(tmp_path / "newer", "import ocelot; ocelot.__version__ = '9.9'")
    assert reexec(running, "--runtime", str(folder))["version"] == "9.9"
    assert reexec(running)["version"] == "9.9", "from now on that is what runs"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "import supervisor.snapshots; supervisor.snapshots.VERSION += 1",
            "the state has version 1, ocelot 0.1.0 reads 2",
        ),
        ("raise SystemExit('broken')", "broken"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_an_image_that_does_not_understand_is_refused(running: Desk, tmp_path: Path, code: str, says: str) -> None:
    before = running.json("status")
    done = running.ctl("reexec", "--runtime", str(image(tmp_path / "other", code)))
    assert done.returncode == 1
    assert says in done.stderr
    after = running.json("status")
    assert [each["pid"] for each in after["processes"]] == [each["pid"] for each in before["processes"]]
    assert reexec(running)["turn"] == 1


def test_an_image_that_fails_to_take_over_gives_everything_back(running: Desk, tmp_path: Path) -> None:
    code = """
if "--restore" in sys.argv:
    import ocelot.resume
    def restore(life, kept):
        original(life, kept)
        raise RuntimeError("a bug of the new one")
    original, ocelot.resume.restore = ocelot.resume.restore, restore
"""
    before = by_name(running.json("status"))
    done = running.ctl("reexec", "--runtime", str(image(tmp_path / "other", code)))
    assert done.returncode == 1
    assert "the other image failed, and the one before goes on" in done.stderr
    assert "a bug of the new one" in running.log.read_text()
    assert by_name(running.json("status"))["sleeper"]["pid"] == before["sleeper"]["pid"]
    reply = reexec(running)
    assert (reply["turn"], reply["version"]) == (1, __version__)


@pytest.mark.parametrize(
    ("runtime", "says"),
    [("relative", "No such file"), ("/nowhere/at/all", "no such file or directory"), ("/usr", "")],
)
def test_what_is_no_runtime_is_refused(running: Desk, runtime: str, says: str) -> None:
    done = running.ctl("reexec", "--runtime", runtime)
    assert done.returncode == 1
    assert "cannot use the runtime" in done.stderr
    assert says.lower() in done.stderr.lower()


def test_a_hidden_command_is_not_for_people() -> None:
    for arguments in (["--check"], ["--restore", "x"], []):
        command = [sys.executable, "-m", "ocelot", "reexec", *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert done.returncode != 0
        assert "ocelotctl reexec" in done.stderr


# -- what goes on


def now(running: Desk, name: str) -> Any:
    return by_name(running.json("status"))[name]


def until(condition: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"program": "/bin/sh", "arguments": ["-c", script], **more}


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
            assert after.keys() >= before.keys()
            for key, value in before.items():
                assert after[key] >= value, key
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
