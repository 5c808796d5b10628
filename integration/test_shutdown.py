"""The end of a machine, in PID and mount namespaces: stubborn processes, file systems on loop devices, a full stop.

Making a file system read-only reaches the whole machine, whatever the namespace: the tests hand in only mounts of theirs.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import file_systems, shutdown
from ocelot.errors import OcelotError
from ocelot.states import PowerVerb

pytestmark = pytest.mark.root

ROOT = Path(__file__).parent.parent
PREAMBLE = """
import json, os, signal, subprocess, sys, time, trio
from bootstrap import file_systems, shutdown
from ocelot.linux import mountinfo
from ocelot.linux.identity import require_pid1
from ocelot.wire.protocol import ExitReport
def children(script, count):
    for _ in range(count):
        subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE).stdout.readline()
async def reap(task_status=trio.TASK_STATUS_IGNORED):
    with trio.open_signal_receiver(signal.SIGCHLD) as deaths:
        task_status.started()
        async for _ in deaths:
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0: break
                except ChildProcessError: break
"""


def as_pid1(script: str, *arguments: str) -> dict[str, object]:
    """Run Python as PID 1 of new PID and mount namespaces; what it prints as JSON."""
    command = ["unshare", "--fork", "--pid", "--mount-proc", "--mount", "--propagation", "private"]
    command += [sys.executable, "-W", "ignore", "-c", PREAMBLE + script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def test_an_ordinary_process_may_do_none_of_it() -> None:
    import trio

    async def main() -> None:
        with pytest.raises(OcelotError, match="not PID 1"):
            await shutdown.end_others(10)
        with pytest.raises(OcelotError, match="not the init of the machine"):
            await shutdown.go_down(10)
        with pytest.raises(OcelotError, match="not the init of the machine"):
            await file_systems.settle(10)

    trio.run(main)
    with pytest.raises(OcelotError, match="not the init of the machine"):
        file_systems.make_everything_read_only()
    with pytest.raises(OcelotError, match="not the init of the machine"):
        shutdown.power(PowerVerb.POWEROFF)


def test_pid_1_of_a_namespace_may_not_touch_the_machine() -> None:
    result = as_pid1(
        """
refused = []
for deed in (lambda: trio.run(shutdown.go_down, 1), lambda: trio.run(file_systems.settle, 1),
             file_systems.make_everything_read_only, lambda: shutdown.power(shutdown.PowerVerb.POWEROFF)):
    try: deed()
    except Exception as error: refused.append(type(error).__name__)
print(json.dumps({"refused": refused}))
"""
    )
    assert result == {"refused": ["OcelotError"] * 4}


def test_processes_that_end_on_sigterm_are_not_killed_and_stubborn_ones_are() -> None:
    result = as_pid1(
        """
children('trap "exit 3" TERM; echo; while :; do sleep 1 & wait $!; done', 3)
children('trap "" TERM; echo; while :; do sleep 1; done', 2)
children('echo; kill -STOP $$', 1)
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(reap)
        before = len(shutdown.other_processes())
        start = time.monotonic()
        left = await shutdown.end_others(5)
        took = time.monotonic() - start
        nursery.cancel_scope.cancel()
    print(json.dumps({"before": before >= 6, "left": left, "after": shutdown.other_processes(), "took": took}))
trio.run(main)
"""
    )
    assert result["before"] is True
    assert result["left"] == []
    assert result["after"] == []
    assert isinstance(result["took"], float)
    assert 1.4 < result["took"] < 3, "SIGTERM has 30 % of the time, SIGKILL works at once"


def test_who_is_in_a_hurry_waits_for_nobody() -> None:
    result = as_pid1(
        """
children('trap "" TERM; echo; while :; do sleep 1; done', 2)
async def main():
    hurried = trio.Event()
    async def hurry():
        await trio.sleep(0.3)
        hurried.set()
    async with trio.open_nursery() as nursery:
        await nursery.start(reap)
        nursery.start_soon(hurry)
        start = time.monotonic()
        left = await shutdown.end_others(60, hurried=hurried.is_set)
        print(json.dumps({"left": left, "took": time.monotonic() - start}))
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    )
    assert result["left"] == []
    assert isinstance(result["took"], float)
    assert 0.3 <= result["took"] < 5


@pytest.mark.parametrize("first", ["", "subprocess.run(['umount', '/proc'], check=True)"], ids=["", "foreign proc"])
def test_nothing_is_waited_for_when_everybody_ends_on_sigterm(first: str) -> None:
    """Also where /proc is that of the namespace above, and full of processes that are none of ours."""
    result = as_pid1(
        first
        + """
children('echo; exec sleep 100', 50)
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(reap)
        start = time.monotonic()
        left = await shutdown.end_others(60)
        print(json.dumps({"left": left, "took": time.monotonic() - start}))
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    )
    assert result["left"] == []
    assert isinstance(result["took"], float)
    assert result["took"] < 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 image on a tmpfs of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    yield image
    subprocess.run(["umount", "-R", "-l", tmp_path], check=True)


SETTLE = """
image, = sys.argv[1:]
base = os.path.dirname(image)
mine = base + "/mnt"
os.makedirs(mine)
def run(*words): return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
def mounts(): return [m for m in mountinfo.mounts() if m.target.startswith(mine)]
loop = run("losetup", "-f", "--show", image)
run("mount", loop, mine)
inner = ""
open(mine + "/written", "w").write("before the end")
def loops(): return [path for path in file_systems.loops() if path in (loop, inner)]
tmpfs = []
def swaps():
    tmpfs.append(any(m.fstype == "tmpfs" for m in mounts()))
    return []
ground = file_systems.Ground(guard=require_pid1, mounts=mounts, swaps=swaps, loops=loops)
"""


def needs_recovery(image: Path) -> bool:
    """Whether the journal would have to be replayed: an ext4 that was left mounted writable."""
    return "needs_recovery" in subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True).stdout


def test_file_systems_are_unmounted_children_first_and_loop_devices_freed(disk: Path) -> None:
    """Swap comes after what lies in memory: that would have to find room there for all that was swapped out of it."""
    result = as_pid1(
        SETTLE
        + """
os.makedirs(mine + "/tmp"); run("mount", "-t", "tmpfs", "tmpfs", mine + "/tmp")
os.makedirs(mine + "/tmp/deep"); run("mount", "--bind", mine, mine + "/tmp/deep")
run("truncate", "-s", "8M", mine + "/inner"); run("mkfs.ext4", "-q", mine + "/inner")
inner = run("losetup", "-f", "--show", mine + "/inner")
os.makedirs(mine + "/in"); run("mount", inner, mine + "/in")
before = len(mounts())
writable = trio.run(file_systems.settle, 20, ground)
left = [m.target for m in mounts()]
print(json.dumps({"before": before, "left": left, "writable": writable, "loops": loops(), "tmpfs": tmpfs[0]}))
""",
        str(disk),
    )
    assert result == {"before": 4, "left": [], "writable": [], "loops": [], "tmpfs": False}
    assert not needs_recovery(disk)


def test_a_busy_file_system_is_made_read_only_and_its_journal_is_clean(disk: Path) -> None:
    result = as_pid1(
        SETTLE
        + """
os.chdir(mine)
writable = trio.run(file_systems.settle, 20, ground)
recovery = "needs_recovery" in run("dumpe2fs", "-h", image)
print(json.dumps({"left": len(mounts()), "read_only": mounts()[0].read_only, "writable": writable, "recovery": recovery}))
os.chdir("/"); run("umount", mine)
""",
        str(disk),
    )
    assert result == {"left": 1, "read_only": True, "writable": [], "recovery": False}


def test_the_disk_below_an_overlay_that_stays_is_clean(disk: Path) -> None:
    result = as_pid1(
        SETTLE
        + """
for name in ("lower", "upper", "work", "root"): os.makedirs(mine + "/" + name)
merged = base + "/mnt-root"; os.makedirs(merged)
run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={mine}/lower,upperdir={mine}/upper,workdir={mine}/work", merged)
open(merged + "/file", "w").write("through the overlay")
os.chdir(merged)
writable = trio.run(file_systems.settle, 20, ground)
recovery = "needs_recovery" in run("dumpe2fs", "-h", image)
print(json.dumps({"left": [m.target == merged for m in mounts()], "writable": writable, "recovery": recovery}))
os.chdir("/"); run("umount", merged)
""",
        str(disk),
    )
    assert result == {"left": [True], "writable": [], "recovery": False}


def test_what_cannot_be_made_read_only_is_named(disk: Path) -> None:
    result = as_pid1(
        SETTLE
        + """
held = open(mine + "/held", "w")
writable = trio.run(file_systems.settle, 20, ground)
print(json.dumps({"writable": [path == mine for path in writable]}))
held.close(); run("umount", mine)
""",
        str(disk),
    )
    assert result == {"writable": [True]}


def test_a_main_thread_that_hangs_does_not_keep_the_machine_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the console cannot be written to any more."""

    def broken(*_: object) -> None:
        raise RuntimeError("not from this thread")

    done: queue.SimpleQueue[PowerVerb] = queue.SimpleQueue()
    monkeypatch.setattr(shutdown, "require_machine", lambda _: None)
    monkeypatch.setattr(shutdown.log, "error", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    shutdown.power_in_any_case(PowerVerb.REBOOT, 0.0, act=done.put)
    assert done.get(timeout=10) is PowerVerb.REBOOT


def test_without_trio_everything_in_a_container_is_ended_and_the_status_is_returned() -> None:
    result = as_pid1(
        """
children('trap "" TERM; echo; while :; do sleep 1; done', 3)
status = shutdown.emergency(ExitReport(status=70, reason="trio is broken", verb="poweroff"), port="none")
print(json.dumps({"status": status, "left": shutdown.other_processes()}))
"""
    )
    assert result == {"status": 70, "left": []}


BLIND = """
mount --rbind / /mnt && umount -l /mnt/proc && mount -t tmpfs none /mnt/dev
exec setpriv --bounding-set "$1" --inh-caps "$1" chroot /mnt sh -c 'cd "$1" && exec "$0" -c "$2"' "$0" "$2" "$3"
"""
INIT = "from ocelot.init import init; init()"


@pytest.mark.parametrize("may_reboot", [True, False])
def test_an_init_without_proc_ends_no_more_than_its_namespace_and_never_exits(may_reboot: bool) -> None:
    """It might be that of the machine. Where it may not even call reboot(2) it holds, whatever the keyboard says."""
    dropped = "-sys_admin" if may_reboot else "-sys_admin,-sys_boot"
    command = ["unshare", "--fork", "--pid", "--mount", "--propagation", "private", "sh", "-c", BLIND]
    process = subprocess.Popen([*command, sys.executable, dropped, str(ROOT), INIT], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if not may_reboot and "Operation not permitted" in line and any("exit status 70" in one for one in told):
            break
    assert any("ocelot: cannot go on: " in line for line in told), told
    if not may_reboot:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        init = os.pidfd_open(int(children[0]))
        for _ in range(3):
            signal.pidfd_send_signal(init, signal.SIGINT)
            assert select.select([init], [], [], 0.5)[0] == []
        signal.pidfd_send_signal(init, signal.SIGKILL)
        os.close(init)
    process.wait(30)
    process.stderr.close()
    if may_reboot:
        assert process.returncode == -signal.SIGINT
