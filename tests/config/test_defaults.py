"""What holds when a key is left out: written down a second time, so that no default changes by accident."""

from __future__ import annotations

import pytest
from msgspec.structs import fields

from ocelot.config import structs

DEFAULTS = {
    structs.RestartPolicy: {
        "type": "Never",
        "maxRetries": None,
        "backoff": 2.0,
        "maxBackoff": 60.0,
        "multiplier": 2.0,
        "resetAfter": 60.0,
        "successExitCodes": (0,),
    },
    structs.Probe: {
        "initialDelay": 0.0,
        "period": 10.0,
        "timeout": 1.0,
        "failureThreshold": 3,
        "successThreshold": 1,
    },
    structs.Stream: {
        "destination": structs.Inherit(),
        "format": "text",
        "rotation": None,
        "onFull": "drop",
        "ring": 64 * 1024,
    },
    structs.Rotation: {
        "maxSizeBytes": None,
        "rotationInterval": None,
        "maxFiles": None,
        "maxAgeDays": None,
        "mode": None,
        "compression": "none",
    },
    structs.Dependency: {"condition": None, "restart": False, "required": True},
    structs.Schedule: {"every": None, "cron": None, "timezone": None, "overlap": "skip"},
    structs.Process: {
        "type": "service",
        "essential": False,
        "shutdownSignal": 15,
        "terminationGracePeriod": 60.0,
        "stdin": "null",
        "noNewPrivileges": False,
        "replicas": None,
        "schedule": None,
        "notify": None,
        "umask": None,
        "reloadSignal": None,
    },
    structs.Control: {"socket": "/run/ocelot/control.sock", "mode": 0o600, "group": None},
    structs.Metrics: {"listen": None},
    structs.Host: {"exitPort": "org.ocelot.exit"},
    structs.Shutdown: {"timeout": 30.0, "action": "auto"},
}


@pytest.mark.parametrize("record", DEFAULTS, ids=lambda record: record.__name__)
def test_what_is_left_out(record: type) -> None:
    known = {field.encode_name: field.default for field in fields(record)}
    assert {key: known[key] for key in DEFAULTS[record]} == DEFAULTS[record]
