"""The table and the keys of ``ocelotctl top``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ocelot.verbs.live import window
from ocelot.verbs.top_view import Row, View, keys, ordered, plain, press, rows, size


def process(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "running", "pid": 7, "restarts": 0, "uptime": 5.0, **more}


def figures(at: float, **cpu: float) -> dict[str, Any]:
    more = {"residentMemory": 1 << 20, "processes": 1, "openFds": 3}
    return {"at": at, "processes": [{"name": name, "cpuSeconds": seconds, **more} for name, seconds in cpu.items()]}


def row(name: str, cpu: float | None = 0.0, **more: Any) -> Row:
    return replace(Row(name, "running", 7, cpu, 1024, 1, 3, 0, 5.0), **more)


def test_rates_are_the_difference_of_two_readings() -> None:
    status = {"processes": [process("web"), process("db", pid=None, state="fatal", uptime=None)]}
    web, db = rows(status, figures(10.0, web=1.0), figures(12.0, web=2.0))
    assert (web.cpu, web.memory, web.tasks, web.fds) == (0.5, 1 << 20, 1, 3)
    assert (db.cpu, db.memory, db.state) == (None, None, "fatal")
    assert rows(status, None, figures(12.0, web=2.0))[0].cpu is None


def test_a_counter_that_began_anew_is_no_negative_rate() -> None:
    assert rows({"processes": [process("web")]}, figures(1.0, web=9.0), figures(2.0, web=0.1))[0].cpu == 0.0


def test_the_order_is_biggest_first_and_by_name_from_a() -> None:
    found = [row("b", 0.1), row("a", 0.1), row("c", 0.9), row("d", None)]
    assert [r.name for r in ordered(found, View())] == ["c", "a", "b", "d"]
    assert [r.name for r in ordered(found, View(reverse=True))] == ["d", "a", "b", "c"]
    assert [r.name for r in ordered(found, View(sort="name"))] == ["a", "b", "c", "d"]
    assert [r.name for r in ordered(found, View(sort="name", reverse=True))] == ["d", "c", "b", "a"]
    assert [r.name for r in ordered(found, View(filter="c"))] == ["c"]


def test_keys_choose_sort_and_select() -> None:
    shown = [row("a"), row("b"), row("c")]
    view = View()
    for key, attribute, value in (
        ("down", "selected", "a"),
        ("down", "selected", "b"),
        ("j", "selected", "c"),
        ("down", "selected", "c"),
        ("up", "selected", "b"),
        ("s", "sort", "memory"),
        ("r", "reverse", True),
        (" ", "paused", True),
        ("l", "log", True),
        ("\x1b", "selected", None),
        ("x", "done", False),
        ("q", "done", True),
    ):
        view = press(view, key, shown)
        assert getattr(view, attribute) == value, key


def test_a_log_pane_without_a_selection_takes_the_first() -> None:
    assert press(View(), "l", [row("a")]) == View(selected="a", log=True)
    assert press(View(), "down", []) == View()


def test_a_filter_is_typed_until_enter() -> None:
    view = View()
    for key in ("/", "w", "q", "\x7f", "e", "up", "\r"):
        view = press(view, key, [])
    assert (view.filter, view.typing, view.done) == ("we", False, False)
    view = press(press(press(view, "/", []), "x", []), "\x1b", [])
    assert (view.filter, view.typing) == ("", False)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1b[Bs", ["up", "down", "s"]),
        ("\x1bOA", ["up"]),
        ("\x1b[5~\x1b[1;5Cj", ["j"]),
        ("\x1b", ["\x1b"]),
        ("", []),
    ],
)
def test_what_a_terminal_sends(data: str, expected: list[str]) -> None:
    assert list(keys(data)) == expected


def test_the_window_keeps_the_selected_row_in_sight() -> None:
    shown = [row(str(number)) for number in range(10)]
    assert [r.name for r in window(shown, None, 3)] == ["0", "1", "2"]
    assert [r.name for r in window(shown, "5", 3)] == ["4", "5", "6"]
    assert [r.name for r in window(shown, "9", 3)] == ["7", "8", "9"]
    assert len(window(shown, "9", 30)) == 10


def test_the_plain_table() -> None:
    lines = plain([row("web", 0.125, memory=5 << 20), row("database", None, state="fatal", pid=None, memory=None)])
    assert lines == [
        "NAME      STATE    PID    CPU  MEMORY  TASKS  FDS  RESTARTS  UPTIME",
        "web       running    7  12.5%  5.0MiB      1    3         0      5s",
        "database  fatal      -      -       -      1    3         0      5s",
    ]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (300 << 20, "300MiB"), (5 << 40, "5120GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_in_a_narrow_terminal_a_long_name_gives_way_to_the_figures() -> None:
    lines = plain([row("web", 0.125, memory=5 << 20), row("a-name-" * 12, 0.5, memory=5 << 20)], 80)
    assert lines[1].split() == ["web", "running", "7", "12.5%", "5.0MiB", "1", "3", "0", "5s"]
    assert lines[2].startswith("a-name-a-name-a-name…")
    assert lines[2].split()[1:] == ["running", "7", "50.0%", "5.0MiB", "1", "3", "0", "5s"]
    assert max(map(len, lines)) == 80
    assert plain([row("a-name-" * 12, 0.5, memory=5 << 20)], 40)[1].startswith("a-name-a-na…  running")
