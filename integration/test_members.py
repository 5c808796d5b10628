"""Signals to what a session has left behind."""

import signal
import subprocess

from supervisor.children.members import signal_session


def session(script: str) -> subprocess.Popen[bytes]:
    """A shell that leads a session of its own and says on a line that ``script`` has begun."""
    started = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert started.stdout is not None
    assert started.stdout.readline() == b"begun\n"
    return started


def test_what_a_leader_has_left_behind_is_signalled() -> None:
    leader = session("sleep 1000 & echo begun; exit 0")
    assert leader.wait() == 0
    assert leader.stdout is not None
    signal_session(leader.pid, signal.SIGKILL, reaped=True)
    assert leader.stdout.read() == b""  # the end of the pipe, which the one left behind had open
    leader.stdout.close()


def test_a_leader_that_is_not_reaped_is_signalled_with_the_rest() -> None:
    leader = session("sleep 1000 & echo begun; wait")
    signal_session(leader.pid, signal.SIGKILL, reaped=False)
    assert leader.wait() == -signal.SIGKILL
    assert leader.stdout is not None
    assert leader.stdout.read() == b""
    leader.stdout.close()


def test_a_number_that_has_a_process_again_is_anothers() -> None:
    leader = session("echo begun; exec sleep 1000")
    try:
        signal_session(leader.pid, signal.SIGKILL, reaped=True)
        assert leader.poll() is None
        leader.terminate()
        assert leader.wait() == -signal.SIGTERM  # the first signal that it got
    finally:
        leader.kill()
        leader.communicate()
