"""``ocelot supervise``: supervise the processes of a file, without a boot."""

from __future__ import annotations

import argparse

from ocelot.commands.arguments import Commands, command, formatter
from ocelot.commands.files import add_file_tools
from ocelot.errors import UsageError


def add(commands: Commands) -> None:
    """``supervise`` with all below it."""
    top = commands.add_parser(
        "supervise",
        help="supervise the processes of a YAML file, and tools for such files",
        description="Supervise the processes of a YAML file: as PID 1 of a container or as an ordinary process.\n"
        "Without a command: run.",
        formatter_class=formatter,
    )
    sub = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = command(sub, "run", _run, "supervise until the processes end or a signal says so")
    run.add_argument("path", nargs="?", metavar="FILE", help="the supervise file (/etc/ocelot/supervise.yaml)")
    run.add_argument("-f", "--file", help="the same")
    run.add_argument("--socket", metavar="PATH", help="control socket, instead of the file's control.socket")
    run.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="names and colours in what processes write; auto: on a terminal, and no colours with NO_COLOR (auto)",
    )
    add_file_tools(sub, "supervise", [])


def _run(options: argparse.Namespace) -> int:
    from ocelot import log
    from ocelot.init import supervise

    if options.file and options.path:
        raise UsageError("cannot supervise two files", hint="give the file once, as FILE or with --file")
    log.choose_colour(options.color)
    return supervise(options.file or options.path or "/etc/ocelot/supervise.yaml", socket=options.socket)
