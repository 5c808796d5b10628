"""What is said to a user who may not make namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.trial_stage import how_to_allow


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        (
            "apparmor_restrict_unprivileged_userns",
            1,
            "let root allow it: sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("unprivileged_userns_clone", 0, "let root allow it: sysctl kernel.unprivileged_userns_clone=1"),
        ("apparmor_restrict_unprivileged_userns", 0, "allow unprivileged user namespaces"),
        ("unprivileged_userns_clone", 1, "allow unprivileged user namespaces"),
        ("something_else", 1, "allow unprivileged user namespaces"),
    ],
)
def test_the_switch_that_forbids_it_is_named(tmp_path: Path, setting: str, value: int, hint: str) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / setting).write_text(f"{value}\n")
    assert how_to_allow(str(tmp_path)) == hint
