"""What the kernel refuses PID 1, somebody takes away from it, or does to it: when that is over, everything is as before."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from integration.faults import PATIENCE, STIR, Crowd, Fault, available, running, stop, try_fault

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


class Keeper:
    """One crowd for all tests, and another one after a test that broke it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.turns = count()
        self.living: Iterator[Crowd] | None = None
        self.crowd: Crowd | None = None

    def get(self) -> Crowd:
        if self.crowd is None:
            self.living = self._run()
            self.crowd = next(self.living)
        return self.crowd

    def _run(self) -> Iterator[Crowd]:
        with running(self.folder / str(next(self.turns))) as started:
            started.measure()
            yield started

    def end(self) -> None:
        if self.living is not None:
            self.living.close()  # type: ignore[attr-defined]
        self.living = self.crowd = None


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    made = Keeper(tmp_path_factory.mktemp("crowd"))
    yield made
    made.end()


@pytest.fixture
def crowd(keeper: Keeper) -> Iterator[Crowd]:
    started = keeper.get()
    well = False
    try:
        yield started
        well = started.well
    finally:
        if not well:
            print((started.folder / "said").read_text(errors="replace")[-6000:])
            keeper.end()


REFUSALS = [
    Fault("vfork", "EAGAIN"),
    Fault("clone,clone3", "ENOMEM"),
    Fault("pipe2", "EMFILE"),
    Fault("openat", "ENFILE"),
    Fault("openat", "EIO", "2..90+3"),
    Fault("read", "EIO", "2..90+3"),
    Fault("kill", "EPERM"),
    Fault("waitid,wait4", "EINTR"),
    Fault("accept4", "ENFILE"),
    Fault("recvmsg", "ENOMEM"),
    Fault("socket", "EMFILE"),
    Fault("getdents64", "ENOMEM"),
]


@pytest.mark.skipif(not available(), reason="strace is not installed: no system call can be made to fail")
@pytest.mark.parametrize("fault", REFUSALS, ids=str)
def test_calls_that_the_kernel_refuses(crowd: Crowd, fault: Fault) -> None:
    assert try_fault(crowd, fault) > 0


# -- trouble without strace


@contextmanager
def limited(crowd: Crowd, which: int, value: int) -> Iterator[None]:
    before = resource.prlimit(crowd.pid, which)
    resource.prlimit(crowd.pid, which, (value, before[1]))
    try:
        yield
    finally:
        for _ in range(20):  # a start that is under way gives PID 1 the limit back that it found
            resource.prlimit(crowd.pid, which, before)
            time.sleep(0.02)


@contextmanager
def no_descriptors(crowd: Crowd) -> Iterator[None]:
    highest = max(int(fd) for fd in os.listdir(f"/proc/{crowd.pid}/fd"))
    with limited(crowd, resource.RLIMIT_NOFILE, highest):
        yield


@contextmanager
def mounted(crowd: Crowd, *mount: str) -> Iterator[None]:
    """Something over the folder of the logs, in the namespace of the crowd."""
    inside = ["nsenter", f"--target={crowd.pid}", "--mount", "--pid"]
    folder = str(crowd.folder / "log")
    subprocess.run([*inside, "mount", *mount, folder], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "umount", "--lazy", folder], check=True)


def may_be_spared() -> bool:
    """CAP_SYS_RESOURCE is bit 24 of capabilities(7)."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:\t")[2].split()[0], 16) >> 24 & 1)


def full_disk(crowd: Crowd) -> object:
    return mounted(crowd, "-t", "tmpfs", "-o", "size=4k,nr_inodes=3", "full")


def read_only_disk(crowd: Crowd) -> object:
    return mounted(crowd, "-t", "tmpfs", "-o", "ro", "locked")


@contextmanager
def instead_of_the_log(crowd: Crowd, put: Callable[[Path], object]) -> Iterator[None]:
    """Something else at the path of each log file."""
    paths = [crowd.folder / "log" / name for name in ("writer.log", "plain.log")]
    for path in paths:
        path.unlink(missing_ok=True)
        put(path)
    try:
        yield
    finally:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def folder_instead(crowd: Crowd) -> object:
    return instead_of_the_log(crowd, Path.mkdir)


def fifo_instead(crowd: Crowd) -> object:
    return instead_of_the_log(crowd, os.mkfifo)


def device_instead(crowd: Crowd) -> object:
    return instead_of_the_log(crowd, lambda path: path.symlink_to("/dev/full"))


def no_memory(crowd: Crowd) -> object:
    """None but what it has already. Where trio's own loop breaks for that, all goes on in a fresh image: see test_recovery."""
    status = Path(f"/proc/{crowd.pid}/status").read_text()
    has = int(status.partition("VmSize:")[2].split()[0]) * 1024
    return limited(crowd, resource.RLIMIT_AS, has)


TROUBLES = [no_descriptors, full_disk, read_only_disk, folder_instead, fifo_instead, device_instead, no_memory]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.__name__)
def test_what_somebody_takes_away(crowd: Crowd, trouble: Callable[[Crowd], object]) -> None:
    with crowd.stirring(), trouble(crowd):  # type: ignore[attr-defined]
        time.sleep(2 * STIR)
    crowd.check()


@pytest.mark.skipif(not may_be_spared(), reason="CAP_SYS_RESOURCE is missing: nobody may lower an oom_score_adj")
def test_where_memory_runs_out_the_kernel_spares_pid_1_alone(crowd: Crowd) -> None:
    """Whatever way it was started: a service, one of another user, one with descriptors, a check, a session, a grandchild."""

    def look() -> None:
        assert oom_score_adjust(crowd.pid) == -1000
        found = {command(pid): oom_score_adjust(pid) for pid in descendants(crowd.pid)}
        assert len(found) > 3
        assert set(found.values()) == {ours}, found

    ours = oom_score_adjust(os.getpid())
    look()
    ctl = [sys.executable, "-m", "ocelot.ctl", f"--socket={crowd.socket}"]
    shown = subprocess.run(
        [*ctl, "exec", "nobody", "--", "cat", "/proc/self/oom_score_adj"], capture_output=True, check=True
    )
    assert int(shown.stdout) == ours
    subprocess.run([*ctl, "reexec"], capture_output=True, check=True)
    look()
    subprocess.run([*ctl, "restart", "*"], capture_output=True, check=True)
    look()
    crowd.check()


def descendants(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def oom_score_adjust(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    except OSError:
        return oom_score_adjust(os.getpid())  # it has ended meanwhile


def connected(path: str) -> socket.socket:
    """A client that says nothing. The queue of who waits to be let in may be full for a moment."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    deadline = time.monotonic() + 10
    while (number := sock.connect_ex(path)) == errno.EAGAIN and time.monotonic() < deadline:
        time.sleep(0.01)
    assert number == 0, os.strerror(number)
    return sock


def test_a_crowd_of_clients_leaves_descriptors_for_what_has_died(tmp_path: Path) -> None:
    with running(tmp_path, around=("prlimit", "--nofile=200:200")) as crowd, ExitStack() as clients:
        before = {pid for pid in crowd.children() if command(pid) == "/bin/sleep"}
        for _ in range(400):
            clients.enter_context(connected(crowd.socket))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while len({pid for pid in crowd.children() if command(pid) == "/bin/sleep"} - before) < len(before):
            assert time.monotonic() < deadline, "what has died is not started again"
            time.sleep(0.05)
        clients.close()
        crowd.check()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    except OSError:
        return ""


def test_in_the_end_it_stops_in_order(crowd: Crowd, keeper: Keeper) -> None:
    stop(crowd)
    assert "going down: asked by SIGTERM" in (crowd.folder / "said").read_text()
    keeper.end()
