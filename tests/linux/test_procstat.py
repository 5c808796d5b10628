"""The first fields of /proc/PID/stat."""

from pathlib import Path

import pytest

from ocelot.linux.procstat import ProcStat, procstat


def test_a_name_may_hold_anything() -> None:
    found = ProcStat(b"4242 (a ) Z 1 (b) S 7 4240 4200 34816 4242 4194304 1")
    assert (found.name, found.state, found.parent, found.group, found.session) == (b"a ) Z 1 (b", "S", 7, 4240, 4200)


@pytest.mark.parametrize("text", [None, b"", b"12 (sh", b"12 (sh) S 1", b"12 (sh) S x y z 0"])
def test_what_is_not_there_or_no_such_line_is_none(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "12").mkdir()
        (tmp_path / "12" / "stat").write_bytes(text)
    assert procstat(12, str(tmp_path)) is None
