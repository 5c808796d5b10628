"""The table of processes, in terminals that are wide enough and in those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ocelot.wire.tables import log_printer, process_table


def process(name: str, why: str, last: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "state": "backoff",
        "goal": "up",
        "ready": False,
        "pid": None,
        "uptime": None,
        "restarts": 2,
        "lastExit": last,
        "nextStartIn": None,
        "reason": why,
        "health": None,
    }


LAST = {"cause": "spawn-failed", "signal": None, "code": None, "status": 127, "detail": ""}
LONG = process("a-process-with-a-rather-long-name", "exited with status 3; gave up after 3 restarts in a row", LAST)


def test_of_no_processes_there_is_no_table() -> None:
    assert process_table([], width=40) == []


def test_where_there_is_room_nothing_is_shortened() -> None:
    assert process_table([LONG], width=None)[1].endswith("gave up after 3 restarts in a row")
    assert process_table([LONG], width=140) == process_table([LONG], width=None)


def test_what_is_too_long_is_shortened_but_the_reason_not_to_nothing() -> None:
    head, line = process_table([LONG], width=80)
    assert len(line) == 80
    assert line.startswith("a-process-with-")
    why = line[head.index("WHY") :]
    assert why.startswith("exited with")
    assert why.endswith("…")


def test_of_short_names_nothing_is_taken() -> None:
    line = process_table([process("web", "waiting for something that takes long, and longer than that")], width=70)[1]
    assert line.startswith("web   backoff")
    assert len(line) == 70


def test_a_terminal_too_narrow_for_all_of_it_still_gets_a_line() -> None:
    assert process_table([LONG], width=30)[1].startswith("a-p…  backoff")


HOSTILE = "up\x1b]52;c;aGk=\x07 \x1b[2J\r\x9b2J\x7f\ttab \x1b[1;31mred\x1b[0m\x1b[K \u00e9"


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (False, "up^[]52;c;aGk=^G ^[[2J^M\\x9b2J^?\ttab red \u00e9"),
        (True, "up^[]52;c;aGk=^G ^[[2J^M\\x9b2J^?\ttab \x1b[1;31mred\x1b[0m \u00e9\x1b[0m"),
    ],
)
def test_what_a_process_wrote_changes_nothing_of_a_terminal_but_the_colours_of_its_line(
    colour: bool, expected: str
) -> None:
    line = json.dumps({"at": 0.0, "name": "web", "stream": "stdout", "text": HOSTILE}).encode()
    assert log_printer(plain=False, only=None, colour=colour, raw=False, tame=True)(line).endswith(f"| {expected}")
    assert log_printer(plain=False, only=None, colour=False, raw=False, tame=False)(line).endswith(f"| {HOSTILE}")
    assert log_printer(plain=True, only=None, colour=True, raw=False, tame=True)(line) == HOSTILE
