"""The supervisor with real children, as PID 1 of a namespace."""

import shutil

import pytest

from integration.scenarios import in_namespace

pytestmark = pytest.mark.root


def test_from_kill_9_to_the_restart():
    result = in_namespace("restart_latency", 200)
    print(f"kill -9 to restart: median {result['median_ms']:.2f}ms, worst {result['worst_ms']:.2f}ms")
    assert result["restarts"] == {"signal": 200}
    assert result["median_ms"] < 100  # the machine may be busy; a poller would need hundreds


@pytest.mark.parametrize("output", ["quiet", "relayed"])
def test_a_thousand_processes(output):
    result = in_namespace("thousand", 1000, output)
    print(
        f"1,000 processes ({output}): started in {result['start_seconds']:.2f}s, stopped in"
        f" {result['stop_seconds']:.2f}s, {result['kib_each']:.1f} KiB each,"
        f" {result['wakeups_in_2s']} wake-ups in 2s"
    )
    assert result["wakeups_in_2s"] == 0
    assert (result["left"], result["zombies"]) == (0, 0)
    assert result["start_seconds"] < 20
    assert result["kib_each"] < 20


def test_stopping_reaches_the_whole_group_and_respects_its_grace():
    result = in_namespace("stubborn")
    took = result["took"]
    assert 1.5 <= took["ignores"] < 5  # killed after the grace period
    assert 1.5 <= took["outlived"] < 5  # the leader went at once, its worker did not
    assert 0.3 <= took["slow"] < 1.5  # the worker took its time, within the grace period
    assert took["frozen"] < 1.0  # SIGSTOPped: continued to see its SIGTERM
    assert result["graceful"]
    assert (result["left"], result["zombies"]) == (0, 0)


def test_failed_starts_go_through_the_restart_policy():
    result = in_namespace("failed_exec")
    assert result["later"]["spawn-failed"] >= 3
    assert result["never"] == ["fatal", 3, 127, "spawn-failed"]
    assert result["zombies"] == 0


@pytest.mark.parametrize(
    ("commands", "status", "decided"),
    [
        (["true", "true"], 0, None),
        (["true", "exit 7"], 7, "p1"),
        (["sleep 0.3; exit 5", "exit 7"], 7, "p1"),
        (["exit 7", "sleep 0.3; exit 5"], 7, "p0"),
        (["!exit 3", "sleep 1000"], 3, "p0"),
        (["!true", "exit 9"], 0, "p0"),
        (["!sleep 0.3; exit 4", "exit 9", "sleep 1000"], 4, "p0"),
        (["kill -9 $$"], 137, "p0"),
        (["!kill -SEGV $$", "sleep 1000"], 139, "p0"),
    ],
)
def test_the_ending_and_its_status(commands, status, decided):
    result = in_namespace("endings", *commands)
    assert (result["status"], result["process"], result["zombies"]) == (status, decided, 0)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
def test_programs_of_the_boot():
    result = in_namespace("programs")
    assert result["status"] == "exited with status 3"
    lines = result["output"].splitlines()
    assert [line for line in lines if line != "also"] == ["said", "/proc", "hangs"]
    assert lines.count("also") == 1  # on standard error, a pipe of its own: anywhere among the others
    assert 2.5 <= result["too_slow"] < 6  # it ignores SIGTERM: two seconds more
    assert 0.5 <= result["cancelled"] < 2.0
    assert result["left"] == 0  # of both, with their groups
    assert result["background"] == 1  # what a program that ended well left behind lives on
    status, terminal, said = result["terminal"]
    lines = said.split("\r\n")
    assert lines[0] == terminal
    assert len(set(lines[1].split())) == 1  # pid, group, session and foreground group are one
    assert "^Cinterrupted" in said
    assert status == "exited with status 9"
    assert result["again"] == "exited with status 6"
