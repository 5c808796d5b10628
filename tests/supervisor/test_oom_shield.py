"""Who the kernel spares when memory runs out: us, and not our children. A file stands for that of /proc."""

import os

from supervisor.children.oom_shield import Shield


def test_we_are_spared_but_for_the_moment_of_a_fork(tmp_path):
    path = tmp_path / "oom_score_adj"
    path.write_text("  200\n")
    shield = Shield.take(path=str(path))
    assert shield.inherited == 200
    assert read(path) == -1000
    with shield.down():
        assert read(path) == 200
    assert read(path) == -1000


def test_another_image_knows_what_children_are_to_have(tmp_path):
    path = tmp_path / "oom_score_adj"
    path.write_text("-1000")
    shield = Shield.take(-17, path=str(path))
    with shield.down():
        assert read(path) == -17
    shield.drop()
    assert read(path) == -17


def test_where_it_is_not_allowed_nothing_happens(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    assert Shield.take(path=str(tmp_path / "missing")) is None
    (tmp_path / "garbage").write_text("none")
    assert Shield.take(path=str(tmp_path / "garbage")) is None
    assert len(os.listdir("/proc/self/fd")) == before


def read(path):
    """The number at the beginning: what was longer before stays behind it in a plain file."""
    digits = path.read_text().split()[0]
    return int(digits[:5] if digits.startswith("-1000") else digits[:3])
