"""The completion scripts in the shells they are for, with process names from a running ocelot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
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
    file.write_text(script(shell))
    driver = tmp_path / "driver"
    driver.write_text({"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell])
    environment = {**machine.environment, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for line, expected in CASES:
        arguments = [shell, *(["-f"] if shell == "zsh" else []), str(driver), str(file), line]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (set(done.stdout.split()), done.stderr) == (expected, ""), line
