"""Whether and when a process is started again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot.config.structs import RestartPolicy, RestartType
from ocelot.states import Cause, ExitStatus
from supervisor.lifecycle import Event
from supervisor.restart import End, backoff, decide

OK = End(ExitStatus(code=0), Cause.EXIT, 1.0)
FAILED = End(ExitStatus(code=1), Cause.EXIT, 1.0)
KILLED = End(ExitStatus(signal=9), Cause.SIGNAL, 1.0)
NEVER_RAN = End(None, Cause.SPAWN_FAILED)


def after(end, *, restarts=0, oneshot=False, jitter=1.0, **policy):
    return decide(RestartPolicy(**policy), restarts, end, oneshot=oneshot, jitter=lambda: jitter)


@pytest.mark.parametrize(
    ("kind", "end", "event"),
    [
        (RestartType.NEVER, OK, Event.DONE),
        (RestartType.NEVER, FAILED, Event.DONE),
        (RestartType.NEVER, KILLED, Event.DONE),
        (RestartType.NEVER, NEVER_RAN, Event.GIVE_UP),
        (RestartType.ON_FAILURE, OK, Event.DONE),
        (RestartType.ON_FAILURE, FAILED, Event.RETRY),
        (RestartType.ON_FAILURE, KILLED, Event.RETRY),
        (RestartType.ON_FAILURE, NEVER_RAN, Event.RETRY),
        (RestartType.ALWAYS, OK, Event.RETRY),
        (RestartType.ALWAYS, FAILED, Event.RETRY),
        (RestartType.ALWAYS, KILLED, Event.RETRY),
        (RestartType.ALWAYS, NEVER_RAN, Event.RETRY),
        (RestartType.UNLESS_STOPPED, OK, Event.RETRY),
        (RestartType.UNLESS_STOPPED, NEVER_RAN, Event.RETRY),
    ],
)
def test_what_each_policy_does_with_each_end(kind, end, event):
    assert after(end, type=kind).event is event


def test_success_is_what_the_file_says():
    codes = {"success_exit_codes": (0, 3), "type": RestartType.ON_FAILURE}
    assert after(End(ExitStatus(code=3), Cause.EXIT), **codes).event is Event.DONE
    assert after(End(ExitStatus(code=4), Cause.EXIT), **codes).event is Event.RETRY
    assert after(OK, success_exit_codes=(3,), type=RestartType.ON_FAILURE).event is Event.RETRY


def test_a_oneshot_that_succeeded_is_done_under_every_policy():
    for kind in RestartType:
        assert after(OK, type=kind, oneshot=True).event is Event.DONE
    assert after(FAILED, type=RestartType.ALWAYS, oneshot=True).event is Event.RETRY


@pytest.mark.parametrize("end", [OK, FAILED, KILLED, NEVER_RAN])
@pytest.mark.parametrize("most", [0, 1, 5])
def test_retries_are_exhausted_by_every_kind_of_end(end, most):
    restarts = 0
    for _ in range(most):
        decision = after(end, type=RestartType.ALWAYS, max_retries=most, restarts=restarts)
        assert decision.event is Event.RETRY
        restarts = decision.restarts
    decision = after(end, type=RestartType.ALWAYS, max_retries=most, restarts=restarts)
    assert decision.event is Event.GIVE_UP
    assert "maxRetries" in decision.reason


def test_a_long_life_forgets_past_failures():
    long_lived = End(ExitStatus(code=1), Cause.EXIT, 60.0)
    decision = after(long_lived, type=RestartType.ALWAYS, max_retries=3, restarts=3)
    assert (decision.event, decision.restarts, decision.delay) == (Event.RETRY, 1, 2.0)
    short = End(ExitStatus(code=1), Cause.EXIT, 59.9)
    assert after(short, type=RestartType.ALWAYS, max_retries=3, restarts=3).event is Event.GIVE_UP


def test_what_never_ran_had_no_long_life():
    policy = {"type": RestartType.ALWAYS, "max_retries": 1, "reset_after": 0.0}
    assert after(NEVER_RAN, restarts=1, **policy).event is Event.GIVE_UP
    assert after(FAILED, restarts=1, **policy).event is Event.RETRY


def test_the_delay_doubles_up_to_its_maximum():
    delays = [after(FAILED, type=RestartType.ALWAYS, restarts=n).delay for n in range(7)]
    assert delays == [2, 4, 8, 16, 32, 60, 60]


def test_no_backoff_means_at_once_for_ever():
    assert [after(FAILED, type=RestartType.ALWAYS, backoff=0.0, restarts=n).delay for n in (0, 1, 99)] == [0, 0, 0]


def test_jitter_spreads_growing_delays_and_leaves_constant_ones_alone():
    assert after(FAILED, type=RestartType.ALWAYS, jitter=1.2).delay == pytest.approx(2.4)
    assert after(FAILED, type=RestartType.ALWAYS, jitter=1.2, multiplier=1.0, restarts=9).delay == 2.0


@pytest.mark.parametrize(("first", "expected"), [(0.001, 60.0), (0.0, 0.0)])
def test_growth_beyond_all_numbers_ends_at_the_maximum_too(first, expected):
    policy = {"type": RestartType.ALWAYS, "multiplier": 1e200, "backoff": first}
    assert [after(FAILED, restarts=n, **policy).delay for n in (2, 99)] == [expected, expected]


@given(
    restarts=st.integers(0, 10**9),
    first=st.floats(0, 1e6),
    most=st.floats(0, 1e6),
    multiplier=st.floats(1, allow_infinity=False),
    factor=st.floats(0.5, 2),
)
def test_the_delay_is_never_negative_nor_above_its_maximum(restarts, first, most, multiplier, factor):
    policy = RestartPolicy(backoff=first, max_backoff=most, multiplier=multiplier)
    assert 0 <= backoff(policy, restarts, lambda: factor) <= most
