"""The mount table as records."""

from pathlib import Path

import pytest

from ocelot.linux import mountinfo
from ocelot.linux.mountinfo import MountInfo, mounts, parse

TABLE = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec - proc proc rw
24 22 0:22 / /mnt/with\\040space\\011and\\134 rw shared:2 master:1 unbindable - tmpfs none ro,size=1k
25 24 0:23 /part /mnt/with\\040space\\011and\\134/sub rw - tmpfs a\\040b rw
26 22 0:24 / /proc rw - proc again rw
27 22 0:25 / /mn rw - tmpfs x rw
"""


def test_optional_fields_may_be_none_or_many() -> None:
    table = parse(TABLE)
    assert table[0].propagation == ("shared:1",)
    assert table[1].propagation == ()
    assert table[2].propagation == ("shared:2", "master:1", "unbindable")


def test_a_line_becomes_a_record() -> None:
    assert parse(TABLE)[0] == MountInfo(
        id=22,
        parent=1,
        device=(254, 1),
        root="/",
        target="/",
        options=("rw", "relatime"),
        propagation=("shared:1",),
        fstype="ext4",
        source="/dev/vda1",
        super_options=("rw", "errors=remount-ro"),
    )


def test_escapes_are_undone() -> None:
    table = parse(TABLE)
    assert table[2].target == "/mnt/with space\tand\\"
    assert (table[3].root, table[3].source) == ("/part", "a b")


@pytest.mark.parametrize("letter", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_only_a_newline_ends_a_line(letter: str, tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_bytes(f"1 0 8:1 / /a{letter}b rw - ext4 /dev/vda rw\n2 1 0:5 / /run rw - tmpfs none rw\n".encode())
    assert [mount.target for mount in mounts(str(path))] == [f"/a{letter}b", "/run"]


def test_a_file_system_may_be_read_only_where_its_mount_is_not() -> None:
    table = parse(TABLE)
    assert [mount.read_only for mount in table[:3]] == [False, False, True]


def test_the_topmost_of_several_mounts_is_the_one_at_a_path() -> None:
    table = parse(TABLE)
    found = mountinfo.mount_at("/proc/", table)
    assert found is not None
    assert found.source == "again"
    assert mountinfo.mount_at("/etc", table) is None


@pytest.mark.parametrize(
    ("path", "number"),
    [("/etc/passwd", 22), ("/proc/self", 26), ("/mnt/with space\tand\\/sub/x", 25), ("/mnt", 22), ("/mn/x", 27)],
)
def test_the_mount_of_a_path_is_the_nearest_above_it(path: str, number: int) -> None:
    found = mountinfo.mount_of(path, parse(TABLE))
    assert found is not None
    assert found.id == number


def test_parents_come_before_children_whatever_the_order_of_the_table() -> None:
    table = parse(TABLE)
    for shuffled in (table, tuple(reversed(table))):
        found = mountinfo.below("/", shuffled)
        place = {mount.id: index for index, mount in enumerate(found)}
        assert len(found) == len(table)
        assert all(place[mount.parent] < place[mount.id] for mount in found if mount.parent in place)


def test_a_name_that_begins_alike_is_not_below() -> None:
    assert [mount.id for mount in mountinfo.below("/mn", parse(TABLE))] == [27]


@pytest.mark.parametrize("line", ["", "22 1 254:1 / /"])
def test_a_malformed_line_is_refused_and_an_empty_table_is_not(line: str) -> None:
    if line:
        with pytest.raises(ValueError, match="malformed mountinfo line"):
            parse(line)
    else:
        assert parse(line) == ()


def test_our_own_table_is_read() -> None:
    assert mountinfo.mount_at("/", mountinfo.mounts()) is not None
