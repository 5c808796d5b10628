"""``ocelot bootstrap``: boot from a file, and show or rehearse what a boot would do."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ocelot.commands.arguments import Commands, command, formatter
from ocelot.commands.files import add_file_tools
from ocelot.errors import OcelotError

if TYPE_CHECKING:
    from ocelot.config.structs import Bootstrap


def add(commands: Commands) -> None:
    """``bootstrap`` (``boot``) with all below it."""
    top = commands.add_parser(
        "bootstrap",
        aliases=["boot"],
        help="boot a machine from a YAML file, and tools for such files",
        description="Boot a machine from a YAML file; without a command: run.",
        formatter_class=formatter,
    )
    sub = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = command(
        sub,
        "run",
        _run,
        "boot this machine, supervise it and end by powering it off",
        epilog="Runs only as PID 1. The file is found by --file, else by ocelot.config= on the kernel command line,\n"
        "else it is /etc/ocelot/bootstrap.yaml.",
    )
    run.add_argument("-f", "--file", help="the bootstrap file")
    run.add_argument(
        "--in-place",
        action="store_true",
        help="in a PID namespace that is not marked as a container: yes, this root file system is meant",
    )
    add_file_tools(sub, "bootstrap", ["shell", "supervise", "exec"])
    plan = command(sub, "plan", _plan, "show what a boot would do, step by step, without doing it")
    plan.add_argument("file", metavar="FILE", help="the bootstrap file")
    plan.add_argument("--cmdline", default="", help="kernel command line to plan for (module.param=, ip=)")
    trial = command(
        sub,
        "try",
        _try,
        "run a bootstrap file in throw-away namespaces on this machine",
        epilog="Needs no root, where the kernel lets users make namespaces. DIR stands for the root file system; nothing of\n"
        "this machine or of DIR is changed. "
        "What is not namespaced (modules, sysctls of the host, devices, power) is shown, not done.",
    )
    trial.add_argument("file", metavar="FILE", help="the bootstrap file")
    trial.add_argument("--root", required=True, metavar="DIR", help="folder that stands for the root file system")


def _run(options: argparse.Namespace) -> int:
    from ocelot.init import bootstrap

    return bootstrap(options.file, in_place=options.in_place)


def _plan(options: argparse.Namespace) -> int:
    from bootstrap.cmdline import parse
    from bootstrap.handoff import describe_handoff
    from bootstrap.kernel_filesystems import steps
    from bootstrap.phases import plan, with_policy

    config = _load_or_fail(options.file)
    print("kernel:", *map(with_policy, steps()), sep="\n    - ")
    print(plan(config, parse(options.cmdline)).describe(), end="")
    print("handoff:", *describe_handoff(config.post_switch.handoff), sep="\n    - ")
    return 0


def _try(options: argparse.Namespace) -> int:
    from ocelot.trial import run

    return run(options.file, _load_or_fail(options.file), options.root)


def _load_or_fail(path: str) -> Bootstrap:
    """The bootstrap file at ``path``; every problem goes to standard error, and errors end the command."""
    from ocelot.config import report, structs
    from ocelot.config.loading import load_file
    from ocelot.log import wants_colour

    loaded = load_file(path, "bootstrap")
    text = report.render(loaded, path, colour=wants_colour(2))
    if text:
        print(text.rstrip("\n"), file=sys.stderr)
    if not isinstance(loaded.config, structs.Bootstrap):
        raise OcelotError(f'cannot use "{path}": it is not valid', hint="mend the lines shown above")
    return loaded.config
