"""What the status of one process shows of its health."""

import msgspec

from ocelot.wire.details import details_page, facts, health_lines
from ocelot.wire.protocol import (
    DependencyStatus,
    ExitInfo,
    HealthStatus,
    NotifyStatus,
    ProbeStatus,
    ProcessStatus,
    ScheduleStatus,
)


def plain(health):
    process = ProcessStatus(name="web", state="running", goal="up", ready=True, health=health)
    return msgspec.to_builtins(process)


def test_a_line_for_each_probe_and_for_what_it_says():
    good = ProbeStatus(
        role="readiness", type="httpGet", ok=True, at=90.0, latency=0.004, output="200 OK", successes=3, runs=3
    )
    bad = ProbeStatus(
        role="liveness", type="exec", ok=False, at=99.0, latency=1.0, output="timed out", failures=2, runs=9, misses=4
    )
    new = ProbeStatus(role="startup", type="log")
    notify = NotifyStatus(state="ready", text="3 clients", main_pid=7, watchdog=30.0, pinged=2.0, errno=5)
    process = plain(HealthStatus(probes=[good, bad, new], notify=notify))
    assert health_lines(process, now=100.0) == [
        "readiness (httpGet): good, 3 in a row, 10s ago, took 4ms: 200 OK",
        "liveness (exec): bad, 2 in a row, 1s ago, took 1s: timed out; 4 of 9 were bad",
        "startup (log): no result yet",
        'notify: ready, main pid 7, errno 5, watchdog 30s, last sign 2s ago: "3 clients"',
    ]


def test_nothing_of_those_that_have_none():
    with_some = plain(HealthStatus(probes=[ProbeStatus(role="startup", type="log")]))
    assert details_page([plain(None), with_some]) == "\nweb\n  startup (log): no result yet\n"
    assert details_page([plain(None)]) == ""


def test_how_it_came_here_and_what_it_needs():
    process = ProcessStatus(
        name="web",
        state="running",
        goal="up",
        ready=True,
        last_exit=ExitInfo(status=3, code=3, cause="exit", detail="exited with status 3", at=940.0),
        restarts=3,
        restarts_by_cause={"liveness": 1, "exit": 2},
        depends_on=[DependencyStatus(name="db", condition="Healthy", met=False, required=False)],
        schedule=ScheduleStatus(when="every 10m", overlap="skip", next_run=1065.0, skipped=2),
    )
    assert list(facts(msgspec.to_builtins(process), now=1000.0)) == [
        "depends on db (healthy, not yet, optional)",
        "schedule every 10m: next in 1m 5s, 2 skipped",
        "restarts: 2 for exit, 1 for liveness",
        "last end: exited with status 3 (exit), 1m ago",
    ]


def test_what_failed_for_good_says_why_and_how_to_try_again():
    reason = 'cannot start "/no": there is no such file (check the path); gave up after 1 restart in a row (maxRetries)'
    process = ProcessStatus(
        name="web",
        state="fatal",
        goal="up",
        ready=False,
        reason=reason,
        last_exit=ExitInfo(
            status=127, cause="spawn-failed", detail='cannot start "/no": there is no such file', at=940.0
        ),
    )
    assert list(facts(msgspec.to_builtins(process), now=1000.0)) == [
        f"why: {reason}",
        "to try again: ocelotctl start web",
        "last end: status 127 (spawn-failed), 1m ago",
    ]
