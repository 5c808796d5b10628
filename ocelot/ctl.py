"""``ocelotctl``: looks at a running ocelot and tells it what to do, over the control socket.

Made to start quickly, since scripts call it often and emulated machines are slow: no msgspec, no trio, only the parser of
the command that was called, and imports within the functions that need them. What the commands do is in ``ocelot.verbs``.
"""

from __future__ import annotations

import os
import sys

from ocelot import __version__
from ocelot.errors import ControlError, OcelotError, UsageError, describe, no_command
from ocelot.verbs.outcome import EXITS, FAILED, INTERRUPTED, OK, USAGE, complain, exit_of
from ocelot.verbs.terminal import tolerate
from ocelot.wire.client import DEFAULT_SOCKET, call, default_socket

TYPE_CHECKING = False  # typing itself would cost as much as all of this
if TYPE_CHECKING:
    from argparse import ArgumentParser, HelpFormatter, Namespace
    from collections.abc import Mapping, Sequence

    from ocelot.verbs.arguments import Add

_EPILOG = f"""\
NAME is the name of a process or a pattern such as "web-*".

{EXITS}
The socket is --socket PATH, else OCELOT_SOCKET, else that of your own ocelot, which is
XDG_RUNTIME_DIR/ocelot/control.sock for other users than root, else {DEFAULT_SOCKET}.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Errors are one line on standard error, and a hint."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    tolerate()
    try:
        if arguments[:1] == ["__complete"]:
            return _complete(arguments[1:])
        if arguments[:1] == ["status"] and not any(word.startswith("-") for word in arguments):
            # What is asked most often, by far: without argparse it takes half as long
            from ocelot.verbs.looking import status as show

            status = show(default_socket(), arguments[1:])
            sys.stdout.flush()
            return status
        options = parse(arguments)
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except ControlError as error:
        return complain(error, exit_of(error))
    except UsageError as error:
        return complain(error, USAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's own flush at exit does not complain
        return FAILED
    except OSError as error:
        return complain(OcelotError(f"cannot go on: {describe(error)}"), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


# -- the tree

_COMMANDS = {
    "status": ("looking", "show the machine and its processes"),
    "start": ("acting", "start processes"),
    "stop": ("acting", "stop processes"),
    "restart": ("acting", "restart processes"),
    "signal": ("acting", "send a signal to processes"),
    "scale": ("acting", "start or stop replicas until there are so many"),
    "top": ("top", "show what the processes use, live"),
    "logs": ("logs", "show what processes wrote"),
    "rotate": ("logs", "rotate log files, or open them anew"),
    "events": ("events", "show what happened to processes"),
    "wait": ("events", "wait until processes are ready, or have ended"),
    "exec": ("sessions", "run a command beside a process, as the process would run"),
    "shell": ("sessions", "open a shell, beside a process or on the machine"),
    "attach": ("attach", "connect the terminal with that of a process, or show its output, until it ends"),
    "graph": ("pictures", "show who depends on whom, and how they are"),
    "boot": ("pictures", "show how the boot went, step by step"),
    "poweroff": ("acting", "stop everything in order and power the machine off (or reset it where that cannot be)"),
    "reboot": ("acting", "stop everything in order and reboot the machine"),
    "halt": ("acting", "stop everything in order and halt the machine"),
    "reload": ("acting", "apply a changed configuration file, or let processes reload"),
    "reexec": ("acting", "replace ocelot by a newer one, under running processes"),
    "health": ("looking", "tell whether all is well"),
    "metrics": ("looking", "print the figures that Prometheus reads"),
    "version": ("looking", "show the versions of ocelotctl and of ocelot"),
    "help": ("", "explain a command"),
}
"""By name: its module in ``ocelot.verbs``, and what it does. In the order of the help."""


def _group(name: str) -> Mapping[str, Add]:
    """The commands of one module of ``ocelot.verbs``; written out so that whoever packs an image sees the imports."""
    match name:
        case "looking":
            from ocelot.verbs import looking

            return looking.COMMANDS
        case "acting":
            from ocelot.verbs import acting

            return acting.COMMANDS
        case "logs":
            from ocelot.verbs import logs

            return logs.COMMANDS
        case "events":
            from ocelot.verbs import events

            return events.COMMANDS
        case "top":
            from ocelot.verbs import top

            return top.COMMANDS
        case "sessions":
            from ocelot.verbs import sessions

            return sessions.COMMANDS
        case "attach":
            from ocelot.verbs import attach

            return attach.COMMANDS
        case "pictures":
            from ocelot.verbs import pictures

            return pictures.COMMANDS
    return {"help": _add_help}


def parse(arguments: list[str]) -> Namespace:
    """The options of a command line. Only the parser of the command is built, unless something stands before it."""
    from argparse import Namespace

    only = arguments[0] if arguments and arguments[0] in _COMMANDS else None
    if only is None and (not arguments or not arguments[0].startswith("-")):
        raise no_command("ocelotctl", arguments, _COMMANDS)
    # Not as defaults of the options: those stand before and after the command, and the later would undo the earlier.
    found = Namespace(socket=default_socket(), json=False)
    return parser(only).parse_args(arguments, found)


def parser(only: str | None = None) -> ArgumentParser:
    """The tree, or the part of it that parses the command ``only``. Also read by the completion generator."""
    import argparse

    common = argparse.ArgumentParser(add_help=False, formatter_class=_formatter)
    common.add_argument(
        "--socket", metavar="PATH", default=argparse.SUPPRESS, help="the control socket, or vsock:CID:PORT of a machine"
    )
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    top = argparse.ArgumentParser(
        prog="ocelotctl",
        description="Look at a running ocelot, and tell it what to do.",
        epilog=_EPILOG,
        parents=[common],
        formatter_class=_formatter,
    )
    top.add_argument("--version", action="version", version=f"ocelotctl {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="ocelotctl")
    for name in [only] if only else _COMMANDS:
        group, summary = _COMMANDS[name]
        command = commands.add_parser(
            name, help=summary, description=_sentence(summary), parents=[common], formatter_class=_formatter
        )
        command.set_defaults(command=name)
        _group(group)[name](command)
    return top


def _formatter(prog: str) -> HelpFormatter:
    """With the width given, argparse does not import shutil, bz2 and lzma to find it out, for each argument anew."""
    from ocelot.help import Formatter
    from ocelot.verbs.terminal import columns

    return Formatter(prog, width=min(columns() or 80, 100) - 2)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _add_help(command: ArgumentParser) -> None:
    command.add_argument("topic", nargs="?", metavar="COMMAND", choices=tuple(_COMMANDS), help="the command")
    command.set_defaults(run=_help)


def _help(options: Namespace) -> int:
    if options.topic:
        parser(options.topic).parse_args([options.topic, "--help"])
    parser().print_help()
    return OK


def _complete(words: list[str]) -> int:
    """Process names for the shells' completions, one a line; silence when they cannot be had."""
    path = default_socket()
    for index, word in enumerate(words):
        if word == "--socket" and index + 1 < len(words):
            path = words[index + 1]
        elif word.startswith("--socket="):
            path = word.partition("=")[2]
    try:
        processes = call(path, "GET", "/v1/processes", timeout=1.0)["processes"]
        groups = dict.fromkeys(process["group"] for process in processes if process.get("group"))
        for name in [*groups, *(process["name"] for process in processes)]:
            print(name)
    except (OcelotError, OSError):
        return FAILED
    return OK


if __name__ == "__main__":
    sys.exit(main())
