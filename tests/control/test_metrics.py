"""The text format that is written here, against the library's own."""

from __future__ import annotations

import prometheus_client  # the whole of it, before parts are loaded
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as text_parser

from supervisor.metrics.collector import collect, expose, text_format
from tests.control.fakes import FakeMachine, FakeSupervisor


def test_the_text_format_is_that_of_the_library() -> None:
    machine = FakeMachine(FakeSupervisor("web", 'quo"te', "back\\slash", "new\nline", "ümlaut"))
    registry = trio.run(collect, machine)
    expected = prometheus_client.generate_latest(registry)
    assert b"ocelot_process_restarts_total" in expected
    assert text_format(registry.collect()) == expected


def test_parsers_of_both_formats_read_every_name_as_it_was() -> None:
    names = {"web", 'quo"te', "back\\slash", "new\nline", "ümlaut", "web[0]"}
    machine = FakeMachine(FakeSupervisor(*names))
    for accept, parse in (("", text_parser), ("application/openmetrics-text", openmetrics_parser)):
        text, _ = trio.run(expose, machine, accept)
        families = {family.name: family for family in parse(text.decode())}
        assert {sample.labels["process"] for sample in families["ocelot_process_up"].samples} == names
        kinds = {family.type for family in families.values()}
        assert kinds == {"counter", "gauge", "histogram"}, accept


def test_the_phases_of_the_boot_are_measured_from_their_first_start_to_their_last_end() -> None:
    registry = trio.run(collect, FakeMachine())
    assert registry.get_sample_value("ocelot_boot_phase_seconds", {"phase": "preSwitch"}) == 1.75
    assert registry.get_sample_value("ocelot_boot_phase_seconds", {"phase": "switchRoot"}) == 0.5


def test_before_the_hand_off_there_are_figures_of_ocelot_itself() -> None:
    registry = trio.run(collect, FakeMachine(supervisor=None))
    assert registry.get_sample_value("ocelot_reaped_orphans_total") == 4.0
    assert (registry.get_sample_value("process_open_fds") or 0) > 2
