"""Which program a reexec starts, and what it makes of the words of one that refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocelot.errors import ControlError
from ocelot.life.reexec import as_started, gist, in_folder


def runtime(folder: Path, shebang: str = "#!{}/bin/python3 -ISB\n") -> str:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/ocelot").write_text(shebang.format(folder) + "print('hello')\n")
    (folder / "bin/python3").write_text("")
    (folder / "bin/python3").chmod(0o755)
    return str(folder)


def test_a_folder_is_started_as_its_script_says(tmp_path: Path) -> None:
    folder = runtime(tmp_path / "new")
    assert in_folder(folder).argv == (f"{folder}/bin/python3", "-ISB", f"{folder}/bin/ocelot")
    assert str(in_folder(folder)) == f"{folder}/bin/ocelot"


@pytest.mark.parametrize(
    ("shebang", "says"),
    [
        ("#!/nowhere/bin/python3\n", "cannot be executed"),
        ("\x7fELF\n", "cannot be executed"),
        ("", "cannot be executed"),
        ("#!/bin/sh\n", "it was built for /"),
    ],
)
def test_a_folder_that_is_no_runtime_or_lies_elsewhere(tmp_path: Path, shebang: str, says: str) -> None:
    folder = runtime(tmp_path / "new", shebang)
    with pytest.raises(ControlError, match=says) as caught:
        in_folder(folder)
    assert caught.value.status == 400


@pytest.mark.parametrize("folder", ["relative", "/nowhere/at/all", ""])
def test_a_folder_that_is_not_there(folder: str) -> None:
    with pytest.raises(ControlError, match="cannot use the runtime"):
        in_folder(folder)


def test_how_it_was_started_is_how_it_is_started_again(tmp_path: Path) -> None:
    python = f"{tmp_path}/bin/python3"
    module = [python, "-X", "dev", "-m", "ocelot"]
    for words in (["supervise", "file"], ["reexec", "--restore", "7"]):
        image = as_started(python, [*module, *words], ["/x/ocelot/__main__.py", *words], machine=False)
        assert image.argv == (python, "-X", "dev", "-m", "ocelot")
    script = as_started(
        python, [python, "/home/me/ocelot", "supervise"], ["/home/me/ocelot", "supervise"], machine=False
    )
    assert script.argv == (python, "/home/me/ocelot")


def test_the_program_beside_the_interpreter_goes_first(tmp_path: Path) -> None:
    folder = runtime(tmp_path / "runtime")
    python = f"{folder}/bin/python3"
    image = as_started(python, [python, "-ISB", "/usr/bin/tini", "x"], ["/usr/bin/tini", "x"], machine=False)
    assert image == in_folder(folder)


def test_a_machine_never_asks_its_own_init_again(tmp_path: Path) -> None:
    folder = runtime(tmp_path / "runtime")
    python = f"{folder}/bin/python3"
    assert as_started(python, [python, "-ISB", "/init"], ["/init"], machine=True) == in_folder(folder)
    with pytest.raises(ControlError):
        as_started("/x/bin/python3", ["/x/bin/python3", "/init"], ["/init"], machine=True)


@pytest.mark.parametrize(
    ("said", "gist_of_it"),
    [
        ("", ""),
        ("ocelot: cannot take over: no\n  hint: reboot\n", "cannot take over: no"),
        ("Traceback (most recent call last):\n  File x\nImportError: no module\n", "ImportError: no module"),
    ],
)
def test_the_gist_of_a_refusal(said: str, gist_of_it: str) -> None:
    assert gist(said) == gist_of_it
