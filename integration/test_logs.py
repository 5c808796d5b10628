"""What processes wrote, as people see it: ``ocelotctl logs``, and the terminal that ``ocelot supervise`` runs on."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from integration.desk import Desk, desk

DEADLINE = 30.0


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"program": "/bin/sh", "arguments": ["-c", script], "shutdownSignal": "SIGKILL", **more}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("logs")
    ticks = "sleep 0.0{}; for n in 1 2 3 4 5; do echo {} $n; sleep 0.2; done; echo {} end >&2; sleep 1000"
    processes = {f"web-{n}": shell(ticks.format(n * 3, f"web-{n}", f"web-{n}")) for n in (1, 2, 3)}
    processes["again"] = shell("echo began; read line < {}; echo ends".format(folder / "pipe"))
    processes["again"]["restartPolicy"] = {"type": "Always", "backoff": "0s"}
    os.mkfifo(folder / "pipe")
    with desk(folder, processes) as made:
        wait(
            lambda: all(f"web-{n} end" in made.ctl("logs", "--plain").stdout for n in (1, 2, 3)), "the end of all three"
        )
        yield made


def wait(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_several_are_merged_by_time_with_their_names(machine: Desk) -> None:
    lines = machine.ctl("logs", "web-1", "web-3").stdout.splitlines()
    assert len(lines) == 12
    stamps = [line.split()[0] for line in lines]
    assert stamps == sorted(stamps)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} web-[13] \| web-[13] (\d|end)", line) for line in lines)
    merged = [json.loads(line) for line in machine.ctl("logs", "web-1", "web-3", "--json").stdout.splitlines()]
    assert [line["at"] for line in merged] == sorted(line["at"] for line in merged)
    assert [line["text"] for line in merged] == [line.partition(" | ")[2] for line in lines]
    assert "web-2" in machine.ctl("logs", "web-*").stdout
    assert machine.ctl("logs", "web-*", "--plain", "-n", "4").stdout.count("\n") == 4


def test_one_alone_needs_no_name(machine: Desk) -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} web-1 1", machine.ctl("logs", "web-1").stdout.splitlines()[0])


def test_since_and_count(machine: Desk) -> None:
    found = [json.loads(line) for line in machine.ctl("logs", "web-1", "--json").stdout.splitlines()]
    said = {kind: [line["text"] for line in found if line["stream"] == kind] for kind in ("stdout", "stderr")}
    assert said == {"stdout": [f"web-1 {n}" for n in (1, 2, 3, 4, 5)], "stderr": ["web-1 end"]}
    # On a busy machine several lines may have come in one block, at one time: ask for what follows the longest pause
    pause, number = max((line["at"] - found[each]["at"], each + 1) for each, line in enumerate(found[1:]))
    assert pause > 0
    moment = datetime.fromtimestamp(found[number]["at"] - pause / 2).isoformat()
    late = machine.ctl("logs", "web-1", "--plain", "--since", moment).stdout.splitlines()
    assert late == [line["text"] for line in found[number:]]
    assert machine.ctl("logs", "web-1", "--since", "1h", "--json").stdout.count("\n") == 6
    assert machine.ctl("logs", "web-1", "--since", "1ms").stdout == ""
    assert machine.ctl("logs", "web-1", "--plain", "-n", "2").stdout.splitlines() == [
        line["text"] for line in found[-2:]
    ]


def test_following_goes_on_across_a_restart(machine: Desk) -> None:
    command = [sys.executable, "-m", "ocelot.ctl", "logs", "again", "-f", "-n", "1", "--plain"]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "began\n"  # it listens
            for _ in range(2):
                (machine.log.parent / "pipe").write_text("go\n")
                assert [follower.stdout.readline() for _ in range(2)] == ["ends\n", "began\n"]
        finally:
            follower.send_signal(signal.SIGINT)


def test_colours_are_for_terminals_and_for_who_asks(machine: Desk) -> None:
    assert "\x1b" not in machine.ctl("logs", "web-*").stdout
    coloured = machine.ctl("logs", "web-*", "--color", "always").stdout
    assert "\x1b[36mweb-" in coloured
    assert coloured.count("\x1b[31m|\x1b[0m") == 3, "the lines from standard error"
    command = [sys.executable, "-m", "ocelot.ctl", "logs", "web-*"]
    assert b"\x1b[36m" in on_terminal(command, {**machine.environment, "TERM": "xterm"})
    assert b"\x1b" not in on_terminal(command, {**machine.environment, "TERM": "xterm", "NO_COLOR": "1"})
    assert b"\x1b" not in on_terminal([*command, "--color", "never"], {**machine.environment, "TERM": "xterm"})


# -- the terminal of ocelot itself


def on_terminal(command: list[str], environment: dict[str, str]) -> bytes:
    """What ``command`` shows on a terminal until it ends."""
    with terminal(command, environment) as (process, master):
        found = b""
        while process.poll() is None or select.select([master], [], [], 0)[0]:
            if select.select([master], [], [], 0.05)[0]:
                try:
                    found += os.read(master, 65536)
                except OSError:
                    break  # nobody has the other end any more
        return found


@contextmanager
def terminal(command: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    master, slave = pty.openpty()
    with subprocess.Popen(
        command, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        try:
            yield process, master
        finally:
            if process.poll() is None:
                process.terminate()
            os.close(master)


def supervise(folder: Path, *options: str) -> list[str]:
    file = folder / "ocelot.yaml"
    processes = {
        "web": shell("echo one; echo two >&2; printf 'no end'"),
        "backend": shell("sleep 0.3; echo three; exit 0"),
        "json": shell("sleep 0.6; echo four", log={"stdout": {"format": "json"}}),
    }
    file.write_text(json.dumps({"processes": processes, "control": {"socket": str(folder / "control.sock")}}))
    return [sys.executable, "-m", "ocelot", "supervise", str(file), *options]


def test_a_terminal_shows_names_in_colours(tmp_path: Path) -> None:
    shown = on_terminal(supervise(tmp_path), {**os.environ, "TERM": "xterm"}).decode()
    lines = shown.replace("\r\n", "\n").splitlines()
    assert "\x1b[36mweb     |\x1b[0m one" in lines
    assert "\x1b[36mweb     \x1b[31m|\x1b[0m two" in lines
    assert "\x1b[36mweb     |\x1b[0m no end" in lines
    assert "\x1b[33mbackend |\x1b[0m three" in lines
    record = next(json.loads(line) for line in lines if line.startswith("{"))
    assert (record["name"], record["stream"], record["message"]) == ("json", "stdout", "four")


def test_what_would_do_something_to_the_terminal_is_made_visible_on_one_and_nowhere_else(tmp_path: Path) -> None:
    """``ocelotctl`` is root's, the words are those of anybody's service."""
    hostile, visible = b"\x1b]52;c;aGk=\x07", b"^[]52;c;aGk=^G"
    with desk(tmp_path, {"web": shell(r"printf '\033]52;c;aGk=\007 here\n'; sleep 1000")}) as machine:
        wait(lambda: "here" in machine.ctl("logs").stdout, "the line is there")
        assert hostile.decode() in machine.ctl("logs").stdout
        for words in (["logs"], ["status", "web"]):
            shown = on_terminal([sys.executable, "-m", "ocelot.ctl", *words], machine.environment)
            assert visible in shown
            assert hostile not in shown


def test_no_color_leaves_the_names(tmp_path: Path) -> None:
    shown = on_terminal(supervise(tmp_path), {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}).decode()
    assert "web     | one\r\n" in shown
    assert "backend | three\r\n" in shown
    assert "\x1b" not in shown


def test_a_pipe_gets_the_bytes_as_they_are_unless_colour_is_asked_for(tmp_path: Path) -> None:
    def piped(*options: str) -> bytes:
        done = subprocess.run(supervise(tmp_path, *options), capture_output=True, timeout=DEADLINE, check=False)
        return done.stdout

    assert piped().startswith(b"one\nno end\nthree\n{")
    assert b"\x1b[36mweb     |\x1b[0m one\n" in piped("--color", "always")
