"""What holds whatever is converted: hostile values, spans and sizes, and the format that a file is in."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ocelot.convert import words
from ocelot.convert.command import detect
from ocelot.convert.draft import Draft, Entry, write
from ocelot.errors import UsageError


def test_a_hostile_value_cannot_leave_its_comment(tmp_path: Path) -> None:
    entry = Entry("a", {"program": "/bin/a"}, about="x\nprocesses: {evil: {program: /bin/evil}}")
    entry.lose("b\r\n\u2028evil: 1", "c\nd")
    assert list(yaml.safe_load(write(Draft("f\nevil: 1", [entry])))) == ["version", "processes"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1min 30s", 90),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("infinity", None),
        ("", None),
        ("3 parsecs", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert words.span(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", "512MiB"), ("1g", "1GiB"), ("64kb", "64KiB"), ("1000", "1000B"), ("1.5M", "1572864B"), ("half", None)],
)
def test_sizes(text: str, size: str | None) -> None:
    assert words.size(text) == size


def test_the_format_is_found_out(tmp_path: Path) -> None:
    for name, text, expected in (
        ("a.service", "", "systemd"),
        ("Procfile.dev", "", "procfile"),
        ("x.ini", "[program:a]\n", "supervisord"),
        ("stack.yml", "services:\n", "compose"),
    ):
        (tmp_path / name).write_text(text)
        assert detect(str(tmp_path / name)) == expected
    assert detect(str(tmp_path)) == "systemd"
    (tmp_path / "what").write_text("?")
    with pytest.raises(UsageError, match="cannot tell what"):
        detect(str(tmp_path / "what"))
