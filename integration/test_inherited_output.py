"""Output that goes where ocelot's own goes: consoles, terminals, pipes and sockets that are slow, stopped or gone."""

from __future__ import annotations

import os
import pty
import socket
import sys
import termios
import time
from pathlib import Path

import trio
import trio.testing

from integration.outputs import DEADLINE, child, config, messages, pipe_writer, relaying
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.process_output import Output
from supervisor.output.relay import Relay


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
