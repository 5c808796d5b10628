"""Small inits, and zombies for them: ``entry``, ``idle``, ``zombie`` and ``zombie-finder``."""

from __future__ import annotations

import argparse

from ocelot.commands.arguments import Commands, command
from ocelot.errors import UsageError


def add(commands: Commands) -> None:
    """``entry``, ``idle``, ``zombie`` and ``zombie-finder``."""
    entry = command(
        commands,
        "entry",
        _entry,
        "run one command as a container's init: reap, forward every signal, pass its status on",
        epilog="Example: ocelot entry -- nginx -g 'daemon off;'",
    )
    entry.add_argument("-g", "--group", action="store_true", help="signal the command's whole process group")
    entry.add_argument("-s", "--subreaper", action="store_true", help="adopt orphans when not PID 1 (the default)")
    entry.add_argument(
        "-e", "--success", type=int, action="append", default=[], metavar="N", help="exit status N becomes 0"
    )
    entry.add_argument("command", nargs="...", metavar="-- CMD", help="the command and its arguments")
    command(commands, "idle", _idle, "do nothing but reap, until SIGTERM or SIGINT (a pause container)")
    zombie = command(
        commands,
        "zombie",
        _zombie,
        "make zombie processes, to test what reaps them",
        epilog="They stay until SIGTERM or SIGINT; with --orphans it is PID 1 that has to reap them.",
    )
    zombie.add_argument("-n", "--count", type=int, default=1, help="how many (1)")
    zombie.add_argument("--orphans", action="store_true", help="let PID 1 inherit them, and exit")
    finder = command(
        commands,
        "zombie-finder",
        _zombie_finder,
        "list zombie processes with their parents",
        epilog="exit status:\n  0  there are none\n  1  there are some\n  2  usage",
    )
    finder.add_argument("--json", action="store_true", help="print JSON")


def _entry(options: argparse.Namespace) -> int:
    from ocelot.entry import run

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise UsageError("cannot run nothing: no command given", hint="write: ocelot entry -- CMD [ARG ...]")
    return run(command, group=options.group, successes=options.success)


def _idle(_options: argparse.Namespace) -> int:
    from ocelot.idle import run

    return run()


def _zombie(options: argparse.Namespace) -> int:
    from ocelot.zombies import make

    return make(options.count, orphans=options.orphans)


def _zombie_finder(options: argparse.Namespace) -> int:
    from ocelot.zombies import report

    return report(as_json=options.json)
