"""The life of a supervised process as a table: state and event give the next state. No I/O, no clock.

What the table lacks raises :class:`ImpossibleEvent`: that is a bug in whoever sent the event, and changes nothing.
An event that is possible but means nothing in a state leads back to it, and is written down as such.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from ocelot.states import Cause, State


class Event(enum.StrEnum):
    """What happened to a process. What it means for the next start has been decided before (see ``restart``)."""

    START = "start"  # it is to run now: somebody asked, a dependency is met, or its backoff is over
    HOLD = "hold"  # it is to run, but a dependency is not met
    SPAWNED = "spawned"  # its program runs, and its readiness is awaited
    READY = "ready"  # it is as ready as anybody can tell
    UNREADY = "unready"  # it runs, but its readiness has gone
    STOP = "stop"  # it is to end
    GONE = "gone"  # it ended as it was asked to, perhaps before it had begun
    RETRY = "retry"  # it ended (or never began), and will be started again
    DONE = "done"  # it ended, and that was that
    GIVE_UP = "give-up"  # it ended (or never began), and will not be tried again


@dataclass(frozen=True, slots=True)
class Change:
    """A state that was left for another, and why. ``cause`` is set when a process ended or never ran."""

    name: str
    before: State
    after: State
    event: Event
    reason: str
    cause: Cause | None = None


class ImpossibleEvent(Exception):
    """The table has no entry: a bug of ours."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event} cannot happen while {state}")
        self.state = state
        self.event = event


_ENDINGS = {Event.RETRY: State.BACKOFF, Event.DONE: State.EXITED, Event.GIVE_UP: State.FATAL}
_AT_REST = {Event.START: State.STARTING, Event.HOLD: State.WAITING}

TABLE: Mapping[State, Mapping[Event, State]] = {
    State.STOPPED: {**_AT_REST, Event.STOP: State.STOPPED},
    State.WAITING: {
        Event.START: State.STARTING,
        Event.HOLD: State.WAITING,
        Event.STOP: State.STOPPED,
        Event.GIVE_UP: State.FATAL,  # what it waits for has failed for good
    },
    State.STARTING: {
        **_ENDINGS,
        Event.SPAWNED: State.STARTING,
        Event.READY: State.RUNNING,
        Event.STOP: State.STOPPING,
        Event.GONE: State.STOPPED,
    },
    State.RUNNING: {
        **_ENDINGS,
        Event.READY: State.RUNNING,
        Event.UNREADY: State.RUNNING,
        Event.STOP: State.STOPPING,
    },
    State.STOPPING: {**_ENDINGS, Event.GONE: State.STOPPED, Event.STOP: State.STOPPING},
    State.BACKOFF: {**_AT_REST, Event.STOP: State.STOPPED},
    # How it ended stays visible when somebody stops what has already ended
    State.EXITED: {**_AT_REST, Event.STOP: State.EXITED},
    State.FATAL: {**_AT_REST, Event.STOP: State.FATAL},
}

ALIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""A process of the operating system may exist."""

ENDED = frozenset({State.EXITED, State.FATAL})
"""It ended by itself, and nothing but an operator starts it again."""


def advance(state: State, event: Event) -> State:
    """The state after ``event``. Raises :class:`ImpossibleEvent`."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise ImpossibleEvent(state, event) from None
