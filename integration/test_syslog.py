"""What is forwarded to syslog and to the kernel log, read back from a real rsyslogd and from /dev/kmsg."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from integration.lab import cache
from integration.outputs import child, config, messages, relaying
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.forwarding import KMSG_MAX, KmsgSink
from supervisor.output.process_output import Output

DEADLINE = 30.0
RSYSLOGD = cache.daemon("rsyslog", "/usr/sbin/rsyslogd")

CONFIG = """\
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log" CreatePath="on" UseSpecialParser="off" RateLimit.Interval="0")
module(load="imudp")
input(type="imudp" port="{port}" address="127.0.0.1")
template(name="all" type="list" option.jsonf="on") {{
    property(outname="text" name="msg" format="jsonf")
    property(outname="name" name="app-name" format="jsonf")
    property(outname="facility" name="syslogfacility-text" format="jsonf")
    property(outname="severity" name="syslogseverity-text" format="jsonf")
    property(outname="version" name="protocol-version" format="jsonf")
    property(outname="host" name="hostname" format="jsonf")
    property(outname="at" name="timereported" dateFormat="rfc3339" format="jsonf")
}}
action(type="omfile" file="{folder}/received" template="all")
"""


class Daemon:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> str:
        return str(self.folder / "log")

    def start(self) -> None:
        assert RSYSLOGD is not None
        file = self.folder / "rsyslog.conf"
        file.write_text(CONFIG.format(folder=self.folder, port=self.port))
        modules = next(RSYSLOGD.root.glob("usr/lib/*/rsyslog"))
        command = [RSYSLOGD.program, "-n", "-iNONE", "-f", file, "-M", modules]
        with (self.folder / "errors").open("ab") as errors:
            self.process = subprocess.Popen(command, env=RSYSLOGD.environment, stdout=errors, stderr=errors)
        self.wait(lambda: os.path.exists(self.path) and self.bound(), "it listens")

    def bound(self) -> bool:
        return f"0100007F:{self.port:04X}" in Path("/proc/net/udp").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE)
            self.process = None

    def received(self) -> list[dict[str, Any]]:
        file = self.folder / "received"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def texts(self) -> list[str]:
        return [message["text"] for message in self.received()]

    def wait(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not true():
            assert time.monotonic() < deadline, (what, (self.folder / "errors").read_text(), self.received())
            time.sleep(0.02)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def daemon(folder: Path) -> Iterator[Daemon]:
    made = Daemon(folder)
    try:
        yield made
    finally:
        made.stop()


def forward(address: str) -> Output:
    destination = structs.Syslog(address=address)
    return Output("my app", config(destination), stdout=Writer.nowhere(), stderr=Writer.nowhere())


needs_rsyslog = pytest.mark.skipif(RSYSLOGD is None, reason="no rsyslog, neither installed nor unpacked: make machine")


@needs_rsyslog
@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_a_real_daemon_understands_every_part_of_a_message(tmp_path: Path, kind: str) -> None:
    async def main(syslog: Daemon) -> None:
        output = forward(syslog.path if kind == "unix" else f"udp://127.0.0.1:{syslog.port}")
        async with relaying(output):
            await child(output, "echo 'hello <30>1 - there'; echo; echo 'wörld: 50%'; printf 'no end'; echo oops >&2")
        syslog.wait(lambda: len(syslog.received()) == 4, "four messages")

    with daemon(tmp_path) as syslog:
        syslog.start()
        trio.run(main, syslog)
        found = {message["text"]: message for message in syslog.received()}
    assert set(found) == {"hello <30>1 - there", "wörld: 50%", "no end", "oops"}
    assert {message["name"] for message in found.values()} == {"my_app"}
    assert {message["facility"] for message in found.values()} == {"daemon"}
    assert {message["version"] for message in found.values()} == {"1"}
    assert {message["host"] for message in found.values()} == {os.uname().nodename}
    assert [found[text]["severity"] for text in ("no end", "oops")] == ["info", "err"]
    assert found["oops"]["at"].startswith(time.strftime("%Y-%m-%dT%H:", time.gmtime()))


@needs_rsyslog
@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_a_long_line_arrives_in_several_messages_and_whole(tmp_path: Path, kind: str) -> None:
    text = "ö" * 9000

    async def main(syslog: Daemon) -> None:
        output = forward(syslog.path if kind == "unix" else f"udp://127.0.0.1:{syslog.port}")
        async with relaying(output):
            await child(output, f"echo {text}; echo end")
        syslog.wait(lambda: "end" in syslog.texts(), "the end")

    with daemon(tmp_path) as syslog:
        syslog.start()
        trio.run(main, syslog)
        *parts, end = syslog.texts()
    assert end == "end"
    assert len(parts) > 2
    assert "".join(parts) == text


def complaints(said: list[str]) -> list[str]:
    """Of ``said``, what is told of a sink that takes nothing of the standard output."""
    return [line for line in said if line.startswith(("cannot open where the stdout", "cannot write the stdout"))]


@needs_rsyslog
def test_a_daemon_that_comes_late_or_is_restarted_gets_what_is_said_from_then_on(tmp_path: Path) -> None:
    async def main(syslog: Daemon) -> None:
        output = forward(syslog.path)
        with messages() as said:
            async with relaying(output):
                await child(output, "echo before anybody listens")
                lost = output.counters["stdout"].dropped
                assert lost == len("before anybody listens\n")
                await trio.to_thread.run_sync(syslog.start)
                while output.counters["stdout"].dropped == lost:  # at most a second passes until it is tried again
                    await child(output, "echo hello")
                    if "hello" in syslog.texts():
                        break
                    lost = output.counters["stdout"].dropped
                    await trio.sleep(0.05)
                await trio.to_thread.run_sync(syslog.stop)
                await trio.to_thread.run_sync(syslog.start)
                lost = output.counters["stdout"].dropped
                await child(output, "echo after the restart")
                assert output.counters["stdout"].dropped == lost, "the very first line finds the new socket"
                await trio.to_thread.run_sync(
                    lambda: syslog.wait(lambda: "after the restart" in syslog.texts(), "after the restart")
                )
        assert len(complaints(said)) == 1
        gap = [text for text in syslog.texts() if "were dropped here" in text]
        assert len(gap) == 1

    with daemon(tmp_path) as syslog:
        trio.run(main, syslog)


@pytest.mark.root
@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK | os.W_OK), reason="no access to the kernel log here")
def test_the_kernel_log_takes_records_of_every_length(tmp_path: Path) -> None:
    reader = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(reader, 0, os.SEEK_END)
        name = f"test-{os.getpid()}-" + "n" * 100
        sink = KmsgSink(name, "stderr")
        assert sink.offer(b"hello\n") == 6
        assert sink.offer(b"y" * 2500 + b"\n") == 2501
        sink.close()
        texts = []
        while select.select([reader], [], [], 0.5)[0]:
            head, _, text = os.read(reader, 8192).decode().partition(";")
            if text.startswith(name):
                assert int(head.split(",")[0]) == 3 * 8 + 3
                texts.append(text.splitlines()[0].removeprefix(f"{name}: "))
    finally:
        os.close(reader)
    assert texts[0] == "hello"
    assert "".join(texts[1:]) == "y" * 2500


class Reader:
    """A daemon that reads when it is told to; its queue holds what the kernel gives to everybody."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.texts: list[str] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self) -> None:
        """All that is there."""
        while select.select([self.socket], [], [], 0)[0]:
            self.texts.append(self.socket.recv(9000).decode().partition(" - - - ")[2])

    async def read_slowly(self, pause: float = 0.001) -> None:
        while True:
            self.read()
            await trio.sleep(pause)


@pytest.mark.parametrize("full", ["drop", "block"])
def test_a_daemon_that_is_slower_than_the_process_gets_every_line(tmp_path: Path, full: str) -> None:
    """Though the kernel queues but a few messages: neither is anything dropped, nor a second waited for each few."""

    async def main(reader: Reader) -> None:
        destination = structs.Syslog(address=str(tmp_path / "log"))
        output = Output("w", config(destination, on_full=full), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        async with relaying(output), trio.open_nursery() as nursery:
            nursery.start_soon(reader.read_slowly)
            with trio.fail_after(DEADLINE):
                assert await child(output, "seq 3000") == 0
            nursery.cancel_scope.cancel()
        reader.read()
        assert output.counters["stdout"].dropped == 0
        assert reader.texts == [str(number) for number in range(1, 3001)]

    with Reader(tmp_path / "log") as reader:
        trio.run(main, reader)


def test_a_daemon_that_does_not_read_holds_up_only_those_who_chose_it(tmp_path: Path) -> None:
    async def main(reader: Reader) -> None:
        destination = structs.Syslog(address=str(tmp_path / "log"))
        dropping = Output("d", config(destination), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        blocking = Output("b", config(destination, on_full="block"), stdout=Writer.nowhere(), stderr=Writer.nowhere())
        with messages() as said, trio.fail_after(DEADLINE):
            async with relaying(dropping):
                began = trio.current_time()
                assert await child(dropping, "seq 100000; seq 100000") == 0
                assert trio.current_time() - began < 10  # it is waited for once, and not for each block
            assert dropping.counters["stdout"].dropped > 1_000_000
            assert len([line for line in said if "takes nothing more" in line]) == 1
            async with relaying(blocking):
                ends = blocking.open()
                process = subprocess.Popen(["seq", "40000"], stdout=ends.stdout)
                ends.close()
                with trio.move_on_after(2) as waited:
                    while process.poll() is None:
                        await trio.sleep(0.05)
                assert waited.cancelled_caught, "the process is held up"
                assert blocking.counters["stdout"].dropped == 0
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reader.read_slowly, 0.0)
                    while process.poll() is None:
                        await trio.sleep(0.05)
                    await blocking.finish()
                    nursery.cancel_scope.cancel()
        reader.read()
        assert blocking.counters["stdout"].dropped == 0
        assert reader.texts[-1] == "40000"

    with Reader(tmp_path / "log") as reader:
        trio.run(main, reader)


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
        assert len(complaints(said)) == 1

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
