"""``ocelotctl top``: what the processes use, printed once, or live (``live``)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ocelot.errors import OcelotError
from ocelot.verbs.outcome import FAILED, OK, complain
from ocelot.verbs.readings import Readings
from ocelot.verbs.terminal import columns, moves_cursor, print_json
from ocelot.verbs.top_view import KEYS, SORTS, View, ordered, plain

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ocelot.verbs.arguments import Add

_EPILOG = f"""\
keys:
  {KEYS.replace("   ", chr(10) + "  ")}

Without a terminal (or with TERM=dumb), or with --once, the table is printed once, after one interval.
"""


def _add_top(command: ArgumentParser) -> None:
    from ocelot.verbs.arguments import duration, names

    names(command, "*")
    command.epilog = _EPILOG
    command.add_argument(
        "-d", "--delay", type=duration, default=2.0, metavar="TIME", help="the interval (2s, at least 100ms)"
    )
    command.add_argument("-s", "--sort", choices=SORTS, default="cpu", help="what to sort by (cpu)")
    command.add_argument("-1", "--once", action="store_true", help="print the table once and end")
    command.set_defaults(run=_top)


def _top(options: Namespace) -> int:
    view = View(sort=options.sort)
    options.delay = max(options.delay, 0.1)
    if options.once or options.json or not (sys.stdin.isatty() and sys.stdout.isatty() and moves_cursor()):
        return _once(options, view)
    try:
        from ocelot.verbs.live import show
    except ImportError:
        return complain(
            OcelotError(
                'cannot show a live view: the package "rich" is not part of this installation',
                hint="ocelotctl top --once works without it; on a desk: pip install 'ocelot-init[live]'",
            ),
            FAILED,
        )
    show(options, view)
    return OK


def _once(options: Namespace, view: View) -> int:
    readings = Readings(options.socket, options.names)
    readings.read()
    time.sleep(options.delay)
    readings.read()
    found = ordered(readings.rows(), view)
    if options.json:
        from dataclasses import asdict

        print_json([asdict(row) for row in found])
    else:
        for line in plain(found, columns()):
            print(line)
    return OK


COMMANDS: dict[str, Add] = {"top": _add_top}
