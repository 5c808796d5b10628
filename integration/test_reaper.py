"""The reaper as PID 1 of a namespace: every status right, no zombie left, quickly."""

import os
import subprocess
import sys

import pytest

from integration.scenarios import in_namespace

pytestmark = pytest.mark.root


def test_every_exit_code_and_every_signal_is_recorded():
    result = in_namespace("statuses")
    assert result["wrong"] == []
    assert result["reaped"] == 256 + result["signals"]
    assert result["signals"] > 50


def test_2000_children_among_dying_orphans_all_have_their_right_status():
    result = in_namespace("crowd", 2000)
    assert result["wrong"] == []
    assert result["orphans"] == result["expected_orphans"] == 2000
    assert result["children"] == 2000 + 100
    assert (result["zombies"], result["parked"], result["living"]) == (0, 0, 0)


def test_20000_orphans_leave_no_zombie_and_hold_nobody_up():
    result = in_namespace("orphans", 20000)
    print(f"20,000 orphans reaped in {result['seconds']:.2f}s, longest lag {result['longest_lag'] * 1000:.0f}ms")
    assert (result["orphans"], result["zombies"]) == (20000, 0)
    assert result["longest_lag"] < 2


def test_whoever_is_left_in_the_end_is_told_and_then_killed():
    result = in_namespace("end_all")
    assert 0.5 <= result["took"] < 4
    assert (result["left"], result["living"]) == (0, 0)


def test_a_child_that_dies_before_it_is_looked_at_is_not_lost():
    result = in_namespace("early_deaths")
    assert result["right"] == result["of"] == 200
    assert (result["parked"], result["orphans"]) == (0, 0)


def test_a_stopped_child_has_not_ended_and_hides_no_death():
    assert in_namespace("stopped_child") == {"probe": 4, "alive": True, "status": "was killed by SIGKILL"}


def test_a_leader_takes_its_group_along_but_not_its_daemons():
    assert in_namespace("leftovers") == {"status": 5, "alive": 1}


def test_a_reaper_that_is_not_pid_1_adopts_orphans():
    script = (
        "import trio, os, sys\n"
        "from integration.scenarios import reaping, perl\n"
        "async def main():\n"
        "    async with reaping() as reaper:\n"
        "        await reaper.spawn(perl('if (!fork) { if (!fork) { exit 0 } } else { wait }')).wait()\n"
        "        while not reaper.orphans_reaped:\n"
        "            await trio.sleep(0.01)\n"
        "        print('adopted')\n"
        "assert os.getpid() != 1\n"
        "trio.run(main)\n"
    )
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, cwd=folder)
    assert done.stdout == "adopted\n", done.stderr
