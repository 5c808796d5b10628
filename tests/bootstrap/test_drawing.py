"""The table of a boot, as ``ocelotctl boot`` shows it."""

from __future__ import annotations

from typing import Any

from ocelot.wire.drawing import table


def span(name: str, start: float, end: float | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "phase": "", "start": start, "end": end, "outcome": "ok", "detail": "", **more}


def test_what_is_known_of_a_step_stands_below_it() -> None:
    spans = [
        span("quiet", 0.0, 0.5),
        span("mount", 0.5, 2.0, detail="1.250 s of it waiting for the device"),
        span("hook", 2.0, 2.5, outcome="warned", detail="it failed"),
        span("skip", 2.5, 2.5, outcome="skipped"),
    ]
    lines = table({"spans": spans, "finished": True})
    notes = [line.strip() for line in lines if line.startswith(" " * 21)]
    assert notes == ["1.250 s of it waiting for the device", "warned: it failed", "skipped"]
    assert "mount" in lines[lines.index(next(line for line in lines if "waiting" in line)) - 1]
