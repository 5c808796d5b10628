"""The doors: ``ocelot`` under its other names, its exit statuses, its help, and its colours."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.test_logs import on_terminal
from ocelot import cli, ctl

CHECKOUT = Path(__file__).parents[1]
OCELOT = [sys.executable, "-m", "ocelot"]
NAMESPACE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]


def run(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False, cwd=CHECKOUT, **more
    )


# -- under other names -----------------------------------------------------------------------------


@pytest.fixture
def called(tmp_path: Path):
    """The path of ocelot's program under another name."""

    def program(name: str) -> Path:
        path = tmp_path / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
            "from ocelot.cli import main\nsys.exit(main())\n"
        )
        path.chmod(0o755)
        return path

    return program


def test_called_as_tini_it_is_entry(called) -> None:
    assert run(called("tini"), "--", "sh", "-c", "exit 7").returncode == 7
    assert run(called("tini"), "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert run(called("tini"), "-e", "3", "--", "sh", "-c", "exit 3").returncode == 0


def test_called_as_pause_it_is_idle(called) -> None:
    with subprocess.Popen([called("pause")], stdin=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) & 1 << (signal.SIGTERM - 1):
            assert process.poll() is None
        process.terminate()
        assert process.wait(20) == 0


def test_called_as_init_it_is_bootstrap(called) -> None:
    """Which refuses here: this is no machine that is to be booted."""
    as_init, as_ocelot = run(called("init")), run(called("ocelot"), "bootstrap", "run")
    assert (as_init.returncode, as_init.stderr) == (as_ocelot.returncode, as_ocelot.stderr)
    assert as_init.returncode == 1
    assert "PID 1" in as_init.stderr


def test_without_a_command_and_with_a_mistyped_one_it_says_what_to_do() -> None:
    assert "ocelot --help lists the commands" in run(*OCELOT).stderr
    assert 'did you mean "supervise"?' in run(*OCELOT, "supervize", "x").stderr
    for words in ("bootstrap valdate x", "boot valdate", "supervise valdate x"):
        assert 'did you mean "validate"?' in run(*OCELOT, *words.split()).stderr


# -- what it ends with -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("version", 0),
        ("--version", 0),
        ("", 2),
        ("bootstrp", 2),
        ("bootstrap validate", 2),
        ("bootstrap valdate x", 2),
        ("bootstrap validate --outptu json x", 2),
        ("bootstrap validate /no/such/file", 1),
        ("bootstrap validate --output json /no/such/file", 1),
        ("bootstrap plan /no/such/file", 1),
        ("supervise /no/such/file", 1),
        ("supervise a -f b", 2),
        ("man nothing.1", 2),
        ("entry", 2),
        ("entry -- /no/such/program", 127),
        ("completions tcsh", 2),
        ("initramfs", 2),
        ("initramfs inspect /dev/null", 1),
        ("runtime bild", 2),
        ("zombie -n many", 2),
        ("reexec", 2),
        ("reexec --restore 5", 2),
        ("reexec --back 1", 2),
        ("reexec --back 99999999999999999999", 2),
    ],
)
def test_the_exit_status(arguments: str, status: int) -> None:
    done = run(*OCELOT, *arguments.split())
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stderr == "") == (status == 0 or "--output json" in arguments)


@pytest.mark.parametrize("arguments", ["supervise schema", "completions fish"])
def test_a_reader_that_has_gone_is_no_news(arguments: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*OCELOT, *arguments.split()], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False, cwd=CHECKOUT
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("arguments", ["completions bash", "monitoring dashboard", "man ocelot.1", "supervise schema"])
def test_a_closed_standard_output_is_none(arguments: str) -> None:
    done = run("sh", "-c", 'exec "$@" >&-', "sh", *OCELOT, *arguments.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_a_foreign_package_of_the_same_name_is_named(tmp_path: Path) -> None:
    """PyPI's Supervisor, found before our own."""
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor/__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    done = run(sys.executable, "-P", "-c", "from ocelot.cli import main; exit(main(['version']))", env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert f'the package "supervisor" in {tmp_path} is not ocelot\'s' in done.stderr
    assert len(done.stderr.splitlines()) == 2, "the error, and a hint"


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


@pytest.mark.parametrize("words", list(commands(cli.parser(images=True), ("ocelot",))), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[1:], "--help"])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.err) == (0, "")
    program = " ".join("bootstrap" if word == "boot" and words[2:] else word for word in words)
    assert shown.out.startswith(f"usage: {program}")


@pytest.mark.parametrize("parser", [cli.parser(images=True), ctl.parser()], ids=["ocelot", "ocelotctl"])
def test_every_argument_is_explained(parser: argparse.ArgumentParser) -> None:
    def missing(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from missing(below)
            elif not action.help:
                yield f"{parser.prog}: {action.option_strings or action.dest}"

    assert list(missing(parser)) == []


# -- colours ---------------------------------------------------------------------------------------


def test_colours_are_for_terminals_and_only_for_those_who_want_them(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("consle: x\n")
    command = [*OCELOT, "bootstrap", "validate", str(tmp_path / "f.yaml")]
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    assert b"\x1b[31merror" in on_terminal(command, {**environment, "TERM": "xterm"})
    for refused in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = on_terminal(command, {**environment, **refused})
        assert b"unknown key" in shown
        assert b"\x1b" not in shown
    assert "\x1b" not in run(*command, env={**environment, "TERM": "xterm"}).stderr


# -- zombies ---------------------------------------------------------------------------------------

BAD_INIT = """\
import json, subprocess, sys, time
ocelot = [sys.executable, "-m", "ocelot"]
print(subprocess.run([*ocelot, "zombie", "-n", "5", "--orphans"], check=True, capture_output=True, text=True).stdout)
print(subprocess.run([*ocelot, "zombie-finder", "--json"], capture_output=True, text=True).stdout)
"""

GOOD_INIT = """\
"$0" -m ocelot zombie -n 5 --orphans || exit 2
until "$0" -m ocelot zombie-finder; do :; done
"""


@pytest.mark.root
def test_orphans_become_zombies_under_an_init_that_does_not_reap() -> None:
    done = run(*NAMESPACE, sys.executable, "-c", BAD_INIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"parent":1,') == 5, done.stdout


@pytest.mark.root
def test_orphans_are_gone_under_ocelot() -> None:
    done = run(*NAMESPACE, *OCELOT, "entry", "--", "sh", "-c", GOOD_INIT, sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left 5 orphans" in done.stdout
    assert "there are no zombies" in done.stdout
