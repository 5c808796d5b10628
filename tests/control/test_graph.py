"""The graph of dependencies as text and as a picture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from ocelot.wire.graph import needed_by, svg, tree


def process(name: str, *needs: str, state: str = "running", group: str | None = None, **need: Any) -> dict[str, Any]:
    demand = {"condition": "Started", "required": True, "restart": False, "met": True, **need}
    return {
        "name": name,
        "state": state,
        "ready": state == "running",
        "reason": f"because of <{name}>",
        "group": group,
        "dependsOn": [{"name": each, **demand} for each in needs],
    }


APP = [
    process("migrate", "db", state="exited", condition="Healthy"),
    process("db"),
    process("web[0]", "migrate", "db", group="web", condition="CompletedSuccessfully"),
    process("web[1]", "migrate", "db", group="web", condition="CompletedSuccessfully", state="backoff"),
    process("cache", "gone", state="waiting", met=False, required=False),
    process("alone"),
]


def test_the_tree_begins_with_what_nobody_needs_and_repeats_nothing() -> None:
    assert tree(APP) == [
        "web  1 backoff, 1 running",
        "├─ migrate  exited  (completed successfully)",
        "│  └─ db  running  (healthy)",
        "└─ db  running  (completed successfully)",
        "cache  waiting",
        "└─ gone  not there  (started, not yet, optional)",
        "alone  running",
    ]


def test_what_was_shown_with_all_below_it_is_only_named_the_next_time() -> None:
    lines = tree([process("a", "c"), process("b", "c"), process("c", "d"), process("d")])
    assert lines == [
        "a  running",
        "└─ c  running  (started)",
        "   └─ d  running  (started)",
        "b  running",
        "└─ c  running  (started) …",
    ]


def test_one_tree_of_many_and_a_cycle_ends() -> None:
    assert tree(APP, ["migrate"]) == ["migrate  exited", "└─ db  running  (healthy)"]
    assert tree([process("a", "b"), process("b", "a")], ["a"])[-1] == "   └─ a  running  (started) …"
    assert "<svg" in svg([process("a", "b"), process("b", "a")])


def test_the_picture_has_every_process_and_every_line_once() -> None:
    root = ElementTree.fromstring(svg(APP))
    space = "{http://www.w3.org/2000/svg}"
    titles = [element.text for element in root.iter(f"{space}title")]
    assert "web needs db: completed successfully" in titles
    assert "alone: running, because of <alone>" in titles
    assert len(list(root.iter(f"{space}g"))) == 5
    assert len([path for path in root.iter(f"{space}path") if path.get("marker-end")]) == 3
    boxes = [(rect.get("x"), rect.get("y")) for rect in root.iter(f"{space}rect") if rect.get("rx")]
    assert len(set(boxes)) == len(boxes)


def test_what_is_needed_stands_to_the_left() -> None:
    root = ElementTree.fromstring(svg(APP))
    space = "{http://www.w3.org/2000/svg}"
    x = {
        group.find(f"{space}text").text: int(group.find(f"{space}rect").get("x", "0"))
        for group in root.iter(f"{space}g")
    }
    assert x["db"] < x["migrate"] < x["web"]


def test_a_picture_of_some_shows_them_and_what_they_need() -> None:
    processes = [process("a", "b"), process("b", "c"), process("c"), process("d", "c")]
    assert [each["name"] for each in needed_by(processes, ["b"])] == ["b", "c"]
    assert needed_by(processes, []) == processes


def test_what_has_failed_will_not_be_yet() -> None:
    processes = [process("web", "db", met=False, condition="Healthy"), process("db", state="fatal")]
    assert tree(processes)[1] == "└─ db  fatal  (healthy, it has failed)"
    processes[1]["state"] = "starting"
    assert tree(processes)[1] == "└─ db  starting  (healthy, not yet)"
