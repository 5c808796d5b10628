"""What the README says of signals is what the table in the code does."""

from __future__ import annotations

from pathlib import Path

from supervisor import signals

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_table_of_signals_is_the_one_in_the_code() -> None:
    text = README.read_text()
    shown = text.partition("<!-- signals -->\n")[2].partition("<!-- /signals -->")[0]
    assert shown == signals.markdown()
