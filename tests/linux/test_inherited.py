"""What a child gets of what was given to us."""

from __future__ import annotations

import pytest

from ocelot.linux.inherited import DEFAULT_PATH, TOOLS, Inherited


@pytest.mark.parametrize("given", [{}, {"PATH": ""}], ids=["none", "empty"])
def test_where_the_kernel_gives_no_path_there_is_the_usual_one(given: dict[str, str]) -> None:
    """Linux starts init with HOME and TERM only."""
    child = Inherited(environment={"HOME": "/", "TERM": "linux", **given}).child_environment()
    assert child == {"HOME": "/", "TERM": "linux", "PATH": f"{DEFAULT_PATH}:{TOOLS}"}


def test_a_later_layer_wins_and_our_tools_come_last_and_once() -> None:
    inherited = Inherited(environment={"PATH": "/bin", "A": "1"})
    assert inherited.child_environment({"A": "2"}, {"PATH": "/opt"}) == {"A": "2", "PATH": f"/opt:{TOOLS}"}
    assert inherited.child_environment({"PATH": f"/opt:{TOOLS}"})["PATH"] == f"/opt:{TOOLS}"
