"""Files, folders, links and pipes in the manner of tmpfiles.d(5), within a root and nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.tmpfiles import device_number, make
from ocelot.config.structs import Tmpfile
from ocelot.errors import OcelotError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def tight_umask() -> Iterator[None]:
    """Modes are those of the file, whatever the umask says."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def create(root: Path, path: str, **keys: Any) -> list[str]:
    said: list[str] = []
    make(Tmpfile(path=path, **keys), str(root), warn=said.append)
    return said


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_gets_content_mode_and_folders(root: Path) -> None:
    create(root, "/a/b/file", content="text\n", mode=0o640)
    assert (root / "a/b/file").read_text() == "text\n"
    assert mode(root / "a/b/file") == 0o640


def test_defaults_are_those_of_tmpfiles(root: Path) -> None:
    create(root, "/file")
    create(root, "/folder", type="d")
    assert (mode(root / "file"), mode(root / "folder")) == (0o644, 0o755)


def test_an_existing_file_keeps_its_content_but_for_capital_f(root: Path) -> None:
    (root / "file").write_text("old and long")
    create(root, "/file", content="new")
    assert (root / "file").read_text() == "old and long"
    create(root, "/file", type="F", content="new")
    assert (root / "file").read_text() == "new"


def test_an_existing_entry_keeps_its_mode_unless_one_is_given(root: Path) -> None:
    (root / "file").write_text("")
    (root / "file").chmod(0o600)
    create(root, "/file")
    assert mode(root / "file") == 0o600
    create(root, "/file", mode=0o4755)
    assert mode(root / "file") == 0o4755


def test_folders_links_and_pipes_are_made_once_and_again(root: Path) -> None:
    for _ in range(2):
        create(root, "/folder", type="d", mode=0o1777)
        create(root, "/link", type="L", target="folder")
        create(root, "/pipe", type="p", mode=0o622)
    assert mode(root / "folder") == 0o1777
    assert os.readlink(root / "link") == "folder"
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)
    assert mode(root / "pipe") == 0o622


def test_another_link_is_left_with_a_warning(root: Path) -> None:
    (root / "link").symlink_to("old")
    [warning] = create(root, "/link", type="L", target="new")
    assert 'it points to "old"' in warning
    assert os.readlink(root / "link") == "old"


@pytest.mark.parametrize("kind", ["f", "F", "p", "L"])
def test_something_of_another_kind_in_the_way_is_an_error(kind: Any, root: Path) -> None:
    (root / "there").mkdir()
    with pytest.raises(OcelotError, match="something of another kind is in the way"):
        create(root, "/there", type=kind, target="x")


def test_an_absolute_link_in_the_tree_stays_within_the_root(root: Path, tmp_path: Path) -> None:
    (root / "var").symlink_to(tmp_path)  # leads out of the root, were it followed from outside
    (root / tmp_path.relative_to("/")).mkdir(parents=True)
    create(root, "/var/file", content="x")
    assert not (tmp_path / "file").exists()
    assert (root / tmp_path.relative_to("/") / "file").read_text() == "x"


def test_dots_do_not_lead_out_of_the_root(root: Path, tmp_path: Path) -> None:
    (root / "up").symlink_to("../../..")
    create(root, "/../../escaped")
    create(root, "/up/escaped-too")
    assert not (tmp_path / "escaped").exists()
    assert sorted(os.listdir(root)) == ["escaped", "escaped-too", "up"]


def test_a_link_at_the_end_is_never_written_through(root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (root / "file").symlink_to(tmp_path / "precious")
    with pytest.raises(OcelotError, match="something of another kind"):
        create(root, "/file", type="F", content="gone", mode=0o666)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("kind", ["f", "F"])
def test_another_name_of_a_file_in_a_folder_of_everybody_is_left_alone(kind: Any, root: Path) -> None:
    """Whoever may write there may have linked any file to it, and would get it with the mode and the owner that are asked for."""
    (root / "shadow").write_text("secret")
    (root / "shadow").chmod(0o600)
    (root / "open").mkdir()
    (root / "open" / "file").hardlink_to(root / "shadow")
    create(root, "/open/file", type="f", mode=0o640)
    (root / "open").chmod(0o777)
    with pytest.raises(OcelotError, match="has other names too"):
        create(root, "/open/file", type=kind, content="new", mode=0o644)
    assert (root / "shadow").read_text() == "secret"
    assert mode(root / "shadow") == 0o640


def test_a_parent_that_is_a_dangling_link_is_named(root: Path) -> None:
    (root / "var").symlink_to("/nowhere")
    with pytest.raises(OcelotError, match='cannot use "/var": it is not a folder, or a link that leads nowhere'):
        create(root, "/var/file")


def test_owners_are_looked_up_in_the_root(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(f"me:x:{os.getuid()}:{os.getgid()}::/:\n")
    (root / "etc/group").write_text(f"us:x:{os.getgid()}:\n")
    create(root, "/file", owner="me", group="us")
    assert (root / "file").stat().st_uid == os.getuid()
    with pytest.raises(OcelotError, match='cannot find the user "someone-else"'):
        create(root, "/other", owner="someone-else")
    assert not (root / "other").exists()


def test_the_root_itself_cannot_be_made(root: Path) -> None:
    with pytest.raises(OcelotError, match="it is the root itself"):
        create(root, "/", type="d")


def test_device_numbers_are_read_from_the_target() -> None:
    assert device_number(Tmpfile(path="/dev/x", type="c", target="10:200")) == os.makedev(10, 200)
    with pytest.raises(OcelotError, match='"tun" is not a device number'):
        device_number(Tmpfile(path="/dev/x", type="c", target="tun"))
