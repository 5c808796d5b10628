"""What happens: the events stream, and waiting for something to have happened."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from ocelot.errors import ControlError, OcelotError, UsageError
from ocelot.verbs.arguments import Add, duration, names, query
from ocelot.verbs.outcome import FAILED, OK, TIMED_OUT, complain, told
from ocelot.verbs.terminal import colour, columns, print_json
from ocelot.wire.client import Client, call

CONDITIONS = ("ready", "running", "exited", "completed", "stopped")


def _add_events(command: ArgumentParser) -> None:
    names(command, "*")
    command.add_argument("-f", "--follow", action="store_true", help="go on with new events until interrupted")
    command.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N events")
    command.add_argument("--after", type=int, metavar="NUMBER", help="only events after the one of this number")
    command.set_defaults(run=_events)


def _events(options: Namespace) -> int:
    from ocelot.wire.tables import event_printer

    if options.lines is not None and options.lines < 0:
        raise UsageError("cannot show less than no events", hint="give --lines a number from 0 up")
    show = event_printer(colour=colour(), raw=options.json)
    last: int | None = options.after
    again = False
    while True:
        for line, number in _stream(options, last, again=again):
            print(show(line), flush=options.follow)
            last = number if number is not None else last
        if not options.follow:
            return OK
        again = True  # another ocelot may have taken over (reexec), which knows what this one has written down


def _stream(options: Namespace, after: int | None, *, again: bool = False) -> Iterator[tuple[bytes, int | None]]:
    """Lines of events with their numbers, until the connection ends.

    ``again``: it has ended before; go on after the number ``after``, as soon as somebody answers. Raises ControlError.
    """
    import json

    count = None if again else options.lines
    given = {"n": count, "after": after, "follow": "true" if options.follow else None}
    parameters = [(name, str(value)) for name, value in given.items() if value is not None]
    with _connect(options, patient=again) as client:
        reply = client.request("GET", "/v1/events" + query(options.names, parameters))
        if reply.status != 200:
            raise told(reply.status, reply.read())
        try:
            for line in reply.lines():
                yield line, json.loads(line).get("number")
        except ControlError as error:
            if not options.follow or error.kind != "unreachable":
                raise


def _connect(options: Namespace, *, patient: bool) -> Client:
    """``patient``: try for some seconds."""
    import time

    delay = 0.05
    while True:
        try:
            return Client(options.socket, None if options.follow else 30.0)
        except ControlError as error:
            if not patient or error.kind != "unreachable" or delay > 2.0:
                raise
        time.sleep(delay)
        delay *= 2


def _add_wait(command: ArgumentParser) -> None:
    names(command, "+")
    command.add_argument(
        "--for",
        dest="condition",
        choices=CONDITIONS,
        default="ready",
        help="what to wait for: ready (its probes are content; the default), running, exited (however), "
        "completed (exited with success), stopped (nothing of it runs)",
    )
    command.add_argument(
        "-t", "--timeout", type=duration, default=90.0, metavar="TIME", help="how long to wait, such as 30s (90s)"
    )
    command.epilog = (
        "It ends with 0 when all have arrived there, with 1 as soon as one cannot any more, with 6 after TIME."
    )
    command.set_defaults(run=_wait)


def _wait(options: Namespace) -> int:
    from ocelot.wire.tables import process_table

    body = {"names": options.names, "condition": options.condition, "timeout": options.timeout}
    reply = call(options.socket, "POST", "/v1/processes/wait", body, timeout=options.timeout + 30.0)
    if options.json:
        print_json(reply)
    else:
        for line in process_table(reply["processes"], width=columns(), colour=colour()):
            print(line)
    if reply["failed"]:
        name = reply["failed"][0]
        why = _why(next(process for process in reply["processes"] if process["name"] == name))
        hint = f"ocelotctl logs {name} shows what it wrote"
        return complain(OcelotError(f'cannot wait until "{name}" is {options.condition}: {why}', hint=hint), FAILED)
    if not reply["settled"]:
        return complain(
            OcelotError(
                f"cannot wait any longer: not {options.condition} within {options.timeout:g}s",
                hint="give it more --timeout, or see ocelotctl status for what it is waiting for",
            ),
            TIMED_OUT,
        )
    return OK


def _why(process: dict[str, Any]) -> str:
    reason: str = process["reason"]
    return reason or f"it is {process['state']}"


COMMANDS: dict[str, Add] = {"events": _add_events, "wait": _add_wait}
