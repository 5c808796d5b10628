"""Links are made, left alone or replaced atomically, and nothing else is ever replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootstrap.symlinks import place
from ocelot.errors import OcelotError


def test_makes_a_link_and_its_folders(tmp_path: Path) -> None:
    assert place("../target", str(tmp_path / "a/b/link")) is True
    assert os.readlink(tmp_path / "a/b/link") == "../target"


def test_a_slash_at_the_end_names_the_link_itself(tmp_path: Path) -> None:
    assert place("first", f"{tmp_path}/link/")
    assert place("second", f"{tmp_path}/link//")
    assert os.readlink(tmp_path / "link") == "second"
    assert os.listdir(tmp_path) == ["link"]


def test_leaves_the_right_link_alone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    before = (tmp_path / "link").lstat()
    assert place("target", str(tmp_path / "link")) is False
    assert (tmp_path / "link").lstat().st_ino == before.st_ino


def test_replaces_another_link_even_one_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert place("elsewhere", str(tmp_path / "link")) is True
    assert os.readlink(tmp_path / "link") == "elsewhere"
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]
    assert os.listdir(tmp_path / "folder") == []


def test_a_link_left_half_made_by_an_earlier_boot_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("old")
    (tmp_path / f"link.ocelot-{os.getpid()}").symlink_to("older")
    place("new", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_else_in_the_way_is_an_error_and_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.mkdir() if kind == "folder" else path.write_text("precious")
    with pytest.raises(OcelotError, match=f"a {kind} is in the way"):
        place("target", str(path))
    assert not path.is_symlink()
