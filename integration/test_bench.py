"""The benchmarks measure what they say: on the smallest supervisor there is, and on figures made up."""

from __future__ import annotations

import os
import signal
import subprocess
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.bench import desk, peers, picture, report, session, targets
from integration.lab import cache
from ocelot.linux.syscalls import PR_SET_CHILD_SUBREAPER, prctl

pytestmark = pytest.mark.skipif(cache.tool("gcc") is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def _no_subreaper() -> Iterator[None]:
    """Other tests in this process expect to be an ordinary one."""
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def loop(tmp_path: Path) -> tuple[peers.Peer, Path]:
    made = {name: peers._compile(tmp_path, name) for name in ("service", "loop")}
    return peers.Peer("C loop", lambda folder, count, service: [str(made["loop"]), str(count), str(service)]), made[
        "service"
    ]


def test_a_session_sees_all_services_and_their_stop(tmp_path):
    peer, service = loop(tmp_path)
    with session.session(peer, tmp_path / "run", 3, service) as one:
        assert 0 < one.await_services(3) < 10_000
        assert sorted(session.descendants(one.process.pid)) == sorted(one.services)
        assert one.supervisors() == [one.process.pid]
        assert 0 < session.pss(one.supervisors()) < 10
        assert one.stop() > 0
    assert session.descendants(os.getpid()) == []


def test_a_killed_service_comes_back_and_is_timed(tmp_path):
    peer, service = loop(tmp_path)
    with session.session(peer, tmp_path / "run", 2, service) as one:
        one.await_services(2)
        before = list(one.services)
        assert 0 < desk._kill(one, 0) < 10_000
        assert one.services[0] not in before
        assert one.services[1] == before[1]


def test_what_a_supervisor_leaves_behind_is_ended(tmp_path):
    peer, service = loop(tmp_path)
    foreign = subprocess.Popen(["sleep", "60"])
    with session.session(peer, tmp_path / "run", 2, service) as one:
        one.await_services(2)
        one.process.kill()  # its services outlive it
    assert foreign.poll() is None, "somebody else's child was ended"
    foreign.kill()
    assert foreign.wait() == -signal.SIGKILL
    assert not any(Path(f"/proc/{pid}").exists() for pid in one.services)


def results(**ocelot: float) -> desk.Results:
    found = desk.Results()
    found.add("kill to restarted", "s6", "ms", 1.4)
    found.add("kill to restarted", "C loop", "ms", 0.8)
    found.add("restart storm", "C loop", "/s", 2000)
    for what, value in ocelot.items():
        found.add(what.replace("_", " "), "ocelot", "ms", value)
    return found


def test_targets_are_judged_against_the_same_run():
    slow, quick = results(kill_to_restarted=1.5, restart_storm=900), results(kill_to_restarted=1.3, restart_storm=1100)
    assert [verdict.reached for verdict in targets.judge(slow)] == [False, True, False]
    assert [verdict.reached for verdict in targets.judge(quick)] == [True, True, True]


def test_a_target_without_its_peer_is_not_judged():
    found = desk.Results()
    found.add("stop of 1000", "ocelot", "ms", 70)
    assert targets.judge(found) == []


def test_the_table_and_the_picture_show_everybody():
    found = results(kill_to_restarted=1.5)
    assert "1.50 ms" in report.markdown(found)
    assert "1.40 ms (0.93x)" in report.markdown(found)
    texts = [element.text for element in xml.etree.ElementTree.fromstring(picture.svg(found)).iter() if element.text]
    assert {"ocelot", "s6", "C loop", "kill -9 to restarted"} <= set(texts)
