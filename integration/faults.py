"""What PID 1 does when the kernel refuses it something: strace(1) makes chosen system calls of a running ocelot fail.

A crowd of processes that uses nearly every key lives in a PID namespace, somebody stirs it, and meanwhile calls of PID 1 alone
(its threads included, its children not) return an error without being made. When that is over, everything must be as before: the
processes up, those that crash restarted, schedules, probes and logs going on, the control socket answering, no zombie, no
descriptor left open, no spinning.

``python -m integration.faults`` runs the whole table of :data:`FAULTS` and prints what became of it; with words as
``openat:EMFILE`` only those.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from integration.desk import SLEEPER, await_socket
from ocelot.errors import ControlError
from ocelot.wire.client import Client, call

CHECKOUT = Path(__file__).parent.parent
PATIENCE = 20.0
STIR = 0.7
"""Seconds that a fault lasts."""

PEER = """
import os, select, socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
where = os.environ["NOTIFY_SOCKET"]
where = "\\0" + where[1:] if where.startswith("@") else where
notify.sendto(b"READY=1", where)
listeners = [socket.socket(fileno=3), socket.socket(fileno=4)]
while True:
    for each in select.select(listeners, [], [], 0.2)[0]:
        connection, _ = each.accept()
        with connection:
            connection.settimeout(1)
            try:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            except OSError:
                pass
    try:
        notify.sendto(b"WATCHDOG=1\\nSTATUS=beats", where)
    except OSError:
        pass
"""


PATTERNS = ("1..40", "2..90+3", "2")
"""A burst, every third one, a single one. They end before strace is taken away: a call that it is about to suppress at that
moment comes back with ENOSYS, whatever was asked for."""


class Fault(NamedTuple):
    """``calls``: names of system calls, with commas between. ``when``: which of them, as strace(1) has it."""

    calls: str
    error: str
    when: str = "1..40"

    def __str__(self) -> str:
        return f"{self.calls}:{self.error}:{self.when}"


def faults(calls: str, *errors: str, when: Sequence[str] = PATTERNS) -> list[Fault]:
    return [Fault(each, error, pattern) for each in calls.split() for error in errors for pattern in when]


# Not here, since they would hit trio's own pair of wake-up sockets, where the kernel never fails: epoll_ctl (to change what is
# registered takes no memory), and other errors of sendto and recvfrom. Nor brk, which never returns an error: it tells the end
# that the memory has.
FAULTS = [
    *faults("vfork clone,clone3 ", "EAGAIN", "ENOMEM"),
    *faults("pipe2", "EMFILE", "ENFILE"),
    *faults("openat", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EINTR", "EACCES"),
    *faults("read", "EINTR", "EIO", "ENOMEM"),
    *faults("write", "ENOSPC", "EIO", "EINTR", "EAGAIN", "EPIPE"),
    *faults("epoll_wait", "EINTR"),
    *faults("pidfd_open", "EMFILE", "ENFILE", "ENOMEM"),
    *faults("pidfd_send_signal", "EPERM"),
    *faults("kill", "EPERM"),
    *faults("waitid wait4", "EINTR"),
    *faults("accept4", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ECONNABORTED", "EINTR", "EPERM", "EPROTO"),
    *faults("sendto", "EINTR", "EAGAIN"),
    *faults("recvfrom", "EINTR", "EAGAIN"),
    *faults("recvmsg", "ENOMEM", "EINTR", "ECONNRESET"),
    *faults("socket", "EMFILE", "ENFILE", "ENOMEM", "EACCES"),
    *faults("connect", "EAGAIN", "ENOMEM", "EINTR"),
    *faults("bind listen", "EADDRINUSE", "ENOMEM", "EACCES"),
    *faults("getsockopt setsockopt", "ENOMEM", "ENOBUFS"),
    *faults("fstat,newfstatat", "ENOMEM", "EIO", "EACCES"),
    *faults("rename link unlink mkdir", "ENOSPC", "EROFS", "EIO", "EACCES"),
    *faults("fchown fchmod chmod", "EPERM", "EROFS", "EIO"),
    *faults("fsync", "EIO", "ENOSPC"),
    *faults("getdents64", "ENOMEM", "EIO"),
    *faults("ioctl fcntl", "EIO", "ENOMEM", "EPERM"),
    *faults("prlimit64", "EPERM"),
    *faults("getpgid", "EPERM"),
    *faults("mmap", "ENOMEM"),
    *faults("munmap madvise mprotect mremap", "ENOMEM"),
]


def crowd(folder: Path) -> dict[str, Any]:
    """Processes that between them use nearly every key."""
    again = {"type": "Always", "backoff": "50ms", "maxBackoff": "200ms"}
    grace = {"terminationGracePeriod": "2s", "restartPolicy": again}
    quick = {"period": "200ms", "timeout": "200ms", "failureThreshold": 100}
    tcp, unix = f"tcp://127.0.0.1:{free_port()}", f"{folder}/run/peer.sock"
    port = int(tcp.rpartition(":")[2])
    file = {
        "destination": {"type": "file", "path": f"{folder}/log/writer.log"},
        "rotation": {"maxSizeBytes": 4000, "maxFiles": 3, "compression": "gzip"},
    }
    plain = {"destination": {"type": "file", "path": f"{folder}/log/plain.log"}, "onFull": "block"}
    return {
        "sleeper": {
            **SLEEPER,
            **grace,
        },
        "crasher": {"program": "/bin/sh", "arguments": ["-c", "sleep 0.1; exit 3"], **grace},
        "nobody": {**SLEEPER, "user": "nobody", **grace, "nice": 5, "limits": {"nofile": 64}},
        "web": {**SLEEPER, "replicas": 2, **grace, "dependsOn": ["peer"]},
        "writer": {
            "program": "/bin/sh",
            "arguments": [
                "-c",
                "while sleep 0.03; do echo a line of some length that is written again and again; done",
            ],
            **grace,
            "log": {"stdout": file, "stderr": plain},
        },
        "both": {
            "program": "/bin/sh",
            "arguments": ["-c", "while sleep 0.05; do echo said; echo told >&2; done"],
            **grace,
            "log": {"stdout": plain, "stderr": plain},
        },
        "speaker": {
            "program": "/bin/sh",
            "arguments": ["-c", "echo begins; while sleep 0.1; do echo speaks; done"],
            **grace,
            "startupProbe": {"handler": {"type": "log", "pattern": "begins"}, "period": "1s", "failureThreshold": 100},
        },
        "tick": {
            "program": "/bin/true",
            "type": "oneshot",
            "schedule": {"every": "200ms"},
            "restartPolicy": {"type": "Never"},
        },
        "clock": {
            "program": "/bin/true",
            "type": "oneshot",
            "schedule": {"cron": "* * * * *", "timezone": "UTC"},
            "restartPolicy": {"type": "Never"},
        },
        "around": {
            "program": "/bin/sh",
            "arguments": ["-c", "exec sleep 0.3"],
            "preStart": {"command": "/bin/true"},
            "postStop": {"command": "/bin/true"},
            "environmentFile": str(folder / "environment"),
            **grace,
        },
        "newline": {
            "program": "/bin/sh",
            "arguments": ["-c", "echo >&3; exec sleep 1000"],
            "notify": {"fd": 3},
            **grace,
        },
        "command": {
            **SLEEPER,
            **grace,
            "livenessProbe": {"handler": {"type": "exec", "command": ["/bin/true"]}, **quick},
        },
        "peer": {
            "program": sys.executable,
            "arguments": ["-SEIc", PEER],
            "notify": {"type": "systemd", "watchdog": "5s"},
            "sockets": [{"name": "tcp", "listen": tcp}, {"name": "unix", "listen": f"unix://{unix}"}],
            **grace,
            "readinessProbe": {"handler": {"type": "httpGet", "host": "127.0.0.1", "port": port, "path": "/"}, **quick},
            "livenessProbe": {"handler": {"type": "unixSocket", "path": unix}, **quick},
            "startupProbe": {"handler": {"type": "tcpSocket", "host": "127.0.0.1", "port": port}, **quick},
        },
    }


RESTLESS = frozenset({"crasher", "around", "tick", "clock"})
"""Those that come and go by themselves."""


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Wrong(Exception):
    """Something is not as it was before the fault."""


class Crowd:
    """A running set. ``pid``: of its PID 1, as we see it."""

    def __init__(self, folder: Path, starter: subprocess.Popen[bytes], pid: int) -> None:
        self.folder = folder
        self.socket = str(folder / "run" / "control.sock")
        self.starter = starter
        self.pid = pid
        self.open_fds = 0
        self.well = False
        """Whether the last look found nothing wrong."""

    @property
    def alive(self) -> bool:
        return self.starter.poll() is None

    def processes(self) -> dict[str, Any]:
        return {each["name"]: each for each in call(self.socket, "GET", "/v1/status")["processes"]}

    def until(
        self,
        what: str,
        happened: Callable[[dict[str, Any]], Any],
        lacking: Callable[[dict[str, Any]], str] = lambda found: _states(found),
    ) -> dict[str, Any]:
        """The processes by name once ``happened``. Raises Wrong, with ``what`` did not, and what is ``lacking``."""
        deadline = time.monotonic() + PATIENCE
        found: dict[str, Any] = {}
        why = "it does not answer"
        while self.alive:
            try:
                found = self.processes()
                if happened(found):
                    return found
                why = lacking(found)
            except (ControlError, OSError) as error:
                why = str(error)
            if time.monotonic() > deadline:
                raise Wrong(f"{what}: not within {PATIENCE:g}s: {why}")
            time.sleep(0.03)
        raise Wrong("PID 1 has ended")

    def children(self) -> dict[int, str]:
        """Pid and state of each child."""
        found = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                with suppress(OSError):
                    found[int(pid)] = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        return found

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu(self) -> float:
        """Seconds that PID 1 alone has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- looking whether all is well

    def settle(self) -> dict[str, Any]:
        def all_up(found: dict[str, Any]) -> bool:
            return all(each["state"] == "running" and each["ready"] for n, each in found.items() if n not in RESTLESS)

        return self.until("everything is up", all_up)

    def check(self) -> None:
        """Everything is up and goes on. Raises Wrong."""
        self.well = False
        before = self.settle()
        began, used = time.monotonic(), self.cpu()
        sleeper = before["sleeper"]["pid"]
        written = self.written()
        self.call("POST", "/v1/processes/sleeper/signal", {"signal": "SIGKILL"})

        def stuck(found: dict[str, Any]) -> list[str]:
            lives = [name for name in ("crasher", "tick", "around") if _life_of(found[name]) == _life_of(before[name])]
            probes = [name for name in ("command", "peer") if _runs(found[name]) <= _runs(before[name])]
            return [
                *(f"{name} has not lived again: {found[name]}" for name in lives),
                *(f"{name} was not probed: {found[name]}" for name in probes),
                *(["sleeper was not restarted"] if found["sleeper"]["pid"] in (None, sleeper) else []),
                *(["the log files do not grow"] if self.written() <= written else []),
                *(
                    ["clock is off"]
                    if found["clock"]["state"] not in ("waiting", "running", "exited", "starting")
                    else []
                ),
            ]

        self.until("everything goes on", lambda found: not stuck(found), lambda found: "; ".join(stuck(found)))
        spent = (self.cpu() - used) / (time.monotonic() - began)
        if spent > 0.8:
            raise Wrong(f"PID 1 spins: {spent:.0%} of a processor")
        self._no_zombies()
        self._no_leak()
        self.settle()
        self.well = True

    def written(self) -> int:
        """A number that grows when both log files are written to."""
        total = 0
        for name in ("writer.log", "plain.log"):
            with suppress(OSError):
                total += os.stat(self.folder / "log" / name).st_mtime_ns
        return total

    def _no_zombies(self) -> None:
        deadline = time.monotonic() + 3
        dead = {pid for pid, state in self.children().items() if state == "Z"}
        while dead:
            if time.monotonic() > deadline:
                raise Wrong(f"{len(dead)} zombies stay")
            time.sleep(0.02)
            dead &= {pid for pid, state in self.children().items() if state == "Z"}

    def _no_leak(self) -> None:
        """The lowest count of a few: connections and starts come and go."""
        allowed = (self.open_fds or 10_000) + 2
        deadline = time.monotonic() + 3
        while (found := self.descriptors()) > allowed:
            if time.monotonic() > deadline:
                links = []
                for fd in os.listdir(f"/proc/{self.pid}/fd"):
                    with suppress(OSError):
                        links.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
                raise Wrong(f"{found} descriptors are open, {allowed} at most before: {sorted(links)}")
            time.sleep(0.02)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            return call(self.socket, method, path, body)
        except (ControlError, OSError) as error:
            raise Wrong(f"{method} {path}: {error}") from None

    def measure(self) -> None:
        """How many descriptors are open in good times."""
        self.open_fds = max(self.descriptors() for _ in range(20) if not time.sleep(0.02))

    # -- faults

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[list[int]]:
        """While the block runs the calls fail. What is given gets, at the end, how many did."""
        hits: list[int] = []
        trace = self.folder / "trace"
        tracer = subprocess.Popen(
            [
                "strace",
                *(f"--attach={task}" for task in os.listdir(f"/proc/{self.pid}/task")),
                f"--output={trace}",
                f"--trace={fault.calls}",
                f"--inject={fault.calls}:error={fault.error}:when={fault.when}",
            ],
            stderr=subprocess.PIPE,
        )
        try:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            assert b"attached" in said, said
            yield hits
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.communicate()
            hits.append(trace.read_text(errors="replace").count("(INJECTED)"))

    @contextmanager
    def stirring(self) -> Iterator[None]:
        """While the block runs: deaths, requests of every kind, and somebody who follows."""
        over = threading.Event()
        threads = [
            threading.Thread(target=_again, args=(over, deed), daemon=True)
            for deed in (self._ask, self._kill, self._operate, self._follow)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(15)

    def _ask(self) -> None:
        for path in ("/v1/status", "/metrics", "/v1/logs?n=5", "/v1/figures", "/v1/boot"):
            with Client(self.socket, 5) as client:
                client.request("GET", path).read()

    def _kill(self) -> None:
        found = self.processes()
        for name in ("sleeper", "nobody", "newline", "command", "writer"):
            pid = found[name]["pid"]
            if pid:
                call(self.socket, "POST", f"/v1/processes/{name}/signal", {"signal": "SIGKILL"})
            time.sleep(0.02)

    def _operate(self) -> None:
        for path, body in (
            ("/v1/processes/web[1]/restart", {"timeout": 2}),
            ("/v1/processes/peer/restart", {"timeout": 2}),
            ("/v1/processes/rotate", {"names": ["*"]}),
            ("/v1/reload", {}),
            ("/v1/processes/both/restart", {"timeout": 2}),
        ):
            with suppress(ControlError):
                call(self.socket, "POST", path, body)

    def _follow(self) -> None:
        with Client(self.socket, 0.3) as client:
            for _, _ in zip(range(10), client.request("GET", "/v1/logs?follow=true&n=1").lines(), strict=False):
                time.sleep(0.01)


def _states(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{n}: {p['state']} ({p['reason']})" for n, p in found.items() if n not in RESTLESS)


def _life_of(process: dict[str, Any]) -> Any:
    return process["restarts"], process["pid"], (process["lastExit"] or {}).get("at")


def _runs(process: dict[str, Any]) -> int:
    return sum(each["runs"] for each in process["health"]["probes"])


def _again(over: threading.Event, deed: Callable[[], None]) -> None:
    while not over.is_set():
        try:
            deed()
        except (ControlError, OSError, ValueError, KeyError):
            over.wait(0.05)
        over.wait(0.01)


@contextmanager
def running(folder: Path, *, around: Sequence[str] = ()) -> Iterator[Crowd]:
    """A crowd while the block runs, and whatever is left of it ends. ``around``: a command that starts another one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environment").write_text("A=b\n")
    file = folder / "ocelot.yaml"
    control = {"socket": str(folder / "run" / "control.sock")}
    metrics = {"listen": f"127.0.0.1:{free_port()}"}
    sections = {"processes": crowd(folder), "control": control, "metrics": metrics, "shutdownTimeout": "20s"}
    file.write_text(json.dumps({"version": "1.0", **sections}))
    ours = [sys.executable, "-m", "ocelot", "supervise", str(file)]
    with (folder / "said").open("wb") as said:
        starter = subprocess.Popen(
            ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", *around, *ours],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=CHECKOUT,
        )
    try:
        await_socket(control["socket"], starter)
        pid = int(Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text())
        started = Crowd(folder, starter, pid)
        started.settle()
        yield started
    finally:
        if starter.poll() is None:
            starter.kill()  # and with it all of the namespace
            starter.wait()


def stop(started: Crowd, within: float = 25.0) -> None:
    """An orderly stop. Raises Wrong."""
    os.kill(started.pid, signal.SIGTERM)
    try:
        status = started.starter.wait(within)
    except subprocess.TimeoutExpired:
        raise Wrong(f"it did not stop within {within:g}s") from None
    if status != 0:
        raise Wrong(f"it ended with {status}")


def try_fault(started: Crowd, fault: Fault) -> int:
    """Let ``fault`` happen; how often it did. Raises Wrong if all is not well afterwards."""
    with started.stirring(), started.failing(fault) as hits:
        time.sleep(STIR)
    started.check()
    return hits[0]


def try_stop(started: Crowd, fault: Fault) -> int:
    """Let it stop while ``fault`` happens; how often it did. Raises Wrong if it does not, in order and in time."""
    with started.failing(fault) as hits:
        stop(started)
    return hits[0]


def available() -> bool:
    return shutil.which("strace") is not None


# -- the whole table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="CALLS:ERROR[:WHEN], or the beginning of one")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stop", action="store_true", help="stop while the calls fail, each time another one")
    arguments = parser.parse_args()
    chosen = [each for each in FAULTS if not arguments.words or str(each).startswith(tuple(arguments.words))]
    return _stops(chosen, arguments.folder) if arguments.stop else _lives(chosen, arguments.folder)


def _stops(chosen: Sequence[Fault], folder: Path) -> int:
    failed = 0
    for turn, fault in enumerate(chosen):
        with running(folder / str(turn)) as started:
            try:
                hits = try_stop(started, fault)
                said = f"ok    {hits:6} times" if hits else "never asked for"
                print(f"{fault!s:40} {said}", flush=True)
            except Wrong as wrong:
                failed += 1
                print(f"{fault!s:40} WRONG {started.folder}: {wrong}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} stopped in order")
    return 1 if failed else 0


def _lives(chosen: Sequence[Fault], folder: Path) -> int:
    failed = 0
    turn = 0
    todo = list(chosen)
    while todo:
        turn += 1
        with running(folder / str(turn)) as started:
            started.measure()
            while todo:
                fault = todo.pop(0)
                began = time.monotonic()
                try:
                    hits = try_fault(started, fault)
                    said = f"ok    {hits:6} times" if hits else "never asked for"
                    print(f"{fault!s:40} {said}  {time.monotonic() - began:.1f}s", flush=True)
                except Wrong as wrong:
                    failed += 1
                    print(f"{fault!s:40} WRONG {started.folder}: {wrong}", flush=True)
                    break
            else:
                with suppress(Wrong):
                    stop(started)
    print(f"{len(chosen) - failed} of {len(chosen)} survived")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
