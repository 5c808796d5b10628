"""The completion scripts in the shells they are for, with process names from a running ocelot."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.cli import trees
from ocelot.complete import SHELLS, script


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "bin").mkdir()
    for name, module in (("ocelotctl", "ocelot.ctl"), ("ocelot", "ocelot")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH={os.getcwd()} exec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    with desk(tmp_path, {"web": SLEEPER, "worker": SLEEPER}) as running:
        yield running


CASES = [
    ("ocelotctl sta", {"status", "start"}),
    ("ocelotctl stop w", {"web", "worker"}),
    ("ocelotctl status we", {"web"}),
    ("ocelotctl logs --fo", {"--follow"}),
    ("ocelotctl signal US", {"USR1", "USR2"}),
    ("ocelotctl signal HUP w", {"web", "worker"}),
    ("ocelotctl --json signal HUP web wo", {"worker"}),
    ("ocelotctl signal --socket /nowhere US", {"USR1", "USR2"}),
    ("ocelotctl wait w", {"web", "worker"}),
    ("ocelotctl wait --for re", {"ready"}),
    ("ocelotctl wait --for ready -t 5s we", {"web"}),
    ("ocelotctl events --f", {"--follow"}),
    ("ocelotctl exec we", {"web"}),
    ("ocelotctl shell wor", {"worker"}),
    ("ocelotctl attach w", {"web", "worker"}),
    ("ocelotctl graph w", {"web", "worker"}),
    ("ocelotctl help reb", {"reboot"}),
    ("ocelot boots", {"bootstrap"}),
    ("ocelot bootstrap val", {"validate"}),
    ("ocelot bootstrap config-template --mode sh", {"shell"}),
    ("ocelot completions f", {"fish"}),
    ("ocelot initramfs ins", {"inspect"}),
    ("ocelot initramfs build --compress x", {"xz"}),
    ("ocelot runtime build --pre", {"--prefix"}),
    ("ocelot supervise --col", {"--color"}),
]

_BASH = """
source "$1"
line=$2
read -ra COMP_WORDS <<< "$line"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$line; COMP_POINT=${#line}
_${COMP_WORDS[0]}_complete
printf '%s\\n' "${COMPREPLY[@]}"
"""

_ZSH = """
compdef() { :; }
compadd() { shift; for word in "$@"; do [[ $word == ${current}* ]] && print -r -- "$word"; done }
source "$1"
words=(${=2}); CURRENT=${#words}
_${words[1]}_complete
"""

_FISH = """
source $argv[1]
complete -C $argv[2] | string split -f 1 \\t
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_words_names_and_options_are_completed(shell: str, machine: Desk, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "completion"
    file.write_text(script(shell, trees()))
    driver = tmp_path / "driver"
    driver.write_text({"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell])
    environment = {**machine.environment, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for line, expected in CASES:
        arguments = [shell, *(["-f"] if shell == "zsh" else []), str(driver), str(file), line]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        offered = set(done.stdout.split())
        if (
            shell == "fish"
        ):  # from version 4 on it also offers what has the word somewhere in it, and filters that later
            offered = {word for word in offered if word.startswith(line.rpartition(" ")[2])}
        assert (offered, done.stderr) == (expected, ""), line


INTERACTIVE = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "-N", "-i"],
}


class Terminal:
    """A shell on a terminal, and what it has shown so far."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(command[0], command, environment)
            finally:
                os._exit(127)
        self.shown = b""

    def type(self, text: str) -> None:
        self.shown = b""
        os.write(self.fd, text.encode())

    def until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.shown:
            assert time.monotonic() < deadline, self.shown.decode(errors="replace")
            if select.select([self.fd], [], [], 0.1)[0]:
                block = os.read(self.fd, 4096)
                if b"\x1b[c" in block or b"\x1b[0c" in block:
                    os.write(self.fd, b"\x1b[?62;c")  # fish asks what kind of terminal this is
                self.shown += block

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key_on_a_terminal(shell: str, machine: Desk, tmp_path: Path) -> None:
    """The whole way, as people have it: the script is read, the key is pressed, the command runs."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "completion").write_text(script(shell, trees()))
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment = {**machine.environment, "PATH": path, "HOME": str(tmp_path), "TERM": "xterm", "PS1": "$ "}
    terminal = Terminal(INTERACTIVE[shell], environment)
    try:
        terminal.type(f"source {tmp_path}/completion; echo so''urced\n")
        terminal.until("sourced")
        terminal.type("ocelotctl status wor\t")
        terminal.until("ker")
        terminal.type("\n")
        terminal.until("started with pid")
        assert b"worker" in terminal.shown
        assert b"web" not in terminal.shown
    finally:
        terminal.close()
