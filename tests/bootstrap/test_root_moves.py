"""Which mount goes where at the switch, from tables as the kernel prints them."""

from __future__ import annotations

from bootstrap.root_moves import Move, in_use_by, plan_moves, split_layers
from ocelot.linux.mountinfo import MountInfo, parse


def table(*mounts: tuple[int, int, str], fstype: str = "tmpfs") -> tuple[MountInfo, ...]:
    lines = [f"{number} {parent} 0:{number} / {target} rw - {fstype} none rw" for number, parent, target in mounts]
    return parse("1 1 0:2 / / rw - rootfs none rw\n" + "\n".join(lines))


API = ((2, 1, "/proc"), (3, 1, "/sys"), (4, 1, "/dev"), (5, 1, "/run"), (6, 1, "/tmp"), (7, 1, "/sysroot"))


def test_the_kernels_own_go_over_with_run_first_and_proc_last() -> None:
    moves = plan_moves(table(*API, (8, 3, "/sys/fs/cgroup"), (9, 4, "/dev/pts")), "/sysroot", ())
    assert [move.source for move in moves] == ["/run", "/tmp", "/dev", "/sys", "/proc"]
    assert all(move.needed and move.source == move.target for move in moves)


def test_what_is_not_mounted_is_not_moved() -> None:
    moves = plan_moves(table((2, 1, "/proc"), (7, 1, "/sysroot")), "/sysroot", ())
    assert moves == (Move("/proc", "/proc", True),)


def test_others_keep_their_path_and_take_along_what_lies_on_them() -> None:
    moves = plan_moves(table(*API, (8, 1, "/data"), (9, 8, "/data/inner"), (10, 7, "/sysroot/usr")), "/sysroot", ())
    assert [move for move in moves if move.source not in ("/run", "/tmp", "/dev", "/sys", "/proc")] == [
        Move("/data", "/data", False)
    ]


def test_a_mount_that_carries_a_layer_goes_below_run() -> None:
    moves = plan_moves(table(*API, (8, 1, "/disk"), (9, 1, "/diskette")), "/sysroot", ("/disk/lower",))
    assert Move("/disk", "/run/ocelot/mounts/disk", False, below_run=True) in moves
    assert Move("/diskette", "/diskette", False) in moves


def test_the_layers_of_overlays_are_found() -> None:
    line = (
        "8 1 0:30 / /sysroot rw - overlay overlay "
        "rw,lowerdir=/a:/b\\134:c,upperdir=/disk/upper,workdir=/disk/work,index=off"
    )
    assert in_use_by(parse(line)) == ("/a", "/b:c", "/disk/upper", "/disk/work")


def test_new_kernels_name_each_layer_apart() -> None:
    line = "8 1 0:30 / /sysroot rw - overlay overlay rw,lowerdir+=/a,lowerdir+=/b,datadir+=/c,upperdir=/u"
    assert in_use_by(parse(line)) == ("/a", "/b", "/c", "/u")


def test_colons_within_a_name_do_not_separate() -> None:
    assert split_layers("/a\\:b:/c::/d") == ["/a:b", "/c", "/d"]
