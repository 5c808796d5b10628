"""The JSON Schema, checked by another validator, and its agreement with the loader."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ocelot.config import templates
from ocelot.config.loading import Kind, load
from ocelot.config.schema import schema
from tests.config.broken import CASES, load_case

EXAMPLES = Path(__file__).with_name("examples")
VALIDATORS = {kind: Draft202012Validator(schema(kind)) for kind in ("bootstrap", "supervise")}


@pytest.mark.parametrize("kind", ["bootstrap", "supervise"])
def test_is_a_schema(kind: Kind) -> None:
    Draft202012Validator.check_schema(schema(kind))
    assert schema(kind)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    json.dumps(schema(kind))


@pytest.mark.parametrize("name", ["shell", "supervise"])
def test_takes_the_documented_examples(name: str) -> None:
    VALIDATORS["bootstrap"].validate(yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("mode", templates.MODES)
def test_takes_the_templates(mode: str) -> None:
    VALIDATORS["bootstrap"].validate(yaml.safe_load(templates.text("bootstrap", mode)))
    VALIDATORS["supervise"].validate(yaml.safe_load(templates.text("supervise")))


FULL_BOOTSTRAP: dict[str, Any] = {
    "console": "ttyS0",
    "logLevel": "debug",
    "hostname": "box",
    "control": {"socket": "/run/c.sock", "mode": "0660", "group": "adm", "roles": {"read": ["@adm"]}},
    "metrics": {"listen": "0.0.0.0:9464"},
    "host": {"exitPort": "a.b"},
    "onFatal": {"action": "shell", "shell": "/bin/sh", "timeout": "5m"},
    "shutdown": {"timeout": "20s", "action": "auto"},
    "preSwitch": {
        "modules": {"mode": "scan", "names": ["ext4"], "depFilePath": "modules.dep", "parameters": {"ext4": "a=1"}},
        "mounts": [
            {"type": "device", "device": "/dev/vdb", "target": "/data", "fstype": "ext4", "onFailure": "retry"},
            {"type": "virtual", "fstype": "tmpfs", "target": "/x", "options": "size=1m", "atime": "noAtime"},
            {"type": "bind", "source": "/a", "target": "/b", "readOnly": True},
        ],
        "hooks": [{"name": "a", "command": "/bin/a", "arguments": [1, True, "x"], "timeoutSecs": 3}],
        "symlinks": [{"source": "/a", "target": "/b"}],
        "sysctl": {"net.ipv4.ip_forward": True, "vm.swappiness": 10},
        "tmpfiles": {"path": "/run/a", "mode": 755},
        "environment": {"A": 1, "B": None},
        "network": None,
    },
    "switchRoot": {"rootFileSystem": {"type": "virtiofs", "tag": "rootfs", "overlay": True}},
    "postSwitch": {
        "handoff": {
            "mode": "supervise",
            "shutdownTimeout": "2m",
            "bootScript": {"command": "/etc/boot.sh", "onFailure": "ABORT"},
            "processes": {
                "web": {
                    "program": "/bin/web",
                    "type": "service",
                    "essential": True,
                    "shutdownSignal": {"type": "number", "value": 15},
                    "restartPolicy": {"type": "OnFailure", "maxRetries": 3, "backoff": "1s", "multiplier": 1.5},
                    "log": {"stdout": {"destination": {"type": "file", "path": "/var/log/a"}, "ring": "64KiB"}},
                }
            },
        }
    },
}
FULL_SUPERVISE: dict[str, Any] = {
    "version": "1.0",
    "logLevel": "info",
    "shutdownTimeoutSecs": 90,
    "processes": FULL_BOOTSTRAP["postSwitch"]["handoff"]["processes"],
}
FULL: dict[Kind, dict[str, Any]] = {"bootstrap": FULL_BOOTSTRAP, "supervise": FULL_SUPERVISE}


def errors(kind: Kind, data: object) -> list[str]:
    """What the loader says to ``data``; JSON is YAML."""
    loaded = load(json.dumps(data).encode(), "f", kind)
    return [error.located("f") for error in loaded.errors]


@pytest.mark.parametrize("kind", ["bootstrap", "supervise"])
def test_full_files_are_taken_by_both(kind: Kind) -> None:
    assert errors(kind, FULL[kind]) == []
    VALIDATORS[kind].validate(FULL[kind])


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-3, max_value=10**6),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.sampled_from(["", "x", "/bin/x", "5s", "1m\n30s", "10MB", "yes", "Warn", "15", "SIGTERM", "null", "virtiofs"]),
    st.sampled_from(
        [[], ["a"], [None], [[1]], {}, {"a": "b"}, {"type": "file"}, {"program": "/bin/x"}, {"type": None}]
    ),
)
KEYS = st.sampled_from(
    ["program", "type", "processes", "x", "command", "path", "timeoutSecs", "environment", "tag", "network", "console"]
)


def places(data: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        found += places(value, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, kind: Kind) -> Any:
    """A full file with one to three things replaced, removed or added."""
    data = json.loads(json.dumps(FULL[kind]))
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        path = draw(st.sampled_from(places(data)))
        parent = data
        for step in path[:-1]:
            parent = parent[step]
        deed = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if deed == "remove":
            del parent[path[-1]]
        elif deed == "add" and isinstance(parent, dict):
            parent[draw(KEYS)] = json.loads(json.dumps(draw(ODD)))
        else:
            parent[path[-1]] = json.loads(json.dumps(draw(ODD)))
        if not places(data):
            break
    return json.loads(json.dumps(data))


@settings(max_examples=400, deadline=None)
@given(mutated("bootstrap"))
def test_what_the_schema_refuses_in_a_bootstrap_file_the_loader_refuses(data: Any) -> None:
    _agree("bootstrap", data)


@settings(max_examples=200, deadline=None)
@given(mutated("supervise"))
def test_what_the_schema_refuses_in_a_supervise_file_the_loader_refuses(data: Any) -> None:
    _agree("supervise", data)


def _agree(kind: Kind, data: Any) -> None:
    refusal = next(iter(VALIDATORS[kind].iter_errors(data)), None)
    if refusal is not None:
        assert errors(kind, data), f"only the schema refuses it: {refusal.message} at {list(refusal.absolute_path)}"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_the_schema_refuses_in_the_table_the_loader_refuses(case: Any) -> None:
    if not load_case(case).errors:
        assert list(VALIDATORS[case.kind].iter_errors(yaml.safe_load(case.text))) == []


def test_the_schema_is_not_empty_handed() -> None:
    """It finds the common mistakes by itself, for editors."""
    for change in ({"consle": "x"}, {"logLevel": "loud"}, {"preSwitch": {"mounts": [{"type": "virtofs"}]}}):
        assert list(VALIDATORS["bootstrap"].iter_errors({**FULL_BOOTSTRAP, **change}))


@pytest.mark.parametrize(
    "signal",
    [
        "SIGTERM",
        15,
        {"type": "sigterm"},
        {"type": 15},
        {"type": "name", "value": "TERM"},
        {"type": "number", "value": 15},
    ],
    ids=str,
)
def test_a_signal_is_accepted_in_each_of_its_forms(signal: Any) -> None:
    data = {"version": "1.0", "processes": {"web": {"program": "/bin/web", "shutdownSignal": signal}}}
    assert list(VALIDATORS["supervise"].iter_errors(data)) == []
    assert errors("supervise", data) == []
