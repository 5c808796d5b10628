"""The report and the power button through real descriptors; a fifo stands in for the device node."""

from __future__ import annotations

import os
import select
import struct
import time
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from bootstrap import host, power_button
from ocelot.wire.protocol import ExitReport

REPORT = ExitReport(status=3, reason="the shell exited with status 3", verb="poweroff")


@pytest.fixture
def port(tmp_path: Path) -> Path:
    node = tmp_path / "vport0p1"
    os.mkfifo(node)
    return node


def test_the_host_gets_the_whole_line(port: Path) -> None:
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    for blocking in (True, False):
        assert host._write(str(port), host.encode(REPORT), 2.0, blocking)
        assert msgspec.json.decode(os.read(reader, 4096), type=ExitReport) == REPORT
    os.close(reader)


def test_a_host_that_does_not_listen_costs_nothing(port: Path) -> None:
    start = time.monotonic()
    assert not host._write(str(port), b"x\n", 2.0, True)  # ENXIO: nobody reads
    assert time.monotonic() - start < 1


def test_a_host_that_listens_but_does_not_read_costs_the_deadline(port: Path) -> None:
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(port, os.O_WRONLY | os.O_NONBLOCK)
    while select.select([], [writer], [], 0)[1]:
        os.write(writer, b"x" * 4096)
    start = time.monotonic()
    assert not host._write(str(port), b"x\n", 0.3, True)
    assert 0.2 < time.monotonic() - start < 2
    os.close(writer)
    os.close(reader)


def test_without_a_port_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    start = time.monotonic()
    assert not trio.run(lambda: host.send(REPORT, "org.ocelot.exit", sysfs=str(tmp_path)))
    assert time.monotonic() - start < 1


def test_a_port_whose_driver_is_there_is_awaited(tmp_path: Path) -> None:
    (tmp_path / "bus" / "virtio" / "drivers" / "virtio_console" / "virtio0").mkdir(parents=True)
    start = time.monotonic()
    assert not trio.run(lambda: host.send(REPORT, "org.ocelot.exit", sysfs=str(tmp_path), within=0.3))
    assert 0.3 <= time.monotonic() - start < 2


def test_a_press_of_the_power_button_calls_back(tmp_path: Path) -> None:
    event = struct.Struct("llHHi")
    capabilities = tmp_path / "class" / "input" / "event1" / "device" / "capabilities"
    capabilities.mkdir(parents=True)
    (capabilities / "key").write_text("10000000000000 0\n")
    (tmp_path / "input").mkdir()
    node = tmp_path / "input" / "event1"
    os.mkfifo(node)
    device = os.open(node, os.O_RDWR)

    async def main() -> None:
        pressed = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: power_button.watch(pressed.set, sysfs=str(tmp_path), dev=str(tmp_path)))
            await trio.testing.wait_all_tasks_blocked()
            os.write(device, event.pack(0, 0, 1, 30, 1) + event.pack(0, 0, 1, 116, 0))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not pressed.is_set()
            os.write(device, event.pack(0, 0, 1, 116, 1))
            with trio.fail_after(10):
                await pressed.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
    os.close(device)
