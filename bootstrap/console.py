"""The console: what PID 1 reads from and writes to, and the terminal behind it.

The kernel starts init with /dev/console on 0, 1 and 2, or with none of them when the initramfs has no such node. /dev/console
is a name for the last ``console=`` of the kernel command line and can never be a controlling terminal (tty(4)); the terminal behind
it can, and that is what a shell with job control needs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from ocelot import log
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity
from ocelot.states import LogLevel

ACTIVE = "/sys/class/tty/{}/active"
"""The terminals behind /dev/console (or behind tty0, the foreground virtual terminal), the one that counts last."""


@dataclass(frozen=True)
class Console:
    """Where ocelot's own output goes. ``stdout`` and ``stderr`` are one writer when they are one device.

    ``tty`` is the path of the real terminal, None when there is none; ``problem`` says why the configured console is not used.
    """

    stdout: Writer
    stderr: Writer
    tty: str | None
    problem: str = ""

    def sink(self) -> log.Sink:
        """A sink for ocelot's own messages: standard error, in colour on a terminal that wants it."""
        return sink(self.stderr)


def occupy_standard_descriptors() -> None:
    """Make sure that 0, 1 and 2 are open, before anything else could get these numbers and be written to by mistake."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            _placeholder(fd)


def open_console(name: str, who: Identity) -> Console:
    """Make the console ``name`` (``ttyS0`` or a path) our standard input, output and error. Never raises OSError.

    Only the init of the machine does so: in a container the inherited descriptors are what the engine reads.
    """
    occupy_standard_descriptors()
    if who is not Identity.MACHINE:
        return _inherited("")
    path = device(name)
    problem = ""
    for candidate in dict.fromkeys((path, "/dev/console")):
        try:
            _take(candidate)
        except OSError as error:
            problem = problem or f'cannot open the console "{candidate}": {os.strerror(error.errno or 0)}'
            continue
        with suppress(OSError):
            writer = Writer.open(candidate, shared=1)
            return Console(writer, writer, real_tty(candidate), problem)
    return _inherited(problem)


def device(name: str) -> str:
    """The path for the configuration's ``console``: X is /dev/X, a leading slash is kept."""
    return name if name.startswith("/") else f"/dev/{name}"


def real_tty(path: str = "/dev/console") -> str | None:
    """The terminal behind ``path``, one that can be a controlling terminal; None if there is none."""
    if path == "/dev/console":
        name = _last_word(ACTIVE.format("console"))
        path = f"/dev/{name}" if name else ""
    if path == "/dev/tty0":
        name = _last_word(ACTIVE.format("tty0"))
        path = f"/dev/{name}" if name else path
    return path if path and _is_tty(path) else None


def terminal_type(tty: str) -> str:
    """A value for TERM: the kernel's own terminal is ``linux``, whatever sits behind a serial line is a ``vt220``."""
    name = tty.removeprefix("/dev/")
    return "linux" if name.startswith("tty") and name[3:].isdigit() else "vt220"


def sink(writer: Writer) -> log.Sink:
    """A sink for :mod:`ocelot.log` that writes lines to ``writer`` without waiting."""
    colour = log.for_people(writer.fileno()) and log.wants_colour(writer.fileno())

    def write(level: LogLevel, line: str) -> None:
        writer.write_now((log.format_line(level, line, colour=colour) + "\n").encode("utf-8", "replace"))

    return write


def _inherited(problem: str) -> Console:
    stdout = Writer.attach(1)
    stderr = stdout if _same(1, 2) else Writer.attach(2)
    tty = None
    for fd in (0, 1, 2):
        with suppress(OSError):
            tty = tty or os.ttyname(fd)
    return Console(stdout, stderr, tty, problem)


def _same(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same terminal, pipe or file, so that one writer has to keep their lines apart."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino, first.st_rdev) == (second.st_dev, second.st_ino, second.st_rdev)


def _take(path: str) -> None:
    """Open ``path`` and make it 0, 1 and 2."""
    # Without O_NONBLOCK the open of a serial line can wait for a carrier that never comes; the description is ours
    # alone until it is duplicated, and programs expect it blocking.
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    for target in (0, 1, 2):
        os.dup2(fd, target)
    if fd > 2:
        os.close(fd)


def _placeholder(fd: int) -> None:
    try:
        null = os.open("/dev/null", os.O_RDWR)
    except OSError:
        null = os.open("/", os.O_RDONLY)  # before /dev is there: occupied, and every write to it fails
    if null != fd:
        os.dup2(null, fd)
        os.close(null)


def _last_word(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            words = file.read().split()
    except (OSError, ValueError):
        return ""
    return words[-1] if words else ""


def _is_tty(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.isatty(fd)
    finally:
        os.close(fd)
