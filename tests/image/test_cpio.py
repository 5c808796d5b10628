"""The archive: what is written is read back, in an order that the kernel can unpack."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocelot.errors import OcelotError
from ocelot.image import cpio

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..", "TRAILER!!!")
)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
leaves = st.one_of(
    st.builds(cpio.file, paths, st.binary(max_size=300), st.sampled_from([0o644, 0o755])),
    st.builds(cpio.link, paths, names),
    st.builds(cpio.character_device, paths, st.integers(0, 255), st.integers(0, 255)),
)


def arranged_or_rejected(entries: list[cpio.Entry]) -> tuple[cpio.Entry, ...]:
    """Arranged; an example that puts a file below another file is not one of ours."""
    files = {entry.path for entry in entries}
    assume(not any(entry.path.startswith(f"{path}/") for entry in entries for path in files))
    return cpio.arrange(entries)


@given(st.lists(leaves, max_size=8, unique_by=lambda entry: entry.path))
def test_what_is_written_is_read_back(entries: list[cpio.Entry]) -> None:
    arranged = arranged_or_rejected(entries)
    archive = b"".join(cpio.write(arranged))
    assert cpio.read(archive) == (arranged, len(archive))
    assert len(archive) % 4 == 0


@given(st.lists(leaves, max_size=8, unique_by=lambda entry: entry.path))
def test_a_folder_comes_before_what_is_in_it(entries: list[cpio.Entry]) -> None:
    arranged = arranged_or_rejected(entries)
    seen = {""}
    for entry in arranged:
        assert os.path.dirname(entry.path) in seen
        seen.add(entry.path)


def test_order_of_input_does_not_show() -> None:
    entries = [cpio.file("b", b"2"), cpio.file("a/x", b"1"), cpio.folder("a"), cpio.link("a-b", "b")]
    assert cpio.arrange(entries) == cpio.arrange(reversed(entries))


def test_one_path_with_two_contents_is_refused() -> None:
    with pytest.raises(OcelotError, match=r'"/etc/x" into the archive twice'):
        cpio.arrange([cpio.file("etc/x", b"1"), cpio.file("/etc/x", b"2")])


@pytest.mark.parametrize("path", ["", "/", "a/../b", "./a", "a//b"])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(OcelotError, match="plain path"):
        cpio.arrange([cpio.file(path, b"")])


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(OcelotError, match='"/a" is not a folder'):
        cpio.arrange([cpio.file("a", b""), cpio.file("a/b", b"")])


@pytest.mark.parametrize("cut", [0, 50, 110, 112, 200])
def test_a_damaged_archive_is_an_error(cut: int) -> None:
    archive = b"".join(cpio.write([cpio.file("name", b"x" * 200)]))
    with pytest.raises(OcelotError, match="cannot read the archive"):
        cpio.read(archive[:cut])


def test_a_device_carries_its_numbers() -> None:
    archive = b"".join(cpio.write([cpio.character_device("console", 5, 1)]))
    (entry,), _ = cpio.read(archive)
    assert stat.S_ISCHR(entry.mode)
    assert entry.device == (5, 1)


def test_the_mode_of_a_taken_file_is_executable_or_not(tmp_path: Path) -> None:
    for name, mode in (("odd", 0o640), ("program", 0o750)):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(mode)
    taken = {entry.path: stat.S_IMODE(entry.mode) for entry in cpio.take_folder(str(tmp_path), "d")}
    assert taken == {"d": 0o755, "d/odd": 0o644, "d/program": 0o755}


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 2**32)
    with pytest.raises(
        OcelotError, match=r'cannot take ".*/large" in: it has 4294967296 bytes, and the format ends at'
    ):
        list(cpio.take(str(large), "large"))
    with pytest.raises(OcelotError, match=r'cannot take "/proc/self/mem" in: Input/output error'):
        list(cpio.take("/proc/self/mem", "mem"))
