"""Output relayed from real children through real pipes, terminals and file systems."""

from __future__ import annotations

import os
import pty
import resource
import socket
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from ocelot import log
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.forwarding import KMSG_MAX, KmsgSink
from supervisor.output import Output
from supervisor.relay import Relay

DEADLINE = 30


def config(destination: structs.Destination, **more: object) -> structs.Log:
    stream = structs.Stream(destination=destination, **more)  # type: ignore[arg-type]
    return structs.Log(stdout=stream, stderr=stream)


@asynccontextmanager
async def relaying(output: Output) -> AsyncIterator[Output]:
    """``output`` with its relay running, closed at the end."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.run)
            yield output
            nursery.cancel_scope.cancel()
    output.close()


async def child(output: Output, script: str, *, shell: str = "sh") -> int:
    """Run ``script`` with its output going to ``output``; returns its status once everything has arrived."""
    ends = output.open()
    process = subprocess.Popen([shell, "-c", script], stdout=ends.stdout, stderr=ends.stderr)
    ends.close()
    status = await trio.to_thread.run_sync(process.wait)
    await output.finish()
    return status


@contextmanager
def pipe_writer() -> Iterator[tuple[Writer, int]]:
    """A writer on a pipe, and the end to read what was written."""
    reader, end = os.pipe()
    writer = Writer.attach(end)
    try:
        yield writer, reader
    finally:
        writer.close()
        os.close(end)
        os.close(reader)


@contextmanager
def messages() -> Iterator[list[str]]:
    """What ocelot logs meanwhile."""
    seen: list[str] = []
    log.configure(sinks=[lambda level, line: seen.append(line)])
    try:
        yield seen
    finally:
        log.configure(sinks=[])


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


def test_whole_lines_are_not_cut_when_processes_share_a_console() -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            relay = Relay()
            outputs = [Output(c, structs.Log(), stdout=writer, stderr=writer, relay=relay) for c in "abcd"]
            received = bytearray()

            async def collect() -> None:
                while True:
                    received.extend(await trio.to_thread.run_sync(os.read, reader, 3000, abandon_on_cancel=True))
                    if received.count(b"\n") >= 4 * 3000:
                        return

            with trio.fail_after(DEADLINE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(relay.run)
                    async with trio.open_nursery() as running:
                        running.start_soon(collect)
                        for output in outputs:
                            # Written in two halves, unbuffered, so that half lines are in the pipes all the time.
                            script = f"import os\nfor n in range(3000): os.write(1, b'{output.name}' * 40); os.write(1, b'{output.name}' * 40 + b'\\n')"
                            running.start_soon(_python, output, script)
                    nursery.cancel_scope.cancel()
            lines = bytes(received).split(b"\n")[:-1]
            assert len(lines) == 12000
            assert set(lines) == {c * 80 for c in (b"a", b"b", b"c", b"d")}

    trio.run(main)


async def _python(output: Output, script: str) -> None:
    assert await child(output, script, shell=sys.executable) == 0


def test_a_prompt_without_a_newline_is_shown_soon() -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            output = Output("p", structs.Log(), stdout=writer, stderr=writer)
            async with relaying(output):
                ends = output.open()
                os.write(ends.stdout, b"Password: ")
                shown = await trio.to_thread.run_sync(os.read, reader, 100, abandon_on_cancel=True)
                assert shown == b"Password: "
                writer.write_now(b"ocelot: something else\n")
                assert os.read(reader, 100) == b"\nocelot: something else\n"
                os.write(ends.stdout, b"ok\n")
                assert await trio.to_thread.run_sync(os.read, reader, 100, abandon_on_cancel=True) == b"ok\n"
                ends.close()
                await output.finish()

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
            assert len([line for line in said if "dropped" in line]) == 1

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


def test_a_console_that_takes_nothing_stops_neither_the_process_nor_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            relay = Relay()
            stuck = Output("stuck", structs.Log(), stdout=writer, stderr=writer, relay=relay)
            path = tmp_path / "log"
            free = Output("free", config(structs.File(path=str(path))), stdout=writer, stderr=writer, relay=relay)
            with trio.fail_after(DEADLINE), messages():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(relay.run)
                    assert await child(stuck, "yes | head -c 1000000") == 0
                    assert await child(free, "echo alive") == 0
                    assert path.read_text() == "alive\n"
                    dropped = stuck.counters["stdout"].dropped
                    assert dropped > 0
                    received = bytearray()
                    os.set_blocking(reader, False)

                    def pump() -> None:
                        while True:
                            try:
                                received.extend(os.read(reader, 65536))
                            except BlockingIOError:
                                if not writer.backlog:
                                    return
                                writer.flush(0)

                    pump()
                    assert await child(stuck, "echo back") == 0
                    pump()
                    nursery.cancel_scope.cancel()
            text = received.decode()
            assert text.endswith(f"ocelot: {dropped} bytes of stuck's stdout were dropped here\nback\n")
            assert len(received) - len(text.splitlines()[-2]) - len("\nback\n") == 1_000_000 - dropped

    trio.run(main)


def test_a_slow_console_loses_nothing_while_it_takes_something() -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            output = Output("slow", structs.Log(), stdout=writer, stderr=writer)
            received = bytearray()

            async def sip() -> None:
                while len(received) < 300_000:
                    received.extend(os.read(reader, 30_000))
                    await trio.sleep(0.2)

            async with relaying(output), trio.open_nursery() as nursery:
                nursery.start_soon(child, output, "yes | head -c 300000")
                await trio.sleep(0.1)
                nursery.start_soon(sip)
            assert len(received) == 300_000
            assert output.counters["stdout"].dropped == 0

    trio.run(main)


def test_the_flags_of_an_inherited_terminal_stay_as_they_are() -> None:
    master, slave = pty.openpty()
    writer = Writer.attach(slave)
    assert writer.fileno() != slave
    assert os.get_blocking(slave)
    assert not os.get_blocking(writer.fileno())
    writer.write_now(b"hello\n")
    assert os.read(master, 100) == b"hello\r\n"
    writer.close()
    os.close(slave)
    os.close(master)


def test_a_stopped_terminal_does_not_block_and_continues_later() -> None:
    async def main() -> None:
        master, slave = pty.openpty()
        writer = Writer.attach(slave)
        termios.tcflow(slave, termios.TCOOFF)
        started = time.monotonic()
        assert await writer.write(b"first\n", stall=0.2) == 0  # kept
        assert await writer.write(b"second\n", stall=0.2) == len(b"second\n")
        assert time.monotonic() - started < 5
        assert writer.stuck
        termios.tcflow(slave, termios.TCOON)
        with trio.fail_after(DEADLINE):
            assert await writer.write(b"third\n", stall=None) == 0
            assert await writer.ready()
        seen = b""
        while not seen.endswith(b"third\r\n"):
            seen += os.read(master, 100)
        assert seen == b"first\r\nthird\r\n"
        writer.close()
        os.close(slave)
        os.close(master)

    trio.run(main)


def test_a_hung_up_terminal_is_counted_not_raised() -> None:
    master, slave = pty.openpty()
    writer = Writer.attach(slave)
    os.close(master)
    writer.write_now(b"nobody hears this\n")
    assert writer.dropped == 18
    assert trio.run(writer.write, b"nor this\n") == 9
    writer.close()
    os.close(slave)


def test_a_socket_is_written_without_blocking_and_without_its_flags_changed() -> None:
    left, right = socket.socketpair()
    writer = Writer.attach(left.fileno())
    for _ in range(100):
        writer.write_now(b"x" * 9999 + b"\n")
    assert writer.dropped > 0
    assert left.getblocking()
    assert os.get_blocking(left.fileno())
    received = 0
    right.setblocking(False)
    while True:
        try:
            received += len(right.recv(1 << 20))
        except BlockingIOError:
            if not writer.backlog:
                break
            writer.flush(0)
    assert received + writer.dropped == 1_000_000
    writer.close()
    left.close()
    right.close()


def test_a_pipe_that_cannot_be_opened_again_is_written_patiently() -> None:
    reader, end = os.pipe()
    writer = Writer(os.dup(end), shared=end, patient=True)
    for _ in range(100):
        writer.write_now(b"y" * 999 + b"\n")
    assert os.get_blocking(end)
    received = 0
    os.set_blocking(reader, False)
    while True:
        try:
            received += len(os.read(reader, 65536))
        except BlockingIOError:
            if not writer.backlog:
                break
            writer.flush(0)
    assert received + writer.dropped == 100_000
    assert received > 60_000
    writer.close()
    os.close(reader)
    os.close(end)


def test_what_a_message_left_behind_is_delivered_by_the_writers_own_task() -> None:
    async def main() -> None:
        with pipe_writer() as (writer, reader):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run)
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(10):
                    writer.write_now(b"z" * 9999 + b"\n")
                assert writer.backlog > 0
                received = 0
                with trio.fail_after(DEADLINE):
                    while received < 100_000:
                        received += len(await trio.to_thread.run_sync(os.read, reader, 65536))
                nursery.cancel_scope.cancel()

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


def test_syslog_gets_one_rfc5424_message_a_line(tmp_path: Path) -> None:
    async def main() -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(str(tmp_path / "log"))
        server.settimeout(DEADLINE)
        destination = structs.Syslog(address=str(tmp_path / "log"))
        output = Output("my app", config(destination), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output):
            await child(output, "echo hello; echo wörld")
            await child(output, "printf oops >&2")
        first, second, third = (server.recv(9000).decode() for _ in range(3))
        head, _, text = first.partition(" my_app - - - ")
        assert head.startswith("<30>1 20")
        assert len(head.split()) == 3
        assert text == "hello"
        assert second.endswith(" my_app - - - wörld")
        assert third.startswith("<27>1 ")
        assert third.endswith(" - - - oops")
        server.close()

    trio.run(main)


def test_a_syslog_that_is_gone_is_one_warning_and_a_count(tmp_path: Path) -> None:
    async def main() -> None:
        destination = structs.Syslog(address=str(tmp_path / "nobody"))
        output = Output("s", config(destination), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        with messages() as said:
            async with relaying(output):
                assert await child(output, "for n in 1 2 3 4 5; do echo $n; sleep 0.01; done") == 0
        assert output.counters["stdout"].dropped == 10
        assert len([line for line in said if line.startswith("cannot write")]) == 1

    trio.run(main)


def test_kmsg_records_carry_priority_and_name(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.touch()
    sink = KmsgSink("web", "stderr", path=str(path))
    assert sink.offer(b"one\n") == 4
    assert sink.offer(b"x" * 2000) == 2000
    sink.close()
    full = KMSG_MAX - len(b"<27>web: \n")
    sizes = (full, full, 2000 - 2 * full)
    assert path.read_bytes() == b"<27>web: one\n" + b"".join(b"<27>web: " + b"x" * n + b"\n" for n in sizes)


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
