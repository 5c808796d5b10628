"""What processes wrote: the last lines, and new ones."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ocelot.errors import UsageError
from ocelot.verbs.arguments import Add, moment, names, query
from ocelot.verbs.outcome import OK, told
from ocelot.verbs.terminal import colour
from ocelot.wire.client import Client


def _add_logs(command: ArgumentParser) -> None:
    names(command, "*")
    command.add_argument("-f", "--follow", action="store_true", help="go on with new lines until interrupted")
    command.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    command.add_argument("--since", metavar="TIME", help="only lines after it: 10m ago, or 2026-11-23T09:00")
    command.add_argument("--plain", action="store_true", help="the text only, without time and name")
    command.set_defaults(run=_logs)


def _logs(options: Namespace) -> int:
    from ocelot.wire.tables import log_printer

    if options.lines is not None and options.lines < 0:
        raise UsageError("cannot show less than no lines", hint="give --lines a number from 0 up")
    parameters = [("n", str(options.lines))] if options.lines is not None else []
    if options.since:
        parameters.append(("since", str(moment(options.since))))
    if options.follow:
        parameters.append(("follow", "true"))
    several = len(options.names) != 1 or any(mark in options.names[0] for mark in "*?[")
    show = log_printer(plain=options.plain, names=several, colour=colour(), raw=options.json)
    with Client(options.socket, None if options.follow else 30.0) as client:
        reply = client.request("GET", "/v1/logs" + query(options.names, parameters))
        if reply.status != 200:
            raise told(reply.status, reply.read())
        for line in reply.lines():
            print(show(line), flush=options.follow)
    return OK


COMMANDS: dict[str, Add] = {"logs": _add_logs}
