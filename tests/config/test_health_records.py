"""Probes, notifications and sockets as they may be written, and what they then mean."""

import pytest
import yaml
from jsonschema import Draft202012Validator

from ocelot.config import structs
from ocelot.config.loading import load
from ocelot.config.schema import schema

VALIDATOR = Draft202012Validator(schema("supervise"))


def process(keys: str) -> structs.Process:
    text = f"version: '1.0'\nprocesses:\n  web: {{program: web, restartPolicy: {{type: Always}}, {keys}}}\n"
    loaded = load(text.encode(), "f", "supervise")
    assert not loaded.errors
    assert not loaded.warnings
    VALIDATOR.validate(yaml.safe_load(text))
    assert isinstance(loaded.config, structs.SuperviseFile)
    return loaded.config.processes["web"]


@pytest.mark.parametrize(
    ("written", "meant", "kind"),
    [
        ("systemd", structs.Notify(type="systemd"), "systemd"),
        ("none", structs.Notify(type="none"), "none"),
        ("{fd: 3}", structs.Notify(fd=3), "fd"),
        ("{type: fd, fd: 4, timeout: 5s}", structs.Notify(type="fd", fd=4, timeout=5.0), "fd"),
        ("{type: systemd, watchdog: 30s}", structs.Notify(type="systemd", watchdog=30.0), "systemd"),
    ],
)
def test_notify(written: str, meant: structs.Notify, kind: str) -> None:
    found = process(f"notify: {written}").notify
    assert found == meant
    assert found is not None
    assert found.kind == kind


def test_null_is_no_probe_and_no_notification() -> None:
    found = process("notify: null, readinessProbe: null, sockets: null")
    assert (found.notify, found.readiness_probe, found.sockets) == (None, None, ())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (
            "type: httpGet, port: 8080, expectedStatus: 204, headers: {X: on, Y: 0644}",
            structs.HttpGet(port=8080, expected_status="204", headers={"X": "on", "Y": "0644"}),
        ),
        ("type: tcpSocket, host: '::1', port: 80", structs.TcpSocket(host="::1", port=80)),
        ("type: exec, command: [check, 6379]", structs.ExecCommand(command=("check", "6379"))),
        ("type: unixSocket, path: '@x'", structs.UnixSocket(path="@x")),
        ("type: grpc, port: 80", structs.Grpc(port=80)),
        ("type: log, pattern: '^up$'", structs.LogPattern(pattern="^up$")),
    ],
)
def test_handlers_and_the_numbers_that_are_left_out(written: str, meant: structs.Handler) -> None:
    assert process(f"readinessProbe: {{handler: {{{written}}}}}").readiness_probe == structs.Probe(
        handler=meant,
        initial_delay=0.0,
        period=10.0,
        timeout=1.0,
        failure_threshold=3,
        success_threshold=1,
    )


def test_a_short_period_needs_no_timeout() -> None:
    found = process("livenessProbe: {handler: {type: tcpSocket, port: 80}, period: 500ms}").liveness_probe
    assert found is not None
    assert found.period == 0.5


def test_sockets() -> None:
    found = process("sockets: [{name: a, listen: '*:80'}, {name: b, listen: /run/b, mode: 0640, backlog: 5}]").sockets
    assert found == (
        structs.Socket(name="a", listen="*:80"),
        structs.Socket(name="b", listen="/run/b", mode=0o640, backlog=5),
    )
