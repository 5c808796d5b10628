"""``ocelot supervise``: supervise the processes of a file, without a boot."""

from __future__ import annotations

import argparse
import os

from ocelot.commands.arguments import Commands, command, formatter
from ocelot.commands.files import add_file_tools
from ocelot.errors import UsageError

DEFAULT_FILE = "/etc/ocelot/supervise.yaml"


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
    run.add_argument("path", nargs="?", metavar="FILE", help=f"the supervise file ({DEFAULT_FILE})")
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
    file = options.file or options.path
    if file is None and not os.path.exists(DEFAULT_FILE):
        hint = "ocelot supervise FILE; ocelot supervise config-template prints one to start from"
        raise UsageError(f"cannot tell what to supervise: no file was given, and there is no {DEFAULT_FILE}", hint=hint)
    return supervise(file or DEFAULT_FILE, socket=options.socket)
