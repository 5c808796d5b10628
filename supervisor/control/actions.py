"""Start, stop, restart and signal as the control socket offers them: names and patterns, waiting, and what came of it."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Sequence
from fnmatch import translate
from typing import TYPE_CHECKING

import trio

from ocelot.errors import ControlError, OcelotError, describe
from ocelot.wire.protocol import ActionReply, ActionRequest, ProcessStatus, ScaleRequest
from supervisor.control.waiting import Arrived, gone, has_started, has_stopped, settle

if TYPE_CHECKING:
    from supervisor.controlled import Supervised

PATTERNS = 100
"""Patterns of one request: each is held against every name, and nobody else is served meanwhile."""

_TOKEN = 64
"""Characters of a token that count."""


async def act(supervisor: Supervised, verb: str, request: ActionRequest, patience: trio.CancelScope) -> ActionReply:
    """Do ``verb`` (start, stop, restart, signal, reload, rotate) to the processes that ``request`` names, and wait if it says so.

    ``patience``: cancelled when there is nobody any more who waits; what was asked for is done nevertheless. Raises ControlError for unknown names, a bad signal, or a signal to a process that does not run.
    """
    names = resolve(supervisor.names, request.names)
    if verb == "signal":
        send_signal(supervisor, names, request.signal)
        return ActionReply(processes=[supervisor.status(name) for name in names])
    if verb == "rotate":
        rotate(supervisor, names)
        return ActionReply(processes=[supervisor.status(name) for name in names])
    token = request.token[:_TOKEN]
    asked = supervisor.under_way.get(token)
    try:
        if asked is not None:
            await supervisor.accepted(names)
        else:
            asked = {name: _life_of(verb, supervisor.status(name)) for name in names}
            if token:  # here nothing waits: it is noted if, and only if, it is asked for
                supervisor.under_way[token] = asked
            await _ask(supervisor, verb, names)
        arrived = {name: _arrived(supervisor, verb, name, asked.get(name)) for name in names}
        with patience:
            return await settle(supervisor, arrived, request.timeout if request.wait else 0.0)
        raise gone()
    finally:
        supervisor.under_way.pop(token, None)


async def _ask(supervisor: Supervised, verb: str, names: Sequence[str]) -> None:
    match verb:
        case "start":
            await supervisor.start(names)
        case "stop":
            await supervisor.stop(names)
        case "restart":
            await supervisor.restart(names)
        case _:
            tell_to_reload(supervisor, names)


def _life_of(verb: str, status: ProcessStatus) -> float | None:
    """What tells this life of a process from the next one. In a reload it may hand over to another pid."""
    return status.started_at if verb == "reload" else status.pid


def _arrived(supervisor: Supervised, verb: str, name: str, life: float | None) -> Arrived:
    if verb == "reload":
        notify = supervisor.config(name).notify
        return _reloaded_in(life, says=notify is not None and notify.kind == "systemd" and notify.reload)
    if verb == "restart":
        return _restarted_since(life)
    return has_stopped if verb == "stop" else has_started


async def scale(supervisor: Supervised, name: str, request: ScaleRequest, patience: trio.CancelScope) -> ActionReply:
    """Let ``name`` have so many replicas, and wait until the new ones are up and the others gone if it says so.

    ``patience`` is as for :func:`act`. Raises ControlError for an unknown name, one without replicas, or a number that cannot be.
    """
    before = set(supervisor.names)
    await supervisor.scale(name, request.replicas)
    members = [each for each in supervisor.names if each.startswith(f"{name}[")][: request.replicas]
    going = {each for each in before if each.startswith(f"{name}[")} - set(members)
    began = trio.current_time()
    with patience:
        reply = await settle(supervisor, dict.fromkeys(members, has_started), request.timeout if request.wait else 0.0)
        with trio.move_on_at(began + request.timeout if request.wait else -math.inf):
            while going & set(supervisor.names):
                await supervisor.changed().wait()
        reply.settled = reply.settled and not going & set(supervisor.names)
        return reply
    raise gone()


def _reloaded_in(life: float | None, *, says: bool) -> Arrived:
    """``says``: whether the process tells when it has reloaded; else nobody knows more than that it got the signal."""

    def arrived(status: ProcessStatus) -> bool | None:
        if not says:
            return True
        if status.pid is None or status.started_at != life:
            return False
        notify = status.health.notify if status.health is not None else None
        return True if notify is not None and notify.reload == "done" else None

    return arrived


def _restarted_since(pid: float | None) -> Arrived:
    def arrived(status: ProcessStatus) -> bool | None:
        if pid is not None and status.pid == pid:
            return None
        return has_started(status)

    return arrived


# -- names and signals


def resolve(known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The names that ``wanted`` (names, glob patterns, names of replicated entries) stands for, in the order of ``known``.

    Raises ControlError: 404 for a name or pattern that fits nothing, 400 for an empty list or too many patterns.
    """
    if not wanted:
        raise ControlError(
            "cannot tell which process is meant: no name was given",
            hint='name one or several, or "*" for all',
            status=400,
            kind="bad-request",
        )
    found: set[str] = set()
    everything = set(known)
    replicas: dict[str, set[str]] = {}
    for name in known:
        if "[" in name:
            replicas.setdefault(name.partition("[")[0], set()).add(name)
    patterns = 0
    for text in dict.fromkeys(wanted):
        matches = {text} & everything or replicas.get(text.removesuffix("[*]"), set())
        if not matches and any(mark in text for mark in "*?["):
            patterns += 1
            if patterns > PATTERNS:
                raise ControlError(
                    f"cannot look for so many patterns at once: at most {PATTERNS}", status=400, kind="bad-request"
                )
            pattern = re.compile(translate(text))
            matches = {name for name in known if pattern.match(name) or pattern.match(name.partition("[")[0])}
            if not matches and text == "*":
                continue  # all of none is none
        if not matches:
            raise unknown(text, known)
        found |= matches
    return [name for name in known if name in found]


def unknown(name: str, known: Sequence[str]) -> ControlError:
    """The error for a process that does not exist, with the nearest name that does."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    replicas = [each for each in known if each.startswith(f"{name}[")]
    if replicas:
        hint = f'it has replicas: name one of them, such as "{replicas[0]}"'
    elif near:
        hint = f'did you mean "{near[0]}"?'
    else:
        hint = "there are: " + ", ".join(known[:8]) + (", ..." if len(known) > 8 else "") if known else "there are none"
    return ControlError(f'cannot find the process "{name}"', hint=hint, status=404, kind="no-such-process")


def send_signal(supervisor: Supervised, names: Sequence[str], wanted: str | int | None) -> None:
    """To the processes themselves, not their groups. Raises ControlError: no such signal, or one of them does not run."""
    number = signal_number(wanted)
    _refuse_idle(supervisor, names)
    supervisor.signal(names, number)


def tell_to_reload(supervisor: Supervised, names: Sequence[str]) -> None:
    """Send each its ``reloadSignal``. Raises ControlError if one has none, or does not run; then nobody gets any."""
    numbers = {name: supervisor.config(name).reload_signal for name in names}
    for name, number in numbers.items():
        if number is None:
            raise ControlError(
                f'cannot reload "{name}": it has no reloadSignal',
                hint=f"add reloadSignal to it, or use ocelotctl restart {name}",
                status=409,
                kind="no-reload-signal",
            )
    _refuse_idle(supervisor, names)
    supervisor.reload(names)


def _refuse_idle(supervisor: Supervised, names: Sequence[str]) -> None:
    idle = [name for name in names if supervisor.status(name).pid is None]
    if idle:
        raise ControlError(
            f'cannot signal "{idle[0]}": it does not run',
            hint=f"it is {supervisor.status(idle[0]).state}; start it first, or leave it out",
            status=409,
            kind="not-running",
        )


def rotate(supervisor: Supervised, names: Sequence[str]) -> None:
    """Rotate the log files of ``names``. Raises ControlError when none has one, or when it cannot be done."""
    found = 0
    for name in names:
        try:
            found += supervisor.outputs[name].rotate()
        except (OSError, OcelotError) as error:
            raise ControlError(
                f'cannot rotate the log of "{name}": {describe(error)}', status=500, kind="not-rotated"
            ) from None
    if not found:
        raise ControlError(
            "cannot rotate anything: none of these processes writes to a file",
            hint="a log is a file when its destination is {type: file, path: ...}",
            status=409,
            kind="no-log-file",
        )


def signal_number(wanted: str | int | None) -> int:
    """15 for SIGTERM, TERM, term, "15" or 15; SIGRTMIN+n too. Raises ControlError (400)."""
    if isinstance(wanted, int) or re.fullmatch("[0-9]{1,3}", wanted or ""):
        number = int(wanted or 0)
        if 1 <= number <= signal.SIGRTMAX:
            return number
    else:
        name = (wanted or "").upper().removeprefix("SIG")
        base, plus, offset = name.partition("+")
        counted = plus and base == "RTMIN" and re.fullmatch("[0-9]{1,2}", offset)
        if counted and signal.SIGRTMIN + int(offset) <= signal.SIGRTMAX:
            return signal.SIGRTMIN + int(offset)
        member = signal.Signals.__members__.get(f"SIG{name}")
        if member is not None:
            return int(member)
    raise ControlError(
        f'cannot send the signal "{wanted}": there is no such signal'
        if wanted
        else "cannot send a signal: none was given",
        hint="name it as in signal(7), for example HUP or SIGTERM",
        status=400,
        kind="bad-request",
    )
