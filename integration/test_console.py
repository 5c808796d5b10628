"""Taking a console in a process of its own: real terminals, closed descriptors, a console that hangs up."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PREAMBLE = """
import json, os, sys
from bootstrap import console
from ocelot import log
from ocelot.states import LogLevel
from ocelot.linux.identity import Identity
def tell(**facts):
    with open(os.environ["TELL"], "w") as file: json.dump(facts, file)
"""


def run(script: str, *arguments: str, close: bool = False) -> dict[str, object]:
    """Run ``script``; what it tells. ``close``: start it without standard descriptors."""
    start = 'exec <&- >&- 2>&-; exec "$@"' if close else 'exec "$@"'
    with tempfile.NamedTemporaryFile("r") as told:
        command = ["sh", "-c", start, "sh", sys.executable, "-c", PREAMBLE + script, *arguments]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TELL": told.name}, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr
        result = json.load(told)
    assert isinstance(result, dict)
    return result


def test_a_machines_console_becomes_0_1_and_2_blocking_while_we_write_without_blocking() -> None:
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    result = run(
        """
opened = console.open_console(sys.argv[1], Identity.MACHINE)
log.configure(sinks=[opened.sink()])
log.info("hello")
log.error("bad")
os.write(1, b"a child\\n")
tell(names=[os.ttyname(fd) for fd in (0, 1, 2)], blocking=[os.get_blocking(fd) for fd in (0, 1, 2)], tty=opened.tty,
     own=os.get_blocking(opened.stdout.fileno()), one=opened.stdout is opened.stderr, problem=opened.problem)
""",
        name,
    )
    assert result == {
        "names": [name] * 3,
        "blocking": [True] * 3,
        "tty": name,
        "own": False,
        "one": True,
        "problem": "",
    }
    text = ""
    while "a child" not in text:
        text += os.read(master, 1000).decode()
    assert text.startswith("ocelot: hello\r\n")
    assert "ocelot: error: bad" in text
    assert text.endswith("a child\r\n")
    os.close(slave)
    os.close(master)


def test_a_console_that_is_not_there_is_told_and_does_not_stop_anything() -> None:
    result = run(
        """
console.ACTIVE = "/nowhere/{}"
opened = console.open_console("nosuch0", Identity.MACHINE)
opened.stdout.write_now(b"whoever hears this\\n")
tell(problem=opened.problem)
""",
    )
    assert result == {"problem": 'cannot open the console "/dev/nosuch0": No such file or directory'}


def test_in_a_container_the_inherited_output_stays() -> None:
    result = run(
        """
before = os.readlink("/proc/self/fd/1")
opened = console.open_console("ttyS0", Identity.CONTAINER)
tell(same=before == os.readlink("/proc/self/fd/1"), tty=opened.tty, problem=opened.problem,
     two=opened.stdout is not opened.stderr)
"""
    )
    assert result == {"same": True, "tty": None, "problem": "", "two": True}


def test_closed_standard_descriptors_are_filled_before_anything_else_gets_their_numbers() -> None:
    result = run(
        """
console.occupy_standard_descriptors()
opened = console.open_console("console", Identity.CONTAINER)
opened.stdout.write_now(b"x\\n")
log.configure(sinks=[opened.sink()])
log.info("nobody hears this")
tell(fds=[os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)], next=os.open("/", os.O_RDONLY) > 2)
""",
        close=True,
    )
    assert result == {"fds": ["/dev/null"] * 3, "next": True}


def test_a_console_that_hangs_up_is_opened_again_by_its_name() -> None:
    master, slave = pty.openpty()
    link = f"/tmp/ocelot-console-{os.getpid()}"
    os.symlink(os.ttyname(slave), link)
    try:
        from ocelot.linux.descriptors import Writer

        writer = Writer.open(link)
        writer.write_now(b"one\n")
        assert os.read(master, 100) == b"one\r\n"
        os.close(slave)
        os.close(master)
        other_master, other_slave = pty.openpty()
        os.unlink(link)
        os.symlink(os.ttyname(other_slave), link)
        writer.write_now(b"two\n")
        assert os.read(other_master, 100) == b"two\r\n"
        assert writer.dropped == 0
        writer.close()
        os.close(other_slave)
        os.close(other_master)
    finally:
        os.unlink(link)
