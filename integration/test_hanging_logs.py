"""A file system that does not answer any more holds up nobody but who needs it: with ``onFull: block`` who writes to a log there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from integration.desk import PATIENCE, SLEEPER, desk
from integration.reexecs import until
from ocelot.errors import SpawnError
from supervisor.process.environment_file import is_reading, read_environment_file

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
]


class Mounted:
    def __init__(self, folder: Path, state: Path) -> None:
        self.folder, self.state = folder, state

    def hang(self) -> None:
        (self.state / "hang").touch()

    def answer(self) -> None:
        (self.state / "hang").unlink()

    def text(self, name: str) -> str:
        """What the server knows of the file, without asking it through the kernel."""
        path = self.state / f"{name}.shown"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Mounted]:
    folder, state = tmp_path / "far", tmp_path / "state"
    for each in (folder, state):
        each.mkdir()
    server = subprocess.Popen([sys.executable, "-m", "integration.fuse", str(folder), str(state)])
    try:
        until((state / "mounted").exists)
        yield Mounted(folder, state)
    finally:
        server.kill()  # and whoever waits for it gets an error
        server.wait()
        subprocess.run(["umount", "--lazy", folder], check=True)


def counting(path: Path, **more: Any) -> dict[str, Any]:
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done"
    return {
        "program": "/bin/sh",
        "arguments": ["-c", script],
        "terminationGracePeriod": "2s",
        "log": {"stdout": {"destination": {"type": "file", "path": str(path)}, **more}},
    }


def numbers(text: str) -> list[int]:
    return [int(line) for line in text.splitlines() if line.isdigit()]


def test_a_file_system_that_hangs_holds_up_nobody_else(tmp_path: Path, far: Mounted) -> None:
    (tmp_path / "link").symlink_to(far.folder)
    here = tmp_path / "here.log"
    processes = {
        "drops": counting(far.folder / "drops"),
        "waits": counting(tmp_path / "link" / "waits", onFull="block"),
        "here": counting(here),
        "other": SLEEPER,
    }
    with desk(tmp_path, processes) as machine:
        machine.until(lambda found: all(each["state"] == "running" for each in found.values()))
        until(lambda: len(numbers(far.text("drops"))) > 5 and len(numbers(far.text("waits"))) > 5)
        far.hang()
        until(lambda: machine.log.read_text().count("does not answer: its file system hangs") == 2)
        size = here.stat().st_size
        asked = time.monotonic()
        assert machine.ctl("restart", "other").returncode == 0
        assert time.monotonic() - asked < 5
        until(lambda: here.stat().st_size > size)
        until(lambda: 'cannot write the stdout of "drops": it takes nothing more' in machine.log.read_text())
        refused = machine.ctl("reexec", timeout=60)
        assert refused.returncode == 1
        assert f'cannot replace ocelot now: the log file "{far.folder}/drops" does not answer' in refused.stderr
        far.answer()
        until(lambda: machine.log.read_text().count("answers again") == 2)
        until(lambda: "were dropped here" in far.text("drops"))
        waited = numbers(far.text("waits"))
        until(lambda: len(numbers(far.text("waits"))) > len(waited) + 5)
        waited = numbers(far.text("waits"))
        assert waited == list(range(1, len(waited) + 1)), "nothing was lost"
        dropped = numbers(far.text("drops"))
        assert dropped == sorted(set(dropped)), "nothing came twice"
        assert machine.ctl("reexec", timeout=60).returncode == 0
        until(lambda: len(numbers(far.text("waits"))) > len(waited) + 5)
        waited = numbers(far.text("waits"))
        assert waited == list(range(1, len(waited) + 1)), "nor by the reexec"


def test_an_environment_file_that_hangs_takes_one_thread(far: Mounted, tmp_path: Path) -> None:
    """Those that are given up stay as long as it hangs: forty of them, and nothing would be done in threads any more."""
    path, here = str(far.folder / "env"), tmp_path / "env"
    for each in (Path(path), here):
        each.write_text("A=1\n")
    far.hang()

    async def main() -> None:
        for _ in range(50):
            with pytest.raises(SpawnError, match="no answer within"):
                await read_environment_file(path, 0.01)
        assert is_reading()
        assert await read_environment_file(str(here)) == {"A": "1"}
        with trio.fail_after(PATIENCE):
            await trio.to_thread.run_sync(far.answer)
            assert await read_environment_file(path) == {"A": "1"}
        assert not is_reading()

    trio.run(main)


@pytest.fixture
def over(tmp_path: Path, far: Mounted) -> Iterator[Path]:
    """An overlay whose lower layer is far."""
    layers, folder = tmp_path / "layers", tmp_path / "over"
    for each in (layers, folder):
        each.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "layers", layers], check=True)
    try:
        for name in ("upper", "work"):
            (layers / name).mkdir()
        options = f"lowerdir={far.folder},upperdir={layers}/upper,workdir={layers}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", folder], check=True)
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", layers], check=True)


def test_an_overlay_over_one_that_hangs_holds_up_nobody_else_either(tmp_path: Path, far: Mounted, over: Path) -> None:
    """What is only written goes to the upper layer; a new name, as a rotation makes, is looked for in all of them."""
    here = tmp_path / "here.log"
    near = counting(over / "near", rotation={"maxSizeBytes": 500, "maxFiles": 2})
    with desk(tmp_path, {"near": near, "here": counting(here), "other": SLEEPER}) as machine:
        until(lambda: any((tmp_path / "layers" / "upper").glob("near.*")))
        far.hang()
        until(lambda: f'the log file "{over}/near" does not answer' in machine.log.read_text())
        size = here.stat().st_size
        assert machine.ctl("restart", "other").returncode == 0
        until(lambda: here.stat().st_size > size)
        far.answer()


def test_what_is_written_last_is_there(tmp_path: Path, far: Mounted) -> None:
    """And the file is closed then: else the file system stayed busy."""
    many = {"program": "/bin/sh", "arguments": ["-c", "seq 1 50000"], "type": "oneshot"}
    many["log"] = {"stdout": {"destination": {"type": "file", "path": str(far.folder / "many")}, "onFull": "block"}}
    with desk(tmp_path, {"many": many, "other": SLEEPER}) as machine:
        machine.until(lambda found: found["many"]["state"] == "exited")
        until(lambda: numbers(far.text("many")) == list(range(1, 50001)))
        links = [path.readlink() for path in Path(f"/proc/{machine.process.pid}/fd").iterdir() if path.is_symlink()]
        assert far.folder / "many" not in links


def test_a_shutdown_does_not_wait_for_it(tmp_path: Path, far: Mounted) -> None:
    with desk(tmp_path, {"waits": counting(far.folder / "waits", onFull="block")}) as machine:
        until(lambda: len(numbers(far.text("waits"))) > 5)
        far.hang()
        until(lambda: "its file system hangs" in machine.log.read_text())
        machine.process.terminate()
        until(lambda: "going down" in machine.log.read_text())
        far.answer()  # what is in the kernel cannot be killed, and is reaped when it comes back
        machine.process.wait(PATIENCE)
