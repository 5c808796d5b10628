"""The commands of the README, as somebody would type them one after the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from integration.bench import picture, readme
from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.config import templates
from tests.test_readme import README, typed

ENDLESS = ("logs -f", "events -f", "attach", "top", "shell")
"""They go on until somebody ends them; what they show is tested elsewhere."""
WEB: dict[str, Any] = {
    "program": "/bin/sh",
    "arguments": ["-c", "trap : HUP; echo up; while :; do sleep 0.05; done"],
    "replicas": 2,
    "reloadSignal": "HUP",
}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Desk]:
    log = {"stdout": {"destination": {"type": "file", "path": str(tmp_path / "db.log")}}}
    with desk(tmp_path, {"web": WEB, "db": {**SLEEPER, "log": log}}) as running:
        yield running


def test_every_command_of_ocelotctl_does_what_is_asked(machine: Desk, tmp_path: Path) -> None:
    lines = [line.split()[1:] for line in typed() if line.startswith("ocelotctl")]
    tried = set()
    for words in lines:
        text = " ".join(words)
        if text.startswith(ENDLESS) or "poweroff" in words or (words[0] == "stop" and len(words) == 1):
            continue
        if "--svg" in words:
            words[-1] = str(tmp_path / f"{words[0]}.svg")
        if "--runtime" in words:
            continue  # takes a while to build: in test_reexec and test_runtime
        if words[0] == "exec":
            words[1] = "web[0]"
        done = machine.ctl(*words, timeout=60)
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        if words[0] == "stop":
            machine.ctl("start", "web")
        tried.add(words[0])
    assert len(tried) >= 12, tried
    assert (tmp_path / "graph.svg").read_text().startswith("<svg")
    assert len(machine.processes()) == 1 + 1  # the last of them scales web to 1
    assert machine.ctl("reload").returncode == 0
    assert len(machine.processes()) == 2 + 1  # as the file has it
    assert machine.ctl("poweroff").returncode == 0
    assert machine.process.wait(PATIENCE) == 0


def ocelot(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ocelot", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_what_a_desk_begins_with(tmp_path: Path) -> None:
    """A template into a file; that file holds; a schema, pages, a dashboard and rules are printed."""
    printed = ocelot("supervise", "config-template")
    assert printed.stdout == templates.text("supervise", "supervise")
    (tmp_path / "supervise.yaml").write_text(printed.stdout)
    assert ocelot("supervise", "validate", str(tmp_path / "supervise.yaml")).returncode == 0
    for words in (
        ("supervise", "schema"),
        ("monitoring", "dashboard"),
        ("monitoring", "alerts"),
        ("man", "ocelotctl.1"),
    ):
        assert len(ocelot(*words).stdout) > 1000, words


def test_the_table_of_the_benchmark_and_its_picture_are_of_one_run() -> None:
    told = readme.shown(README.read_text())
    texts = [each.text for each in ElementTree.parse(README.parent / readme.PICTURE).iter() if each.text]
    for what, title in picture.PANELS.items():
        drawn = texts[texts.index(title) + 2]  # after the title, and the name of the first bar
        assert told[readme.ROWS[what].partition(" (")[0]] == drawn, title
