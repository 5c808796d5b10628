"""The dashboard and the alert rules ask only for what is emitted, by its name and by its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import prometheus_client  # noqa: F401 (the whole package, before parts of it are imported without its __init__)
import pytest
import yaml

from ocelot.states import Cause, State
from ocelot.wire.protocol import BootTimeline
from supervisor.counted import Counted
from supervisor.metrics import families
from supervisor.metrics.cgroup_figures import CgroupFigures, Pressure
from supervisor.metrics.figures import OwnFigures, Usage
from supervisor.metrics.loop_lag import LoopLag

SHIPPED = Path(__file__).resolve().parent.parent / "ocelot" / "dashboards"
SCRAPE_LABELS = {"job", "instance"}


def emitted() -> dict[str, set[str]]:
    """The labels of every sample name that a scrape can contain."""
    from tests.control.fakes import FakeMachine

    machine = FakeMachine()
    group = CgroupFigures(pressure={"cpu": Pressure(1.0, 1.0)}, oom_kills=1, throttled_seconds=1.0, memory=1)
    used = {"web": Usage(Counted(read_bytes=1, written_bytes=1), 1, 1, 1, 1, 1, 1, cgroup=group)}
    own = OwnFigures(1.0, 1, 1, 1, 1, 1, 1.0)
    assert machine.supervisor is not None
    found: dict[str, set[str]] = {"up": set()}
    for family in chain(
        families.processes(machine.status().processes),
        families.probes(()),
        families.schedules(()),
        families.usage(used),
        families.outputs(machine.supervisor.outputs.items()),
        families.boot(BootTimeline(spans=[])),
        families.machine({"cpu": Pressure(1.0, 1.0)}, {"MemTotal": 1, "MemAvailable": 1}),
        families.ocelot({"reaped_orphans": 1, "reaped_children": 1}, own, LoopLag()),
    ):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        for suffix in suffixes:
            labels = set(family._labelnames)
            found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def expressions() -> Iterator[tuple[str, str, str]]:
    """Where it stands, what it asks for, and the text that names labels of the answer."""
    dashboard = json.loads((SHIPPED / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"], target.get("legendFormat", "")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"], ""
    for group in yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"], " ".join(rule["annotations"].values())


KNOWN = emitted()
VALUES = {"state": {each.value for each in State}, "cause": {each.value for each in Cause}} | {
    "result": {"success", "failure"},
    "kind": {"some", "full", "voluntary", "involuntary"},
}
GROUPING = r"\b(?:by|on) \(([^)]*)\)"


@pytest.mark.parametrize(("where", "expression", "text"), list(expressions()))
def test_every_name_and_label_is_emitted(where: str, expression: str, text: str) -> None:
    used = list(re.finditer(r"\b(up|(?:ocelot|process)_[a-z_]+)\b(?:\{([^}]*)\})?", re.sub(GROUPING, "", expression)))
    assert used, f"{where}: no metric in {expression}"
    common = set.intersection(*(KNOWN.get(match[1], set()) for match in used)) | SCRAPE_LABELS
    for match in used:
        name, matchers = match.groups()
        assert name in KNOWN, f"{where}: {name} is not emitted"
        for label, value in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)", matchers or ""):
            assert label in KNOWN[name] | SCRAPE_LABELS, f"{where}: {name} has no label {label}"
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label], f"{where}: {label} is never {value}"
    grouped = [set(re.findall(r"\w+", names)) for names in re.findall(GROUPING, expression)]
    for names in grouped:
        assert names <= common, f"{where}: nothing there has the labels {names - common}"
    left = set.intersection(*grouped) if " by (" in expression else common
    named = set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))
    assert named <= left, f"{where}: its text names {named - left}, which the answer does not have"


def test_panels_do_not_overlap_and_fill_the_width() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((SHIPPED / "grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
