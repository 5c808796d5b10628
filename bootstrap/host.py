"""Telling the host how it went: one JSON line on a virtio-serial port, and the last line on the console.

The port is found by its name below /sys/class/virtio-ports and appears some time after its driver was loaded
(drivers/char/virtio_console.c). A port that the host does not listen on is not writable, and a blocking write to it
would last for ever, so poll(2) comes first.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

import msgspec
import trio

from ocelot.wire.protocol import ExitReport

APPEARS_WITHIN = 2.0
"""Seconds in which a port appears once its driver is there."""

WRITE_WITHIN = 2.0
"""Seconds for the host to take the report."""

_LOOK_AGAIN = 0.05


def encode(report: ExitReport) -> bytes:
    """The line that the host reads."""
    return msgspec.json.encode(report) + b"\n"


def console_line(report: ExitReport) -> str:
    """The last line on the console, after ``ocelot: ``."""
    return f"exit status {report.status}: {report.reason}"


def find_port(name: str, *, sysfs: str = "/sys", dev: str = "/dev") -> str | None:
    """The path of the virtio-serial port called ``name``, or None."""
    folder = f"{sysfs}/class/virtio-ports"
    for node in _names(folder):
        with suppress(OSError, ValueError), open(f"{folder}/{node}/name", encoding="utf-8") as file:
            if file.read().strip() == name and os.path.exists(f"{dev}/{node}"):
                return f"{dev}/{node}"
    return None


def expects_ports(*, sysfs: str = "/sys") -> bool:
    """Whether a virtio-serial device is there whose ports may still be on their way."""
    bound = [name for name in _names(f"{sysfs}/bus/virtio/drivers/virtio_console") if name.startswith("virtio")]
    return bool(bound) and not _names(f"{sysfs}/class/virtio-ports")


async def send(report: ExitReport, port: str, *, within: float = APPEARS_WITHIN, sysfs: str = "/sys") -> bool:
    """Write ``report`` to the port called ``port``. False when there is no such port or the host does not take it.

    Takes at most ``within`` (and only if a port may still come) plus :data:`WRITE_WITHIN` seconds. Never raises OSError.
    """
    path = find_port(port, sysfs=sysfs)
    deadline = trio.current_time() + within
    while path is None and expects_ports(sysfs=sysfs) and trio.current_time() < deadline:
        await trio.sleep(_LOOK_AGAIN)  # twice a blink, at the end of a boot that failed early
        path = find_port(port, sysfs=sysfs)
    if path is None:
        return False
    with trio.move_on_after(WRITE_WITHIN):
        # In a thread: a blocking write returns when the host has the line, so that a power-off right after it cannot
        # lose it, and if the host stops listening in between, only the thread hangs.
        return await trio.to_thread.run_sync(_write, path, encode(report), WRITE_WITHIN, True, abandon_on_cancel=True)
    return False


def send_now(report: ExitReport, port: str) -> bool:
    """The same without trio and without waiting for a port that is not there. For when nothing else works any more."""
    path = find_port(port)
    if path is None or not _write(path, encode(report), WRITE_WITHIN, False):
        return False
    time.sleep(0.1)  # the write did not wait for the host to take it
    return True


def _write(path: str, line: bytes, timeout: float, blocking: bool) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        deadline = time.monotonic() + timeout
        while line:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            left = deadline - time.monotonic()
            events = poll.poll(left * 1000) if left > 0 else []
            if not events or not events[0][1] & select.POLLOUT:
                return False
            if blocking:
                os.set_blocking(fd, True)
            line = line[os.write(fd, line) :]
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
