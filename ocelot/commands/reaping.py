"""Small inits, and zombies for them: ``entry``, ``idle``, ``zombie`` and ``zombie-finder``."""

from __future__ import annotations

import argparse
import os

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
        "-e",
        "--success",
        type=_status,
        action="append",
        default=[],
        metavar="N",
        help="exit status N (0 to 255) becomes 0",
    )
    entry.add_argument("-p", "--parent-death", metavar="SIGNAL", help="get this signal when the parent of ocelot dies")
    entry.add_argument("-w", "--warn", action="store_true", help="tell at the end how many orphans were reaped")
    entry.add_argument("-v", "--verbose", action="count", default=0, help="tell more")
    entry.add_argument("command", nargs="...", metavar="-- CMD", help="the command and its arguments")
    command(commands, "idle", _idle, "do nothing but reap, until SIGTERM or SIGINT (a pause container)")
    zombie = command(
        commands,
        "zombie",
        _zombie,
        "make zombie processes, to test what reaps them",
        epilog="They stay until SIGTERM or SIGINT; with --orphans it is PID 1 that has to reap them.",
    )
    zombie.add_argument("-n", "--count", type=_count, default=1, help="how many (1)")
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
    group = options.group or "TINI_KILL_PROCESS_GROUP" in os.environ
    if options.verbose:
        from ocelot import log
        from ocelot.states import LogLevel

        log.configure(level=LogLevel.DEBUG)
    if options.parent_death is not None:
        from ocelot.linux import syscalls

        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _signal(options.parent_death))
    return run(command, group=group, successes=options.success, warn=options.warn)


def _status(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:4]) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is no exit status, which is 0 to 255")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100000")
    return int(text)


def _signal(text: str) -> int:
    from ocelot.config.values import parse_signal

    try:
        return parse_signal(text)
    except ValueError as error:
        message, _, hint = str(error).partition(": ")
        raise UsageError(message, hint=hint) from None


def _idle(_options: argparse.Namespace) -> int:
    from ocelot.idle import run

    return run()


def _zombie(options: argparse.Namespace) -> int:
    from ocelot.zombies import make

    return make(options.count, orphans=options.orphans)


def _zombie_finder(options: argparse.Namespace) -> int:
    from ocelot.zombies import report

    return report(as_json=options.json)
