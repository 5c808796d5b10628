"""What happens: the events stream, and waiting for something to have happened."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from ocelot.errors import OcelotError, UsageError
from ocelot.verbs.again import await_answer
from ocelot.verbs.arguments import Add, duration, names, query
from ocelot.verbs.outcome import FAILED, OK, TIMED_OUT, complain, look_at, told
from ocelot.verbs.terminal import colour, columns, print_json
from ocelot.wire.client import Client, Cut, call
from ocelot.wire.place import LATEST

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
    lines = happenings(options.socket, options.names, n=options.lines, after=options.after, follow=options.follow)
    for line in lines:
        print(show(line), flush=options.follow)
    return OK


def happenings(
    socket: str, wanted: Sequence[str], *, n: int | None, after: int | None, follow: bool
) -> Iterator[bytes]:
    """Events as JSON. With ``follow`` there is no end to them until ocelot itself ends. Raises ControlError.

    Another ocelot that takes over knows what this one has written down, so by their numbers none is lost or comes twice.
    """
    import json

    latest: str | None = None
    while True:
        given = {"n": n, "after": after, "follow": "true" if follow else None}
        parameters = [(name, str(value)) for name, value in given.items() if value is not None]
        try:
            with Client(socket, None if follow else 30.0) as client:
                reply = client.request("GET", "/v1/events" + query(wanted, parameters))
                if reply.status != 200:
                    raise told(reply.status, reply.read())
                latest = reply.headers.get(LATEST)
                for line in reply.lines():
                    yield line
                    after = json.loads(line).get("number", after)
            return
        except Cut as cut:
            if not follow:
                raise
            await_answer(socket, cut)
        if after is None and latest is not None:
            after = int(latest)
        n = None


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
    from ocelot.verbs.patience import explained
    from ocelot.wire.tables import process_table

    verb = "end" if options.condition in ("exited", "completed") else f"be {options.condition}"
    with explained(options.names, verb):
        reply = _until_there(options)
    if options.json:
        print_json(reply)
    else:
        for line in process_table(reply["processes"], width=columns(), colour=colour()):
            print(line)
    if reply["failed"]:
        name = reply["failed"][0]
        process = next(process for process in reply["processes"] if process["name"] == name)
        message = f'cannot wait until "{name}" is {options.condition}: {_why(process)}'
        return complain(OcelotError(message, hint=look_at(process)), FAILED)
    if not reply["settled"]:
        return complain(
            OcelotError(
                f"cannot wait any longer: not {options.condition} within {options.timeout:g}s",
                hint="give it more --timeout, or see ocelotctl status for what it is waiting for",
            ),
            TIMED_OUT,
        )
    return OK


def _until_there(options: Namespace) -> Any:
    """The answer, whichever ocelot gives it."""
    import time

    end = time.monotonic() + options.timeout
    while True:
        left = max(0.0, end - time.monotonic())
        body = {"names": options.names, "condition": options.condition, "timeout": left}
        try:
            return call(options.socket, "POST", "/v1/processes/wait", body, timeout=left + 30.0)
        except Cut as cut:
            await_answer(options.socket, cut)


def _why(process: dict[str, Any]) -> str:
    reason: str = process["reason"]
    return reason or f"it is {process['state']}"


COMMANDS: dict[str, Add] = {"events": _add_events, "wait": _add_wait}
