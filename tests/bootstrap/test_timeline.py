"""The boot timeline."""

from __future__ import annotations

import pytest

from bootstrap.timeline import Timeline
from ocelot.errors import OcelotError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_spans_count_from_the_first_instruction_of_pid_1() -> None:
    clock = Clock()
    timeline = Timeline(age=0.5, before=2.0, clock=clock)
    timeline.add("imports", start=0.0, end=0.4)
    with timeline.span("preSwitch"):
        clock.now += 1.0
        with timeline.span("modules", phase="preSwitch"):
            clock.now += 2.0
    spans = timeline.wire.spans
    assert [(span.name, span.phase, span.start, span.end, span.outcome) for span in spans] == [
        ("imports", "", 0.0, 0.4, "ok"),
        ("preSwitch", "", 0.5, 3.5, "ok"),
        ("modules", "preSwitch", 1.5, 3.5, "ok"),
    ]
    assert (timeline.wire.before, timeline.wire.finished) == (2.0, False)
    timeline.finish()
    assert timeline.wire.finished


def test_an_error_that_passes_through_makes_a_span_failed_with_its_cause() -> None:
    timeline = Timeline(clock=Clock())
    with pytest.raises(OcelotError), timeline.span("switchRoot") as span:
        raise OcelotError("cannot mount it")
    assert (span.outcome, span.detail, span.end) == ("failed", "cannot mount it", 0.0)


def test_an_outcome_that_was_set_stays() -> None:
    timeline = Timeline(clock=Clock())
    with timeline.span("hook") as span:
        span.outcome = "warned"
    assert span.outcome == "warned"


def test_a_span_is_visible_while_it_lasts() -> None:
    timeline = Timeline(clock=Clock())
    with timeline.span("hook"):
        assert [(span.outcome, span.end) for span in timeline.wire.spans] == [("running", None)]
