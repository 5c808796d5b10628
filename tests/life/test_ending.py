"""What has to be seen to before anything of a shutdown can hang."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from bootstrap import shutdown
from ocelot.config import structs
from ocelot.life import ending
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity
from ocelot.states import PowerVerb


def test_the_power_verb_is_certain_before_the_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for its port is a look at /sys, which hangs where the root file system does."""
    done: list[object] = []

    async def report(*_: object) -> None:
        done.append("report")

    async def go_down(timeout: float, **_: object) -> None:
        done.append(timeout)

    monkeypatch.setattr(ending, "report", report)
    monkeypatch.setattr(shutdown, "go_down", go_down)
    monkeypatch.setattr(shutdown, "power_in_any_case", lambda verb, seconds: done.append((verb, seconds)))
    life: Any = SimpleNamespace(
        born=0.0,
        config=structs.Bootstrap(shutdown=structs.Shutdown(timeout=7.0)),
        hurried=trio.Event(),
        phase="running",
        stderr=Writer.nowhere(),
        stdout=Writer.nowhere(),
        verb=None,
        who=Identity.MACHINE,
    )
    trio.run(ending.go_down, life, ending.Ending(0, "asked to"))
    assert done == [(PowerVerb.POWEROFF, 7.0 + shutdown.PATIENCE), "report", 7.0]
