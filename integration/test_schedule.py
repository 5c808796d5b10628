"""Schedules on real clocks, with real children."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from integration.desk import SLEEPER, desk
from supervisor.schedule import RealClock

QUICK = {"terminationGracePeriod": "5s"}


def job(folder: Path, name: str, schedule: dict[str, Any], *, takes: float = 0.0, **more: Any) -> dict[str, Any]:
    """Writes a line when it starts and one when it ends."""
    script = f'date +%s.%N >> {folder}/{name}; sleep {takes}; echo end >> {folder}/{name}; echo "{name} ran"'
    return {"program": "/bin/sh", "arguments": ["-c", script], "schedule": schedule, **QUICK, **more}


def starts(folder: Path, name: str) -> list[float]:
    try:
        return [float(line) for line in (folder / name).read_text().splitlines() if line != "end"]
    except FileNotFoundError:
        return []


def test_intervals_and_calendars_run_in_time(tmp_path: Path) -> None:
    processes = {
        "often": job(tmp_path, "often", {"every": "300ms"}),
        "calendar": job(tmp_path, "calendar", {"cron": "* * * * * *", "timezone": "Europe/Berlin"}),
        "seldom": job(tmp_path, "seldom", {"cron": "0 4 * * *"}),
    }
    with desk(tmp_path, processes) as machine:
        first = machine.processes()["seldom"]
        assert (first["state"], first["goal"]) == ("waiting", "up")
        assert first["reason"].startswith("next run at 20")
        assert 0 < first["schedule"]["nextRun"] - time.time() <= 25 * 3600
        machine.until(lambda _: len(starts(tmp_path, "often")) >= 5 and len(starts(tmp_path, "calendar")) >= 3)
        status = machine.processes()["calendar"]["schedule"]
        assert status["when"] == "cron * * * * * * (Europe/Berlin)"
        # Asked for out of turn, and gone as soon as it has run
        assert machine.ctl("start", "seldom").returncode == 0
        machine.until(lambda found: len(starts(tmp_path, "seldom")) == 1 and found["seldom"]["state"] == "exited")
        assert "seldom ran" in machine.ctl("logs", "seldom").stdout
        shown = machine.ctl("status", "seldom")
        assert "starts in" in shown.stdout
        assert shown.returncode == 0
        # A stop holds
        assert machine.ctl("stop", "often").returncode == 0
        count = len(starts(tmp_path, "often"))
        assert machine.processes()["often"]["schedule"]["nextRun"] is None
        ticks = len(starts(tmp_path, "calendar"))
        machine.until(lambda _: len(starts(tmp_path, "calendar")) >= ticks + 2)
        assert len(starts(tmp_path, "often")) == count
        assert machine.process.poll() is None
    calendar = starts(tmp_path, "calendar")
    assert all(at % 1 < 0.9 for at in calendar[:3])  # on the second, or later if the machine is busy; never before
    assert machine.process.returncode == 0


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_a_run_that_takes_longer_than_its_interval(tmp_path: Path, overlap: str) -> None:
    processes = {"job": job(tmp_path, "job", {"every": "400ms", "overlap": overlap}, takes=0.9), "other": SLEEPER}
    with desk(tmp_path, processes) as machine:
        machine.until(lambda _: len(starts(tmp_path, "job")) >= 3)
        status = machine.processes()["job"]
        ended = (tmp_path / "job").read_text().count("end")
        if overlap == "replace":
            assert ended == 0
            assert status["restartsByCause"]["schedule"] >= 2
        else:
            assert ended >= 2
            assert status["restarts"] == 0
            assert (status["schedule"]["skipped"] > 0) == (overlap == "skip")


def test_a_timer_of_the_real_clock() -> None:
    async def test() -> float:
        clock = RealClock()
        at = clock.now() + 0.2
        with trio.fail_after(10):
            assert await clock.sleep_until(at, clock.offset())
            assert await clock.sleep_until(at - 100, clock.offset())  # already over
            assert not await clock.sleep_until(at + 100, clock.offset() - 2)  # set before the timer was there
        return clock.now() - at

    assert trio.run(test) >= 0
