"""``ocelotctl reexec`` when it cannot be: images that do not understand, fail or are none, and the one before goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.desk import SLEEPER, Desk, desk
from integration.reexecs import by_name, reexec
from ocelot import __version__

CHECKOUT = Path(__file__).parent.parent


def image(folder: Path, code: str) -> Path:
    """A runtime that is this one, with something different about it: ``code`` runs first."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "python3").symlink_to(sys.executable)
    path = [str(CHECKOUT), *sys.path]
    script = f"#!{programs}/python3\nimport sys\nsys.path[:] = {path!r}\n{code}\n"
    (programs / "ocelot").write_text(f"{script}from ocelot.cli import main\nsys.exit(main())\n")
    return folder


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, {"sleeper": SLEEPER}) as found:
        yield found


def test_a_runtime_of_its_own(running: Desk, tmp_path: Path) -> None:
    folder = image(tmp_path / "newer", "import ocelot; ocelot.__version__ = '9.9'")
    assert reexec(running, "--runtime", str(folder))["version"] == "9.9"
    assert reexec(running)["version"] == "9.9", "from now on that is what runs"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "import supervisor.snapshots; supervisor.snapshots.VERSION += 1",
            "the state has version 1, ocelot 0.1.0 reads 2",
        ),
        ("raise SystemExit('broken')", "broken"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("raise SystemExit", "it did not say that it is ocelot"),
        ("print('usage: another program of that name'); raise SystemExit", "it did not say that it is ocelot"),
    ],
)
def test_an_image_that_does_not_understand_is_refused(running: Desk, tmp_path: Path, code: str, says: str) -> None:
    before = running.json("status")
    done = running.ctl("reexec", "--runtime", str(image(tmp_path / "other", code)))
    assert done.returncode == 1
    assert says in done.stderr
    after = running.json("status")
    assert [each["pid"] for each in after["processes"]] == [each["pid"] for each in before["processes"]]
    assert reexec(running)["turn"] == 1


def test_an_image_that_fails_to_take_over_gives_everything_back(running: Desk, tmp_path: Path) -> None:
    code = """
if "--restore" in sys.argv:
    import ocelot.resume
    def restore(life, kept):
        original(life, kept)
        raise RuntimeError("a bug of the new one")
    original, ocelot.resume.restore = ocelot.resume.restore, restore
"""
    before = by_name(running.json("status"))
    done = running.ctl("reexec", "--runtime", str(image(tmp_path / "other", code)))
    assert done.returncode == 1
    assert "the other image failed, and the one before goes on" in done.stderr
    assert "a bug of the new one" in running.log.read_text()
    assert by_name(running.json("status"))["sleeper"]["pid"] == before["sleeper"]["pid"]
    reply = reexec(running)
    assert (reply["turn"], reply["version"]) == (1, __version__)


@pytest.mark.parametrize(
    ("runtime", "says"),
    [("relative", "No such file"), ("/nowhere/at/all", "no such file or directory"), ("/usr", "")],
)
def test_what_is_no_runtime_is_refused(running: Desk, runtime: str, says: str) -> None:
    done = running.ctl("reexec", "--runtime", runtime)
    assert done.returncode == 1
    assert "cannot use the runtime" in done.stderr
    assert says.lower() in done.stderr.lower()


def test_a_hidden_command_is_not_for_people() -> None:
    for arguments in (["--check"], ["--restore", "x"], []):
        command = [sys.executable, "-m", "ocelot", "reexec", *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert done.returncode != 0
        assert "ocelotctl reexec" in done.stderr
