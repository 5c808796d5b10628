"""What each signal to PID 1 does: a table, printed in the README, and the task that listens.

It joins three conventions that never contradict each other on the same kind of machine: systemd's real-time signals, busybox's
SIGUSR1 and SIGUSR2 (so that busybox ``halt`` and ``poweroff`` work in the guest), and that of container engines, which
send SIGTERM, or what an image calls its STOPSIGNAL, and pass on the rest for the main program.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import trio

from ocelot.linux.identity import Identity
from ocelot.states import PowerVerb, signal_name


class Action(enum.StrEnum):
    SHUT_DOWN = "shut down"  # stop everything in order; then `verb`, or shutdown.action of the configuration
    HURRY = "hurry"  # everything is being stopped: no more grace
    RELOAD = "reload"
    FORWARD = "forward"  # to the main process: the essential ones, or the only one
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Response:
    """What is done about signal ``number``. ``verb`` None: the configured ``shutdown.action``. ``meaning``: in words."""

    number: int
    action: Action
    meaning: str
    verb: PowerVerb | None = None


def _shut_down(number: int, words: str = "", verb: PowerVerb | None = None) -> Response:
    then = "then shutdown.action" if verb is None else f"then {verb.value}"
    return Response(number, Action.SHUT_DOWN, f"shuts down in order, {then}{words}", verb)


_INT = " (Ctrl-Alt-Del); a second one while going down kills what is left at once"

MACHINE = (
    _shut_down(signal.SIGTERM),
    _shut_down(signal.SIGINT, _INT),
    _shut_down(signal.SIGQUIT),
    _shut_down(signal.SIGPWR, " (power failure)", PowerVerb.POWEROFF),
    Response(signal.SIGHUP, Action.RELOAD, "reloads the configuration file, as ocelotctl reload does"),
    _shut_down(signal.SIGUSR1, " (busybox halt)", PowerVerb.HALT),
    _shut_down(signal.SIGUSR2, " (busybox poweroff)", PowerVerb.POWEROFF),
    Response(signal.SIGWINCH, Action.NOTHING, "nothing (the keyboard request of the console)"),
    _shut_down(signal.SIGRTMIN + 3, " (systemd halt)", PowerVerb.HALT),
    _shut_down(signal.SIGRTMIN + 4, " (systemd poweroff)", PowerVerb.POWEROFF),
    _shut_down(signal.SIGRTMIN + 5, " (systemd reboot)", PowerVerb.REBOOT),
)
"""For the init of a machine."""

_FORWARD = "passed to the main process: the essential ones, or the only one; else only logged"

ELSEWHERE = (
    Response(signal.SIGTERM, Action.SHUT_DOWN, "stops everything in order and exits"),
    Response(
        signal.SIGINT,
        Action.SHUT_DOWN,
        "stops everything in order and exits; a second one while stopping kills what is left at once",
    ),
    Response(signal.SIGQUIT, Action.SHUT_DOWN, "stops everything in order and exits"),
    Response(signal.SIGPWR, Action.SHUT_DOWN, "stops everything in order and exits"),
    Response(signal.SIGHUP, Action.RELOAD, "reloads the configuration file, as ocelotctl reload does"),
    Response(signal.SIGUSR1, Action.FORWARD, _FORWARD),
    Response(signal.SIGUSR2, Action.FORWARD, _FORWARD),
    Response(signal.SIGWINCH, Action.FORWARD, _FORWARD),
    *(
        Response(signal.SIGRTMIN + offset, Action.SHUT_DOWN, "stops everything in order and exits")
        for offset in (3, 4, 5)
    ),
)
"""For PID 1 of a container, and for an ordinary process."""


def responses(identity: Identity) -> tuple[Response, ...]:
    """What each signal means to ocelot, by who it is; those that are not listed are left as they were."""
    return MACHINE if identity is Identity.MACHINE else ELSEWHERE


async def listen(
    handle: Callable[[Response], None],
    identity: Identity,
    arrived: set[int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call ``handle`` for each signal of the table until cancelled. Main thread only.

    ``arrived`` holds the signals that have been received and not been handled yet: an image that is replaced would take them
    with it. A SIGINT after any signal that began a shutdown comes as :attr:`Action.HURRY`.
    """
    table = {response.number: response for response in responses(identity)}
    going_down = False
    with trio.open_signal_receiver(*table) as received:
        for number in table:
            _note(number, arrived)
        task_status.started()
        async for number in received:
            arrived.discard(number)
            response = table[number]
            if going_down and number == signal.SIGINT:
                handle(Response(number, Action.HURRY, "kills what is left"))
                continue
            going_down = going_down or response.action is Action.SHUT_DOWN
            handle(response)


def _note(number: int, arrived: set[int]) -> None:
    """Put a handler before trio's, which trio itself takes away with its own at the end."""
    deliver = signal.getsignal(number)
    assert callable(deliver)

    def handler(number: int, frame: FrameType | None) -> None:
        arrived.add(number)
        deliver(number, frame)

    signal.signal(number, handler)


def markdown() -> str:
    """The table for the README."""
    lines = ["| signal | on a machine | in a container, on a desk |", "|---|---|---|"]
    for machine, elsewhere in zip(MACHINE, ELSEWHERE, strict=True):
        lines.append(f"| {signal_name(machine.number)} | {machine.meaning} | {elsewhere.meaning} |")
    lines.append("| SIGCHLD | reaps | reaps |")
    return "\n".join(lines) + "\n"
