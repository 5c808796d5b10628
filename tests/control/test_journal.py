"""The journal of changes: numbering, bounds, gaps; and the stream that is made of it."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from ocelot.states import State
from supervisor.control.events import follow, recent
from supervisor.journal import Journal
from supervisor.lifecycle import Change, Event
from tests.control.fakes import FakeSupervisor


def journal(count: int, limit: int = 3) -> Journal:
    made = Journal(limit, now=lambda: 1.0)
    for index in range(count):
        made.note(Change(f"p{index + 1}", State.STARTING, State.RUNNING, Event.READY, "", None))
    return made


@pytest.mark.parametrize(
    ("count", "after", "missed", "names"),
    [
        (0, None, 0, []),
        (2, None, 0, ["p1", "p2"]),
        (5, None, 0, ["p3", "p4", "p5"]),
        (5, 1005, 0, []),
        (5, 1004, 0, ["p5"]),
        (5, 1002, 0, ["p3", "p4", "p5"]),
        (5, 1001, 1, ["p3", "p4", "p5"]),
        (5, 1000, 2, ["p3", "p4", "p5"]),
        (2, 1000, 0, ["p1", "p2"]),
        (2, 999, None, ["p1", "p2"]),  # of an ocelot before this one
        (2, 1003, None, ["p1", "p2"]),  # from the future: of no ocelot
    ],
)
def test_what_came_after_a_number(count: int, after: int | None, missed: int | None, names: list[str]) -> None:
    told, entries = journal(count).after(after)
    assert (told, [change.name for _, _, change in entries]) == (missed, names)
    assert [number for number, _, _ in entries] == [1000 + int(name[1:]) for name in names]


def test_recent_changes_are_narrowed_by_name_and_count() -> None:
    fake = FakeSupervisor("web", "web-2", "db")
    for name in ("web", "db", "web-2"):
        fake.become(name, State.STOPPED)

    def names(wanted: list[str], n: int | None = None) -> list[str]:
        return [json.loads(line)["name"] for line in recent(fake, wanted, None, n).splitlines()]

    assert names([]) == ["web", "db", "web-2"]
    assert names(["web*"]) == ["web", "web-2"]
    assert names(["db"]) == ["db"]
    assert names([], 1) == ["web-2"]
    assert names([], 0) == []


def test_a_follower_is_told_what_it_missed_and_costs_nothing_meanwhile() -> None:
    fake = FakeSupervisor("web", "db")  # its journal keeps four

    async def main() -> list[object]:
        stream = follow(fake, ["web"], None, 0)
        heard: list[object] = []

        async def read() -> None:
            async for block in stream:
                heard.extend(json.loads(line) for line in block.splitlines())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            fake.become("db", State.STOPPED)
            fake.become("web", State.STOPPED)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(6):  # without a moment for the follower
                fake.become("web", State.RUNNING)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return heard

    heard = trio.run(main)
    assert [line["kind"] for line in heard] == ["change", "gap", *["change"] * 4]
    assert heard[1] == {"kind": "gap", "missed": 2}
    assert [line["number"] for line in heard if "number" in line] == [1000002, *range(1000005, 1000009)]
