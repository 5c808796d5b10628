"""The power button of a machine: an input device with a KEY_POWER (Documentation/input/event-codes.rst).

It is found by its capabilities, not by its number, and may appear at any time (its driver is a module), which the kernel
announces on a netlink socket. Nothing polls.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

import trio

KEY_POWER = 116
_EV_KEY = 1
_PRESSED = 1
_EVENT = struct.Struct("llHHi")  # struct input_event, linux/input.h

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1


def has_power_key(capabilities: str) -> bool:
    """Whether a key bitmap as sysfs shows it (words of the machine's size in hexadecimal, the highest first) has KEY_POWER."""
    bits = struct.calcsize("l") * 8
    words = capabilities.split()
    index = KEY_POWER // bits
    if index >= len(words):
        return False
    try:
        return bool(int(words[-1 - index], 16) >> (KEY_POWER % bits) & 1)
    except ValueError:
        return False


def presses(data: bytes) -> int:
    """How many times the power key went down in what was read from an event device."""
    whole = len(data) - len(data) % _EVENT.size
    events = _EVENT.iter_unpack(data[:whole])
    return sum(1 for _, _, kind, code, value in events if (kind, code, value) == (_EV_KEY, KEY_POWER, _PRESSED))


def buttons(*, sysfs: str = "/sys", dev: str = "/dev") -> list[str]:
    """The event devices that have a power key, by path."""
    folder = f"{sysfs}/class/input"
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith("event"))
    except OSError:
        return []
    found = []
    for name in names:
        try:
            with open(f"{folder}/{name}/device/capabilities/key", encoding="ascii") as file:
                capabilities = file.read()
        except OSError:
            continue
        if has_power_key(capabilities) and os.path.exists(f"{dev}/input/{name}"):
            found.append(f"{dev}/input/{name}")
    return found


async def watch(pressed: Callable[[], None], *, sysfs: str = "/sys", dev: str = "/dev") -> None:
    """Call ``pressed`` at each press of a power button, until cancelled. Buttons may come and go."""
    listener = _listen()
    watched: set[str] = set()
    try:
        async with trio.open_nursery() as nursery:
            while True:
                for path in buttons(sysfs=sysfs, dev=dev):
                    if path not in watched:
                        watched.add(path)
                        nursery.start_soon(_read, path, pressed, watched)
                await _next_input(listener)
    finally:
        if listener is not None:
            listener.close()


async def _read(path: str, pressed: Callable[[], None], watched: set[str]) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        watched.discard(path)
        return
    try:
        while True:
            await trio.lowlevel.wait_readable(fd)
            try:
                data = os.read(fd, _EVENT.size * 64)
            except BlockingIOError:
                continue
            for _ in range(presses(data)):
                pressed()
            if not data:
                return
    except OSError:
        return  # the device is gone (ENODEV)
    finally:
        watched.discard(path)
        os.close(fd)


def _listen() -> trio.socket.SocketType | None:
    """The kernel's announcements (kobject uevents), or None where a namespace keeps them from us."""
    plain = None
    try:
        plain = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT)
        plain.bind((0, _KERNEL_GROUP))
    except OSError:
        if plain is not None:
            plain.close()
        return None
    return trio.socket.from_stdlib_socket(plain)


async def _next_input(listener: trio.socket.SocketType | None) -> None:
    """Return when an input device was announced, or when announcements were lost."""
    if listener is None:
        await trio.sleep_forever()
    while True:
        try:
            message = await listener.recv(16384)
        except OSError:
            return  # ENOBUFS: there were more than the socket holds, so look
        if message.startswith(b"add@") and b"/input/" in message.split(b"\0", 1)[0]:
            return
