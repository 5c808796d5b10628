"""Rotated log files under a real supervisor, and on real file systems that are full."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from integration.desk import desk
from integration.outputs import child, config, messages, relaying
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.process_output import Output
from supervisor.output.rotation import old_files

DEADLINE = 30.0

WRITER = """
import os, sys
for n in range(int(sys.argv[1])):
    os.write(1 + n % 2, b"line %d of stream %d %s\\n" % (n, 1 + n % 2, b"." * (n % 70)))
"""


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def service(path: Path, rotation: dict[str, Any], count: int, **more: Any) -> dict[str, Any]:
    stream = {"destination": {"type": "file", "path": str(path)}, "rotation": rotation, **more}
    return {
        "program": sys.executable,
        "arguments": ["-c", WRITER + "\nimport time; time.sleep(1000)", str(count)],
        "log": {"stdout": stream, "stderr": stream},
        "shutdownSignal": "SIGKILL",
    }


def contents(path: Path) -> list[bytes]:
    """Of the old files, the oldest first, and of the log file; taken again when one is compressed meanwhile."""
    while True:
        try:
            return [*(_unpacked(path.parent / file.name) for file in old_files(str(path))), path.read_bytes()]
        except FileNotFoundError:
            assert path.exists()


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def expected(count: int) -> list[bytes]:
    return sorted(b"line %d of stream %d %s" % (n, 1 + n % 2, b"." * (n % 70)) for n in range(count))


def test_both_streams_rotate_together_whole_lines_and_everything_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    count = 20_000
    with desk(tmp_path, {"app": service(path, {"maxSizeBytes": "64KiB", "compression": "gzip"}, count)}) as machine:
        eventually(lambda: path.exists() and sum(map(len, contents(path))) == total(count), "all lines arrive")
        eventually(lambda: all(file.suffix == ".gz" for file in old_files(str(path))), "all old files are compressed")
        files = contents(path)
        assert 15 < len(files) < 25
        assert all(len(data) <= 64 * 1024 + 100 for data in files)
        assert all(data.endswith(b"\n") for data in files[:-1])
        assert sorted(b"".join(files).splitlines()) == expected(count)
        assert {entry.name.partition(".log")[0] for entry in path.parent.iterdir()} == {"app"}
        assert not [entry.name for entry in path.parent.iterdir() if entry.name.endswith((".part", ".new"))]
        assert "cannot" not in machine.log.read_text()


def total(count: int) -> int:
    return sum(map(len, expected(count))) + count


def test_what_a_crash_left_uncompressed_is_compressed_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    (tmp_path / "app.log.20200101T000000Z-1").write_bytes(b"old\n" * 1000)
    (tmp_path / "app.log.20200101T000000Z-1.gz.part").write_bytes(b"half a file")
    (tmp_path / "app.log.1").write_bytes(b"foreign")
    rotation = {"maxSizeBytes": "1MB", "compression": "gzip", "maxFiles": 9}
    with desk(tmp_path, {"app": service(path, rotation, 10)}):
        eventually((tmp_path / "app.log.20200101T000000Z-1.gz").exists, "the old file is compressed")
        eventually(lambda: not (tmp_path / "app.log.20200101T000000Z-1").exists(), "the original is gone")
    assert gzip.decompress((tmp_path / "app.log.20200101T000000Z-1.gz").read_bytes()) == b"old\n" * 1000
    assert not (tmp_path / "app.log.20200101T000000Z-1.gz.part").exists()
    assert (tmp_path / "app.log.1").read_bytes() == b"foreign"


def test_only_so_many_old_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    with desk(tmp_path, {"app": service(path, {"maxSizeBytes": "16KiB", "maxFiles": 3}, 20_000)}):
        eventually(lambda: path.exists() and b"line 19999 " in b"".join(contents(path)), "the last line")
        eventually(lambda: len(old_files(str(path))) == 3, "the oldest files go")


def test_rotating_by_hand_and_files_that_somebody_else_moves(tmp_path: Path) -> None:
    rotated, plain = tmp_path / "rotated.log", tmp_path / "plain.log"
    talker = "while read line; do echo $line; done < {}; sleep 1000"
    pipes = {}
    processes: dict[str, Any] = {}
    for name, path, more in (("rotated", rotated, {"rotation": {"maxSizeBytes": "1MB"}}), ("plain", plain, {})):
        pipes[name] = tmp_path / f"{name}.pipe"
        os.mkfifo(pipes[name])
        processes[name] = {
            "program": "/bin/sh",
            "arguments": ["-c", talker.format(pipes[name])],
            "log": {"stdout": {"destination": {"type": "file", "path": str(path)}, **more}},
            "shutdownSignal": "SIGKILL",
        }
    processes["silent"] = {"program": "/bin/sleep", "arguments": ["1000"]}
    with desk(tmp_path, processes) as machine:
        ends = {name: os.open(pipe, os.O_WRONLY) for name, pipe in pipes.items()}
        for end in ends.values():
            os.write(end, b"one\n")
        eventually(
            lambda: rotated.exists() and plain.exists() and rotated.read_bytes() == plain.read_bytes() == b"one\n",
            "one",
        )
        assert machine.ctl("rotate", "rotated").returncode == 0
        assert contents(rotated) == [b"one\n", b""]
        plain.rename(tmp_path / "plain.log.1")
        assert machine.ctl("rotate", "--all").returncode == 0
        for end in ends.values():
            os.write(end, b"two\n")
            os.close(end)
        eventually(lambda: plain.read_bytes() == rotated.read_bytes() == b"two\n", "two, in the new files")
        assert (tmp_path / "plain.log.1").read_bytes() == b"one\n"
        refused = machine.ctl("rotate", "silent")
        assert refused.returncode == 1
        assert "none of these processes writes to a file" in refused.stderr
        assert machine.ctl("rotate").returncode == 2


def test_json_records_in_rotated_files(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    with desk(tmp_path, {"app": service(path, {"maxSizeBytes": "64KiB"}, 3000, format="json")}):
        eventually(lambda: path.exists() and b'"line 2999 ' in b"".join(contents(path)), "the last line")
        files = contents(path)
    assert len(files) > 3
    found = [json.loads(line) for data in files for line in data.decode("utf-8").splitlines()]
    assert sorted(record["message"].encode() for record in found) == expected(3000)
    assert {record["stream"] for record in found} == {"stdout", "stderr"}
    assert {record["name"] for record in found} == {"app"}
    assert all(record["message"].split()[4] == {"stdout": "1", "stderr": "2"}[record["stream"]] for record in found)


def test_an_instance_that_is_killed_loses_nothing_that_it_had_read(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    processes = {"app": service(path, {"maxSizeBytes": "64KiB", "compression": "gzip"}, 20_000)}
    with desk(tmp_path, processes) as machine:
        eventually(lambda: len(old_files(str(path))) > 3, "it rotates")
        service_pid = machine.json("status", "app")["processes"][0]["pid"]
        machine.process.kill()
        machine.process.wait()
        os.kill(service_pid, signal.SIGKILL)
    before = b"".join(contents(path))
    assert set(before.splitlines()) <= {*expected(20_000), before.splitlines()[-1]}
    (tmp_path / "next").mkdir()
    with desk(tmp_path / "next", {"app": service(path, {"maxSizeBytes": "64KiB", "compression": "gzip"}, 0)}):
        eventually(lambda: all(file.suffix == ".gz" for file in old_files(str(path))), "the rest is compressed")
        assert b"".join(contents(path)) == before


# -- full file systems


@contextmanager
def small_disk(path: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.root
def test_a_disk_without_space_for_the_compression_keeps_the_original(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "log"
        rotation = structs.Rotation(max_size_bytes=100_000, compression="gzip")
        output = Output(
            "w",
            config(structs.File(path=str(path)), rotation=rotation),
            stdout=Writer.nowhere(),
            stderr=Writer.nowhere(),
        )
        with messages() as said:
            async with relaying(output):
                # Random text does not become small, and there is space for one file more but not for two
                await child(output, "head -c 240000 /dev/urandom | base64 -w 99 | head -c 250000")
                with trio.fail_after(DEADLINE):
                    while not any("cannot compress" in line for line in said):
                        await trio.sleep(0.01)
                await child(output, "head -c 30000 /dev/urandom | base64 -w 99 | head -c 20000")
                assert output.counters["stdout"].dropped == 0
        assert len([line for line in said if "cannot compress" in line]) == 1
        assert sum(map(len, contents(path))) == 270_000
        assert not list(tmp_path.glob("*.part"))

    with small_disk(tmp_path, "size=320k"):
        trio.run(main)


@pytest.mark.root
def test_a_disk_without_inodes_lets_the_file_grow(tmp_path: Path) -> None:
    ballast = [tmp_path / "one", tmp_path / "two"]

    async def main() -> None:
        path = tmp_path / "log"
        rotation = structs.Rotation(max_size_bytes=10_000)
        output = Output(
            "w",
            config(structs.File(path=str(path)), rotation=rotation),
            stdout=Writer.nowhere(),
            stderr=Writer.nowhere(),
        )
        with messages() as said:
            async with relaying(output):
                await child(output, "yes 0123456789 | head -c 99000")
                assert path.stat().st_size == 99_000
                assert output.counters["stdout"].dropped == 0
                for file in ballast:
                    file.unlink()
                with trio.fail_after(DEADLINE):
                    while not old_files(str(path)):
                        await child(output, "echo more")
                        await trio.sleep(0.1)
        assert len([line for line in said if "cannot rotate" in line]) == 1
        assert b"".join(contents(path)).startswith(b"0123456789\n" * 9000 + b"more\n")

    with small_disk(tmp_path, "size=1m,nr_inodes=4"):
        for file in ballast:
            file.touch()
        trio.run(main)


@pytest.mark.root
@pytest.mark.skipif(shutil.which("mkfs.vfat") is None, reason="no mkfs.vfat")
def test_a_file_system_without_hard_links_and_modes_will_do(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "disk" / "log"
        rotation = structs.Rotation(max_size_bytes=10_000, mode=0o600, compression="gzip", max_files=3)
        destination = structs.File(path=str(path))
        output = Output("w", config(destination, rotation=rotation), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        with messages() as said:
            async with relaying(output):
                await child(output, "yes 0123456789 | head -c 95700")
                assert output.counters["stdout"].rotations == 9
                with trio.fail_after(DEADLINE):
                    while [file.suffix for file in old_files(str(path))] != [".gz"] * 3:
                        await trio.sleep(0.01)
            assert said == []
        assert all(set(data.splitlines()) == {b"0123456789"} for data in contents(path))

    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.vfat", image], check=True, capture_output=True)
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, tmp_path / "disk"], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"FAT cannot be mounted here: {mounted.stderr}")
    try:
        trio.run(main)
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


# -- the loop goes on


def test_compression_leaves_the_loop_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    old = tmp_path / "log.20200101T000000Z-1"
    with old.open("wb") as file:
        for _ in range(600):
            file.write(os.urandom(20_000) * 10)

    async def main() -> float:
        rotation = structs.Rotation(max_size_bytes=10**9, compression="gzip")
        output = Output(
            "w",
            config(structs.File(path=str(path)), rotation=rotation),
            stdout=Writer.nowhere(),
            stderr=Writer.nowhere(),
        )
        worst, ticks = 0.0, 0
        async with relaying(output):
            ends = output.open()
            began = time.monotonic()
            while old.exists():
                before = time.monotonic()
                await trio.sleep(0.001)
                worst = max(worst, time.monotonic() - before)
                ticks += 1
            took = time.monotonic() - began
            ends.close()
            await output.finish()
        assert took > 0.3, "too quick to tell"
        assert ticks > took * 50
        return worst

    assert trio.run(main) < 0.5
    assert old.with_name(old.name + ".gz").exists()
