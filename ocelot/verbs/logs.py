"""What processes wrote: the last lines, and new ones."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from ocelot.errors import UsageError
from ocelot.verbs.arguments import Add, everybody, moment, names
from ocelot.verbs.log_stream import stream
from ocelot.verbs.outcome import OK
from ocelot.verbs.terminal import colour, print_json
from ocelot.wire.client import call


def _add_logs(command: ArgumentParser) -> None:
    names(command, "*")
    command.add_argument("-f", "--follow", action="store_true", help="go on with new lines until interrupted")
    command.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    command.add_argument("--since", metavar="TIME", help="only lines after it: 10m ago, or 2026-11-23T09:00")
    command.add_argument(
        "--plain", action="store_true", help="the text only, without time and name, and with all that may move a cursor"
    )
    command.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="names in colours (auto)")
    command.set_defaults(run=_logs)


def _logs(options: Namespace) -> int:
    from ocelot.wire.tables import log_printer

    if options.lines is not None and options.lines < 0:
        raise UsageError("cannot show less than no lines", hint="give --lines a number from 0 up")
    parameters = [("n", str(options.lines))] if options.lines is not None else []
    if options.since is not None:
        parameters.append(("since", str(moment(options.since))))
    if options.follow:
        parameters.append(("follow", "true"))
    only = options.names[0] if len(options.names) == 1 else None
    tints, terminal = colour(options.color), sys.stdout.isatty()
    show = log_printer(plain=options.plain, only=only, colour=tints, raw=options.json, tame=terminal)
    for line in stream(options.socket, options.names, parameters, follow=options.follow):
        print(show(line), flush=options.follow)
    return OK


def _add_rotate(command: ArgumentParser) -> None:
    everybody(command)
    command.epilog = """\
A log file with rotation makes way for a new one now, or at the end of the line that is being written. One without is opened
anew, by its path: for files that somebody else moves, such as logrotate (which is noticed within a second anyway).
"""
    command.set_defaults(run=_rotate)


def _rotate(options: Namespace) -> int:
    chosen = ["*"] if options.all else options.names
    if not chosen:
        raise UsageError("cannot rotate nothing: no NAME was given", hint="name processes, or use --all")
    reply = call(options.socket, "POST", "/v1/processes/rotate", {"names": chosen})
    if options.json:
        print_json(reply)
    return OK


COMMANDS: dict[str, Add] = {"logs": _add_logs, "rotate": _add_rotate}
