"""Which input devices have a power key, and when it was pressed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bootstrap import power_button

EVENT = struct.Struct("llHHi")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ("10000000000000 0", True),  # an ACPI power button
        ("1000000000000000 0", False),  # bit 124
        ("402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe", True),  # a keyboard with a power key
        ("0", False),
        ("", False),
        ("x y", False),
    ],
)
def test_the_key_bitmap(capabilities: str, expected: bool) -> None:
    assert power_button.has_power_key(capabilities) is expected


def test_only_the_key_going_down_counts() -> None:
    key, syn = 1, 0
    data = b"".join(
        EVENT.pack(0, 0, *event)
        for event in [(key, 116, 1), (syn, 0, 0), (key, 116, 0), (key, 30, 1), (key, 116, 2), (syn, 0, 0)]
    )
    assert power_button.presses(data) == 1
    assert power_button.presses(data * 2) == 2
    assert power_button.presses(data[:10]) == 0


def test_devices_are_found_by_capability_not_by_number(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    for name, keys in (("event0", "0"), ("event1", "10000000000000 0"), ("mouse0", "10000000000000 0")):
        folder = tmp_path / "class" / "input" / name / "device" / "capabilities"
        folder.mkdir(parents=True)
        (folder / "key").write_text(keys + "\n")
        (tmp_path / "input" / name).touch()
    assert power_button.buttons(sysfs=str(tmp_path), dev=str(tmp_path)) == [str(tmp_path / "input" / "event1")]
    assert power_button.buttons(sysfs=str(tmp_path / "none"), dev=str(tmp_path)) == []
