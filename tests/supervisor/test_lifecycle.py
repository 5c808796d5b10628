"""The table, over every state and every event."""

import itertools

import pytest

from ocelot.states import State
from supervisor.lifecycle import ALIVE, ENDED, TABLE, Event, ImpossibleEvent, advance

S, E = State, Event

# Written a second time, by hand and the other way round: for each event, where it leads from where
EXPECTED = {
    E.START: {
        S.STOPPED: S.STARTING,
        S.WAITING: S.STARTING,
        S.BACKOFF: S.STARTING,
        S.EXITED: S.STARTING,
        S.FATAL: S.STARTING,
    },
    E.HOLD: {
        S.STOPPED: S.WAITING,
        S.WAITING: S.WAITING,
        S.BACKOFF: S.WAITING,
        S.EXITED: S.WAITING,
        S.FATAL: S.WAITING,
    },
    E.SPAWNED: {S.STARTING: S.STARTING},
    E.READY: {S.STARTING: S.RUNNING, S.RUNNING: S.RUNNING},
    E.UNREADY: {S.RUNNING: S.RUNNING},
    E.STOP: {
        S.STOPPED: S.STOPPED,
        S.WAITING: S.STOPPED,
        S.STARTING: S.STOPPING,
        S.RUNNING: S.STOPPING,
        S.STOPPING: S.STOPPING,
        S.BACKOFF: S.STOPPED,
        S.EXITED: S.EXITED,
        S.FATAL: S.FATAL,
    },
    E.GONE: {S.STARTING: S.STOPPED, S.STOPPING: S.STOPPED},
    E.RETRY: {S.STARTING: S.BACKOFF, S.RUNNING: S.BACKOFF, S.STOPPING: S.BACKOFF},
    E.DONE: {S.STARTING: S.EXITED, S.RUNNING: S.EXITED, S.STOPPING: S.EXITED},
    E.GIVE_UP: {S.WAITING: S.FATAL, S.STARTING: S.FATAL, S.RUNNING: S.FATAL, S.STOPPING: S.FATAL},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_meets_every_event(state, event):
    if state in EXPECTED[event]:
        assert advance(state, event) is EXPECTED[event][state]
    else:
        with pytest.raises(ImpossibleEvent, match=f"{event.value} cannot happen while {state.value}"):
            advance(state, event)


def test_every_state_can_be_reached_and_left():
    reached = {after for row in TABLE.values() for after in row.values()}
    assert reached == set(State)
    for state, row in TABLE.items():
        assert set(row.values()) - {state}, f"{state} is a trap"


def test_a_stop_leads_out_of_life_and_never_into_it():
    for state in State:
        after = advance(state, Event.STOP)
        assert after is State.STOPPING or after not in ALIVE
    assert not ALIVE & ENDED
