"""The manual pages in the formatters that people have, and in the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ocelot.cli import trees
from ocelot.manual import install


@pytest.mark.parametrize(
    "command", [["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings", "-E", "UTF-8", "-l"]]
)
def test_formatters_have_nothing_to_complain_about(tmp_path: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for path in install(str(tmp_path), trees()):
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        complaints = done.stdout if command[0] == "mandoc" else done.stderr
        assert (done.returncode, complaints) == (0, ""), path


def test_the_wheel_has_them_where_man_looks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        pages = [name.partition(".data/data/")[2] for name in archive.namelist() if "/share/man/" in name]
    assert sorted(pages) == [
        "share/man/man1/ocelot.1",
        "share/man/man1/ocelotctl.1",
        "share/man/man5/ocelot-bootstrap.5",
    ]
