"""Output relayed from real children through real pipes and file systems."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from integration.outputs import child, config, messages, pipe_writer, relaying
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.process_output import Output
from supervisor.output.relay import Relay


def test_a_file_is_made_with_its_folders_and_gets_every_byte_of_both_streams(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a" / "b" / "log"
        output = Output("web", config(structs.File(path=str(path))), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output):
            assert await child(output, "echo out; echo err >&2; printf unfinished") == 0
            assert {"out", "err"} < set(path.read_text().replace("unfinished", "").splitlines()) | {""}
            assert len(path.read_bytes()) == len(b"out\nerr\nunfinished")
            assert [line.text for line in output.rings["stdout"].lines()] == ["out", "unfinished"]
            assert [line.text for line in output.rings["stderr"].lines()] == ["err"]

    trio.run(main)


def test_a_log_file_is_held_open_only_while_somebody_writes(tmp_path: Path) -> None:
    def held() -> bool:
        return any(os.readlink(f"/proc/self/fd/{fd}") == str(path) for fd in os.listdir("/proc/self/fd") if alive(fd))

    def alive(fd: str) -> bool:
        return os.path.exists(f"/proc/self/fd/{fd}")

    async def main() -> None:
        output = Output("x", config(structs.File(path=str(path))), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output):
            output.open().close()
            assert held()
            await output.finish()
            assert not held()
            await child(output, "echo again")
            assert path.read_text() == "again\n"
            assert not held()

    path = tmp_path / "log"
    trio.run(main)


@pytest.mark.parametrize("rotation", [None, structs.Rotation(max_size_bytes=9999)], ids=["", "rotated"])
def test_the_last_line_of_ten_thousand_short_lived_writers_arrives(
    tmp_path: Path, rotation: structs.Rotation | None
) -> None:
    each = 40 if rotation is None else 200

    async def main() -> None:
        path = tmp_path / "log"
        relay = Relay()
        outputs = [
            Output(
                f"p{n}",
                config(structs.File(path=str(path)), rotation=rotation),
                stdout=Writer.nowhere(),
                stderr=Writer.nowhere(),
                relay=relay,
            )
            for n in range(50)
        ]

        async def writers(number: int) -> None:
            output = outputs[number]
            for n in range(each):
                ends = output.open()
                # The writer is gone before anybody has read: what counts is what finish() still finds.
                pid = os.posix_spawn(
                    "/bin/echo",
                    ["echo", "-n", f"{number}-{n}."],
                    {},
                    file_actions=[(os.POSIX_SPAWN_DUP2, ends.stdout, 1), (os.POSIX_SPAWN_DUP2, ends.stderr, 2)],
                )
                ends.close()
                await trio.to_thread.run_sync(os.waitpid, pid, 0)
                await output.finish()

        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay.run)
                async with trio.open_nursery() as running:
                    for number in range(50):
                        running.start_soon(writers, number)
                nursery.cancel_scope.cancel()
        files = list(tmp_path.iterdir())
        assert len(files) > 6 if rotation is not None else files == [path]
        # A line without its end is ended before somebody else's begins
        found = "".join(file.read_text() for file in files).replace("\n", "").split(".")[:-1]
        assert sorted(found) == sorted(f"{a}-{b}" for a in range(50) for b in range(each))

    trio.run(main)


def test_output_left_in_the_pipe_is_read_although_a_daemon_holds_it_open(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "log"
        output = Output("d", config(structs.File(path=str(path))), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output):
            ends = output.open()
            holder = subprocess.Popen(["sleep", "60"], stdout=ends.stdout)
            try:
                writer = subprocess.Popen(["sh", "-c", "yes | head -c 60000; echo last"], stdout=ends.stdout)
                ends.close()
                await trio.to_thread.run_sync(writer.wait)
                await output.finish()
                assert path.read_bytes().endswith(b"last\n")
                assert path.stat().st_size == 60005
            finally:
                holder.kill()
                holder.wait()

    trio.run(main)


def test_a_child_gets_a_blocking_pipe(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "log"
        output = Output("x", config(structs.File(path=str(path))), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output):
            script = "import os; print(os.get_blocking(1), os.get_blocking(2))"
            await child(output, script, shell=sys.executable)
        assert path.read_text() == "True True\n"

    trio.run(main)


def test_a_sibling_does_not_inherit_the_pipe(tmp_path: Path) -> None:
    async def main() -> None:
        output = Output("x", structs.Log(), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output):
            ends = output.open()
            listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
            mine = os.readlink(f"/proc/self/fd/{ends.stdout}")
            assert "pipe:" in mine
            assert mine not in listing.stdout
            ends.close()
            await output.finish()

    trio.run(main)


def test_null_goes_nowhere_and_direct_is_our_own_descriptor() -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            nowhere = Output("n", config(structs.Null()), stdout=writer, stderr=writer)
            assert await child(nowhere, "echo lost; readlink /proc/self/fd/1 >&2; test /dev/null -ef /dev/stdout") == 0
            direct = Output("d", config(structs.Direct()), stdout=writer, stderr=writer)
            assert await child(direct, "echo seen") == 0
            assert os.read(reader, 100) == b"seen\n"
            assert direct.rings == {}

    trio.run(main)


@pytest.mark.root
def test_a_full_disk_drops_counts_marks_the_gap_and_goes_on(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:

        async def main() -> None:
            path = tmp_path / "log"
            (tmp_path / "ballast").write_bytes(b"x" * 512 * 1024)
            output = Output("w", config(structs.File(path=str(path))), stdout=Writer.nowhere(), stderr=Writer.nowhere())
            with messages() as said:
                async with relaying(output):
                    assert await child(output, "yes | head -c 2000000") == 0
                    dropped = output.counters["stdout"].dropped
                    assert output.counters["stdout"].bytes == 2_000_000
                    assert dropped == 2_000_000 - path.stat().st_size
                    assert dropped > 1_000_000
                    (tmp_path / "ballast").unlink()
                    assert await child(output, "echo again") == 0
            assert path.read_text().endswith(f"\nocelot: {dropped} bytes of w's stdout were dropped here\nagain\n")
            assert [line for line in said if "dropped" in line] == [
                'cannot write the stdout of "w": No space left on device; it is dropped and counted until that changes',
                f'the stdout of "w" is written again; {dropped} bytes of it were dropped',
            ]

        trio.run(main)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.root
@pytest.mark.parametrize("rotation", [None, structs.Rotation(max_size_bytes=99_999)], ids=["", "rotated"])
def test_block_on_a_full_disk_loses_nothing(tmp_path: Path, rotation: structs.Rotation | None) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:

        async def main() -> None:
            path = tmp_path / "log"
            ballast = tmp_path / "ballast"
            ballast.write_bytes(b"x" * 900 * 1024)
            destination = structs.File(path=str(path))
            blocking = config(destination, on_full="block", rotation=rotation)
            output = Output("w", blocking, stdout=Writer.nowhere(), stderr=Writer.nowhere())

            def written() -> int:
                return sum(each.stat().st_size for each in tmp_path.iterdir() if each.name.startswith("log"))

            async with relaying(output):
                ends = output.open()
                process = subprocess.Popen(["sh", "-c", "yes | head -c 600000"], stdout=ends.stdout)
                ends.close()
                while written() < 120_000:
                    await trio.sleep(0.01)
                with trio.move_on_after(0.5):
                    await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
                assert process.returncode is None, "it should be held up by the full disk"
                ballast.unlink()
                assert await trio.to_thread.run_sync(process.wait) == 0
                await output.finish()
            assert written() == 600_000
            assert output.counters["stdout"].dropped == 0
            assert len(list(tmp_path.iterdir())) == (1 if rotation is None else 7)

        trio.run(main)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_who_reads_nothing_holds_up_the_end_only_so_long_and_no_pipe_stays_open() -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            blocking = config(structs.Inherit(), on_full="block")
            output = Output("w", blocking, stdout=writer, stderr=writer)
            async with relaying(output):
                before = len(os.listdir("/proc/self/fd"))
                ends = output.open()
                script = "yes >&2 & yes"
                process = subprocess.Popen(
                    ["sh", "-c", script], stdout=ends.stdout, stderr=ends.stderr, start_new_session=True
                )
                ends.close()
                while not writer.backlog:
                    await trio.sleep(0.01)
                os.killpg(process.pid, signal.SIGKILL)
                await trio.to_thread.run_sync(process.wait)
                await output.finish(0.1)
                assert len(os.listdir("/proc/self/fd")) == before
                for kind, counters in output.counters.items():
                    assert 0 < counters.dropped <= counters.bytes, kind
                    assert output.rings[kind].end == counters.bytes
                os.set_blocking(reader, False)
                while True:
                    try:
                        os.read(reader, 1 << 20)
                    except BlockingIOError:
                        if not writer.backlog:
                            break
                        await writer.ready(0.1)
                assert await child(output, "echo again") == 0
                said = os.read(reader, 1 << 20).decode().splitlines()
                assert said[-1] == "again"
                assert said[-2] == f"ocelot: {output.counters['stdout'].dropped} bytes of w's stdout were dropped here"

    trio.run(main)


def test_following_sees_lines_as_they_come_with_their_stream() -> None:
    async def main() -> None:
        output = Output("f", structs.Log(), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        with messages():
            async with relaying(output):
                with output.follow() as lines:
                    assert await child(output, "echo one; echo two >&2; printf three") == 0
                    seen = [lines.receive_nowait() for _ in range(3)]
                assert sorted((line.stream, line.text) for line in seen) == [
                    ("stderr", "two"),
                    ("stdout", "one"),
                    ("stdout", "three"),
                ]
                assert {line.text for line in output.lines()} == {"one", "two", "three"}
                assert output.counters["stdout"].dropped == len("one\nthree")

    trio.run(main)


def test_an_output_with_another_configuration_keeps_what_the_one_before_had_kept(tmp_path: Path) -> None:
    async def main() -> None:
        relay = Relay()
        nowhere = Writer.nowhere()
        path = tmp_path / "log"
        old = Output("x", config(structs.File(path=str(path))), stdout=nowhere, stderr=nowhere, relay=relay)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.run)
            await child(old, "echo before")
            new = Output(
                "x", config(structs.File(path=str(path)), ring=2000), stdout=nowhere, stderr=nowhere, relay=relay
            )
            new.succeed(old)
            old.close()
            await child(new, "echo after")
            nursery.cancel_scope.cancel()
        assert [line.text for line in new.lines()] == ["before", "after"]
        assert new.counters["stdout"].bytes == len("before\nafter\n")
        assert path.read_text() == "before\nafter\n"
        new.close()

    trio.run(main)


def test_a_thousand_silent_processes_wake_nobody_and_stay_small() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))

    async def main() -> None:
        relay = Relay()
        before = resident()
        outputs = [
            Output(f"p{n}", structs.Log(), stdout=Writer.nowhere(), stderr=Writer.nowhere(), relay=relay)
            for n in range(1000)
        ]
        ends = [output.open() for output in outputs]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.run)
            await trio.testing.wait_all_tasks_blocked()
            grown = resident() - before
            counter = WakeUps()
            trio.lowlevel.add_instrument(counter)
            with trio.move_on_after(1):
                await trio.sleep_forever()
            trio.lowlevel.remove_instrument(counter)
            nursery.cancel_scope.cancel()
        for end in ends:
            end.close()
        for output in outputs:
            output.close()
        relay.close()
        print(f"1,000 outputs hold {grown / 1024:.0f} KiB")
        assert counter.count <= 2  # this test's own timer
        assert grown < 6 * 1024 * 1024

    try:
        trio.run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class WakeUps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
