"""The kernel log, /dev/kmsg (Documentation/ABI/testing/dev-kmsg): a sink for our lines, and what the kernel just said.

The kernel takes one record a write(2), refuses records of about a kilobyte and more (LOG_LINE_MAX), and limits writers
to ten records in five seconds unless kernel.printk_devkmsg is "on".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from ocelot.states import LogLevel

PATH = "/dev/kmsg"
LINE_LIMIT = 900
"""Bytes of text in one record: below the kernel's limit in every version, with room for the prefix."""

WARNING, DEBUG = 4, 7
"""Levels of the kernel's messages, syslog(2): the lower, the more urgent."""

_DAEMON = 3 << 3  # the facility; without one the kernel marks a record as user text
_PRIORITY = {LogLevel.TRACE: 7, LogLevel.DEBUG: 7, LogLevel.INFO: 6, LogLevel.WARN: 4, LogLevel.ERROR: 3}
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_RECORD_SIZE = 8192


class Kmsg:
    """A sink for :mod:`ocelot.log`. Never raises and never blocks; ``dropped`` counts what the kernel did not take."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.dropped = 0

    @classmethod
    def open(cls, path: str = PATH, *, unlimited: bool = False) -> Kmsg | None:
        """Open the kernel log for writing, or None where there is none (a container).

        ``unlimited`` lifts the rate limit of the whole machine: for its init only.
        """
        if unlimited:
            with contextlib.suppress(OSError), open("/proc/sys/kernel/printk_devkmsg", "w") as switch:
                switch.write("on\n")
        try:
            return cls(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError:
            return None

    def __call__(self, level: LogLevel, line: str) -> None:
        for record in records(level, line):
            try:
                os.write(self._fd, record + b"\n")  # without it the kernel shows a record only when the next one comes
            except OSError:
                self.dropped += 1

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def records(level: LogLevel, line: str) -> Iterator[bytes]:
    """``line`` as records for the kernel, cut between characters where it is too long for one."""
    prefix = f"<{_DAEMON | _PRIORITY[level]}>ocelot: ".encode()
    text = line.replace("\n", " ").encode("utf-8", "replace")
    while True:
        cut = len(text) if len(text) <= LINE_LIMIT else LINE_LIMIT
        while cut < len(text) and text[cut] & 0xC0 == 0x80:
            cut -= 1
        yield prefix + text[:cut]
        text = text[cut:]
        if not text:
            return


class Tail:
    """What the kernel says from now on: open one before an attempt, ask for ``lines`` when it has failed."""

    def __init__(self, path: str = PATH) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._fd = -1
            return
        try:
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self.close()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lines(self, limit: int = 5, *, level: int = DEBUG) -> tuple[str, ...]:
        """The last ``limit`` messages of the kernel itself since then, as urgent as ``level`` (syslog(2)) or more.

        Empty if the log cannot be read.
        """
        found: list[str] = []
        while self._fd >= 0:
            try:
                record = os.read(self._fd, _RECORD_SIZE)
            except BrokenPipeError:
                continue  # records were overwritten before we read them; the next read is at the oldest one left
            except OSError:
                break
            if not record:
                break
            message = parse_record(record, level)
            if message is not None:
                found.append(message)
        return tuple(found[-limit:]) if limit > 0 else tuple(found)

    def close(self) -> None:
        """Close the descriptor; lines() is empty from now on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def parse_record(record: bytes, level: int = DEBUG) -> str | None:
    """The text of one record if the kernel itself wrote it, at ``level`` or more urgent.

    Else None: user space wrote it, or it is malformed.
    """
    head, semicolon, body = record.partition(b";")
    priority = head.split(b",", 1)[0]
    if not semicolon or not priority.isdigit() or int(priority) > level:  # with a facility, user space's, it is above 7
        return None
    line = body.split(b"\n", 1)[0]  # what follows are continuation lines with the device
    return _ESCAPE.sub(lambda match: bytes((int(match.group(1), 16),)), line).decode("utf-8", "replace")
