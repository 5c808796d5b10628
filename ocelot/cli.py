"""The command line of ``ocelot``: which command is meant, and what its errors look like.

What the commands do is in ``ocelot.commands``, and each imports what it needs when it runs: ``ocelot version`` must not pay
for trio, nor ``validate`` for the supervisor. ``ocelotctl`` is another door (``ctl``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NoReturn

from ocelot import __version__
from ocelot.errors import OcelotError, UsageError, describe, no_command

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
exit status:
  0  done; for bootstrap, supervise and entry: the status of what ran,
     128 + n for a signal
  1  it failed, or the file is not valid
  2  the command line was wrong

ocelot is controlled with ocelotctl. Called as "init" it boots, as "tini" it is "entry", as "pause" it is "idle".
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Errors are one line on standard error, and a hint."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    called_as = os.path.basename(sys.argv[0]) if argv is None else "ocelot"
    if argv is None and os.getpid() == 1 and (called_as == "init" or _by_name(called_as, arguments)[:1] not in _KNOWN):
        from ocelot.init import init, is_machine

        if is_machine():  # what the kernel passes on of its command line is not meant for us, and an exit is a panic
            init()
    try:
        if arguments[:1] == ["reexec"]:
            return _reexec(arguments[1:])
        _refuse_foreign_supervisor()
        arguments = _by_name(called_as, arguments)
        if len(arguments) == 2 and arguments[0] == "supervise" and _is_file(arguments[1]):
            from ocelot.init import supervise  # as most are started, and without argparse: 15 ms and half a megabyte

            return supervise(arguments[1])
        only = arguments[0] if arguments and arguments[0] in _COMMANDS else None
        if only is None and (not arguments or not arguments[0].startswith("-")):
            raise no_command("ocelot", arguments, _COMMANDS)
        arguments = _with_default_command(arguments)
        if only != "entry" and arguments[1:2] != ["run"]:  # these pass their streams on as they are
            from ocelot.verbs.terminal import tolerate

            tolerate()
        options = parser(only, images=only in _IMAGES).parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except UsageError as error:
        _complain(error)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's own flush at exit does not complain
        return 1
    except (OcelotError, OSError) as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(error: BaseException) -> None:
    message = error.message if isinstance(error, OcelotError) else describe(error)
    print(f"ocelot: {message}", file=sys.stderr)
    if isinstance(error, OcelotError) and error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def _refuse_foreign_supervisor() -> None:
    """PyPI's Supervisor installs a package of the same name as ours: say so instead of failing in the middle."""
    import ocelot
    import supervisor

    ours = os.path.dirname(os.path.dirname(os.path.abspath(ocelot.__file__)))
    theirs = os.path.dirname(os.path.dirname(os.path.abspath(supervisor.__file__ or "")))
    if ours != theirs:
        raise OcelotError(
            f'cannot start: the package "supervisor" in {theirs} is not ocelot\'s',
            hint="install ocelot-init in an environment of its own, for example with pipx or uv tool",
        )


def _by_name(called_as: str, arguments: list[str]) -> list[str]:
    match called_as:
        case "init":
            return ["bootstrap", "run", *arguments]
        case "tini":
            return ["--version"] if arguments == ["--version"] else ["entry", *arguments]
        case "pause":
            return ["idle", *arguments]
    return arguments


_BOOTSTRAP_COMMANDS = ("run", "validate", "plan", "try", "config-template", "schema")
_SUPERVISE_COMMANDS = ("run", "validate", "config-template", "schema")


def _with_default_command(arguments: list[str]) -> list[str]:
    """``ocelot bootstrap -f X`` means ``bootstrap run``, ``ocelot supervise FILE`` means ``supervise run``.

    Raises UsageError for a word that is no command where only a command can stand: ``run`` takes no word, or one.
    """
    if not arguments or arguments[0] not in ("bootstrap", "boot", "supervise"):
        return arguments
    known = _SUPERVISE_COMMANDS if arguments[0] == "supervise" else _BOOTSTRAP_COMMANDS
    rest = arguments[1:]
    if rest and (rest[0] in known or rest[0] in ("-h", "--help")):
        return arguments
    allowed = 1 if arguments[0] == "supervise" else 0
    words = list(takewhile(lambda word: not word.startswith("-"), rest))
    if len(words) > allowed:
        raise no_command(f"ocelot {arguments[0]}", words, known)
    return [arguments[0], "run", *rest]


_BOOTSTRAP = ("bootstrap", "boot")
_REAPING = ("entry", "idle", "zombie", "zombie-finder")
_IMAGES = ("initramfs", "runtime")
_DESK = ("convert", "monitoring", "version", "completions", "man", *_IMAGES)
_COMMANDS = (*_BOOTSTRAP, "supervise", *_REAPING, *_DESK)
_KNOWN = [[command] for command in (*_COMMANDS, "reexec")]


def parser(only: str | None = None, *, images: bool = False) -> argparse.ArgumentParser:
    """The tree, or as much of it as parses the command ``only``.

    ``images``: with what is below ``initramfs`` and ``runtime``; OcelotError where that is left out.
    """
    import argparse

    from ocelot.help import Formatter

    top = argparse.ArgumentParser(
        prog="ocelot",
        description="An init for microVMs and containers: boots, supervises and explains itself.",
        epilog=_EPILOG,
        formatter_class=Formatter,
    )
    top.add_argument("--version", action="version", version=f"ocelot {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    if only in (None, *_BOOTSTRAP):
        from ocelot.commands import bootstrap

        bootstrap.add(commands)
    if only in (None, "supervise"):
        from ocelot.commands import supervise

        supervise.add(commands)
    if only in (None, *_REAPING):
        from ocelot.commands import reaping

        reaping.add(commands)
    if only in (None, *_DESK):
        from ocelot.commands import desk

        desk.add(commands, images=images)
        top.set_defaults(trees=trees)
    return top


def trees() -> dict[str, argparse.ArgumentParser]:
    """Both command lines by the name of their program, as far as they are here: a runtime has no tools for images."""
    from ocelot import ctl

    try:
        return {"ocelot": parser(images=True), "ocelotctl": ctl.parser()}
    except OcelotError:
        return {"ocelot": parser(), "ocelotctl": ctl.parser()}


def _is_file(argument: str) -> bool:
    """Whether ``supervise`` takes it for a file, and not for an option or a command of its own."""
    return not argument.startswith("-") and argument not in _SUPERVISE_COMMANDS


def _reexec(arguments: list[str]) -> int:
    """Not for people: what one image of ocelot asks of another (see ``ocelotctl reexec``)."""
    match arguments:
        case ["--check"]:
            from ocelot.life.reexec import check

            print(check(0))
            return 0
        case ["--restore" | "--back" as way, number] if os.getpid() == 1 or _is_sealed(number):
            from ocelot.init import resume

            return resume(int(number), back=way == "--back")
    raise UsageError("cannot do this by hand", hint="use ocelotctl reexec")


def _is_sealed(number: str) -> bool:
    """Whether it is the descriptor of a memory file, as the state of another image is (``life.statefile``)."""
    import fcntl

    try:
        return bool(fcntl.fcntl(int(number), fcntl.F_GET_SEALS))
    except (OSError, ValueError, OverflowError):
        return False


def run_and_exit() -> NoReturn:
    """What ``python -m ocelot`` and the scripts of the runtime call."""
    sys.exit(main())
