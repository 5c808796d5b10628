"""What the tests of ``ocelotctl reexec`` share: it is replaced, looked at, and awaited."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from integration.desk import Desk


def by_name(status: Any) -> dict[str, Any]:
    return {each["name"]: each for each in status["processes"]}


def reexec(running: Desk, *arguments: str) -> Any:
    """Replace it; one that is busy is asked again."""
    done = running.ctl("reexec", "--json", *arguments, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def now(running: Desk, name: str) -> Any:
    return by_name(running.json("status"))[name]


def until(condition: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"program": "/bin/sh", "arguments": ["-c", script], **more}
