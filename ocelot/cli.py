"""The command line of ``ocelot``: an argparse tree and one short function a command.

Each function imports what it needs when it runs: ``ocelot version`` must not pay for trio, nor ``validate`` for the
supervisor. ``ocelotctl`` is another door (``ctl``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

from ocelot import __version__
from ocelot.errors import OcelotError, UsageError, describe

if TYPE_CHECKING:
    import argparse

    from ocelot.config.structs import Bootstrap

Kind = Literal["bootstrap", "supervise"]

_EPILOG = """\
exit status:
  0  done; for init, supervise and entry: the status of what ran, 128 + n for a signal
  1  it failed, or the file is not valid
  2  the command line was wrong

ocelot is controlled with ocelotctl. Called as "init" it boots, as "tini" it is "entry", as "pause" it is "idle".
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Errors are one line on standard error, and a hint."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    called_as = os.path.basename(sys.argv[0]) if argv is None else "ocelot"
    if called_as == "init" and os.getpid() == 1:
        from ocelot.init import init, is_machine

        if is_machine():  # what the kernel passes on of its command line is not meant for us, and an exit is a panic
            init()
    try:
        if arguments[:1] == ["reexec"]:
            return _reexec(arguments[1:])
        _refuse_foreign_supervisor()
        arguments = _by_name(called_as, arguments)
        if len(arguments) == 2 and arguments[0] == "supervise" and _is_file(arguments[1]):
            return _supervise(arguments[1])  # as most are started, and without argparse: 15 ms and half a megabyte
        tree = parser(images=arguments[:1] in (["initramfs"], ["runtime"]))
        options = tree.parse_args(_with_default_command(arguments))
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
            return ["entry", *arguments]
        case "pause":
            return ["idle", *arguments]
    return arguments


_BOOTSTRAP_COMMANDS = ("run", "validate", "plan", "try", "config-template", "schema")
_SUPERVISE_COMMANDS = ("run", "validate", "config-template", "schema")


def _with_default_command(arguments: list[str]) -> list[str]:
    """``ocelot bootstrap -f X`` means ``bootstrap run``, ``ocelot supervise FILE`` means ``supervise run``."""
    if not arguments or arguments[0] not in ("bootstrap", "boot", "supervise"):
        return arguments
    known = _SUPERVISE_COMMANDS if arguments[0] == "supervise" else _BOOTSTRAP_COMMANDS
    rest = arguments[1:]
    if rest and (rest[0] in known or rest[0] in ("-h", "--help")):
        return arguments
    return [arguments[0], "run", *rest]


# -- the tree --------------------------------------------------------------------------------------


def parser(*, images: bool = False) -> argparse.ArgumentParser:
    """The tree. ``images``: with what is below ``initramfs`` and ``runtime``; OcelotError where that is left out."""
    import argparse

    top = argparse.ArgumentParser(
        prog="ocelot",
        description="An init for microVMs and containers: boots, supervises and explains itself.",
        epilog=_EPILOG,
        formatter_class=_formatter,
    )
    top.add_argument("--version", action="version", version=f"ocelot {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_bootstrap(commands)
    _add_supervise(commands)
    _add_small(commands)
    _add_images(commands, whole=images)
    return top


def _formatter(prog: str) -> argparse.HelpFormatter:
    import argparse

    return argparse.RawDescriptionHelpFormatter(prog)


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    sub = commands.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".", formatter_class=_formatter, epilog=epilog
    )
    sub.set_defaults(run=run)
    return sub


def _add_bootstrap(commands: Commands) -> None:
    top = commands.add_parser(
        "bootstrap",
        aliases=["boot"],
        help="boot a machine from a YAML file, and tools for such files",
        description="Boot a machine from a YAML file; without a command: run.",
        formatter_class=_formatter,
    )
    sub = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = _command(
        sub,
        "run",
        _bootstrap_run,
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
    _add_file_tools(sub, "bootstrap", ["shell", "supervise", "exec"])
    plan = _command(sub, "plan", _plan, "show what a boot would do, step by step, without doing it")
    plan.add_argument("file", metavar="FILE", help="the bootstrap file")
    plan.add_argument("--cmdline", default="", help="kernel command line to plan for (module.param=, ip=)")
    trial = _command(
        sub,
        "try",
        _try,
        "run a bootstrap file in throw-away namespaces on this machine",
        epilog="Needs root. DIR stands for the root file system; nothing of this machine or of DIR is changed.\n"
        "What is not namespaced (modules, sysctls of the host, devices, power) is shown, not done.",
    )
    trial.add_argument("file", metavar="FILE", help="the bootstrap file")
    trial.add_argument("--root", required=True, metavar="DIR", help="folder that stands for the root file system")


def _add_supervise(commands: Commands) -> None:
    top = commands.add_parser(
        "supervise",
        help="supervise the processes of a YAML file, and tools for such files",
        description="Supervise the processes of a YAML file: as PID 1 of a container or as an ordinary process.\n"
        "Without a command: run.",
        formatter_class=_formatter,
    )
    sub = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = _command(sub, "run", _supervise_run, "supervise until the processes end or a signal says so")
    run.add_argument("path", nargs="?", metavar="FILE", help="the supervise file (/etc/ocelot/supervise.yaml)")
    run.add_argument("-f", "--file", help="the same")
    run.add_argument("--socket", metavar="PATH", help="control socket, instead of the file's control.socket")
    run.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="names and colours in what processes write; auto: on a terminal, and no colours with NO_COLOR (auto)",
    )
    _add_file_tools(sub, "supervise", [])


def _add_file_tools(sub: Commands, kind: Kind, modes: list[str]) -> None:
    validate = _command(
        sub,
        "validate",
        lambda options: _validate(options, kind),
        f"check a {kind} file and show every problem in it",
        epilog="exit status:\n  0  valid\n  1  not valid (with --strict: or there are warnings)\n  2  usage",
    )
    validate.add_argument("file", metavar="FILE", help="the file to check")
    validate.add_argument("--output", choices=["human", "json"], default="human", help="how to print (human)")
    validate.add_argument("--strict", action="store_true", help="warnings are errors")
    validate.add_argument("--root", metavar="DIR", help="where paths of the file are looked up")
    template = _command(
        sub, "config-template", lambda options: _template(options, kind), f"print a commented {kind} file to start from"
    )
    if modes:
        template.add_argument("--mode", choices=modes, default="supervise", help="kind of hand-off (supervise)")
    _command(sub, "schema", lambda options: _schema(options, kind), f"print the JSON Schema of {kind} files")


def _add_small(commands: Commands) -> None:
    entry = _command(
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
    _command(commands, "idle", _idle, "do nothing but reap, until SIGTERM or SIGINT (a pause container)")
    zombie = _command(
        commands,
        "zombie",
        _zombie,
        "make zombie processes, to test what reaps them",
        epilog="They stay until SIGTERM or SIGINT; with --orphans it is PID 1 that has to reap them.",
    )
    zombie.add_argument("-n", "--count", type=int, default=1, help="how many (1)")
    zombie.add_argument("--orphans", action="store_true", help="let PID 1 inherit them, and exit")
    finder = _command(
        commands,
        "zombie-finder",
        _zombie_finder,
        "list zombie processes with their parents",
        epilog="exit status:\n  0  there are none\n  1  there are some\n  2  usage",
    )
    finder.add_argument("--json", action="store_true", help="print JSON")
    convert = _command(
        commands,
        "convert",
        _convert,
        "turn files of supervisord, systemd, foreman or compose into a file for ocelot supervise",
        epilog="Examples: ocelot convert /etc/supervisor/supervisord.conf -o supervise.yaml\n"
        "          ocelot convert nginx.service redis.service > supervise.yaml\n"
        "What has no counterpart becomes a comment in the result.",
    )
    convert.add_argument("files", nargs="+", metavar="FILE", help="the file; for systemd several, or folders of units")
    convert.add_argument(
        "--from",
        dest="format",
        choices=["supervisord", "systemd", "procfile", "compose"],
        help="what it is (found out from its name and content)",
    )
    convert.add_argument("-o", "--output", metavar="FILE", help="write there instead of on standard output")
    convert.add_argument("--strict", action="store_true", help="exit with 1 if anything was lost")
    monitoring = _command(
        commands,
        "monitoring",
        _monitoring,
        "print what to load into Grafana and Prometheus: a dashboard, alert rules",
        epilog="Examples: ocelot monitoring dashboard > ocelot.json    ocelot monitoring alerts > ocelot-alerts.yml",
    )
    monitoring.add_argument("what", choices=["dashboard", "alerts"], help="for Grafana, or for Prometheus")
    _command(commands, "version", _version, "print the version")
    completions = _command(
        commands,
        "completions",
        _completions,
        "print shell completions of ocelot and ocelotctl",
        epilog="bash: source <(ocelot completions bash)",
    )
    completions.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that is to read them")
    manual = _command(
        commands,
        "man",
        _man,
        "print a manual page",
        epilog="Examples: ocelot man ocelotctl.1 | man -l -    ocelot man -d ~/.local/share/man",
    )
    manual.add_argument("page", nargs="?", metavar="PAGE", help="ocelot.1, ocelotctl.1 or ocelot-bootstrap.5")
    manual.add_argument("-d", "--directory", metavar="DIR", help="write all of them below DIR, in man1 and man5")


def _add_images(commands: Commands, *, whole: bool) -> None:
    """The image tools bring their own options, but their module is imported only when one of them is asked for."""
    if not whole:
        commands.add_parser("initramfs", help="build or inspect an initramfs with ocelot as its init")
        commands.add_parser("runtime", help="build the folder that ocelot runs from, for images and disks")
        return
    try:
        from ocelot.image.command import add_arguments
    except ModuleNotFoundError as error:
        raise _not_here("build or inspect images", error) from error
    add_arguments(commands)


# -- the commands ----------------------------------------------------------------------------------


def _bootstrap_run(options: argparse.Namespace) -> int:
    from ocelot.init import bootstrap

    return bootstrap(options.file, in_place=options.in_place)


def _is_file(argument: str) -> bool:
    """Whether ``supervise`` takes it for a file, and not for an option or a command of its own."""
    return not argument.startswith("-") and argument not in _SUPERVISE_COMMANDS


def _supervise(file: str, *, socket: str | None = None) -> int:
    from ocelot.init import supervise

    return supervise(file, socket=socket)


def _supervise_run(options: argparse.Namespace) -> int:
    from ocelot import log

    if options.file and options.path:
        raise UsageError("cannot supervise two files", hint="give the file once, as FILE or with --file")
    log.choose_colour(options.color)
    return _supervise(options.file or options.path or "/etc/ocelot/supervise.yaml", socket=options.socket)


def _validate(options: argparse.Namespace, kind: Kind) -> int:
    from ocelot.config import report
    from ocelot.config.loading import load_file
    from ocelot.log import wants_colour

    loaded = load_file(options.file, kind, root=options.root, files=True)
    if options.output == "json":
        sys.stdout.write(report.to_json(loaded, strict=options.strict).decode() + "\n")
        return 0 if loaded.valid(strict=options.strict) else 1
    text = report.render(loaded, options.file, colour=wants_colour(2))
    if text:
        print(text.rstrip("\n"), file=sys.stderr)
    print(report.summary(loaded, strict=options.strict))
    return 0 if loaded.valid(strict=options.strict) else 1


def _template(options: argparse.Namespace, kind: Kind) -> int:
    from ocelot.config.templates import text

    sys.stdout.write(text(kind, getattr(options, "mode", "supervise")))
    return 0


def _schema(_options: argparse.Namespace, kind: Kind) -> int:
    import json

    from ocelot.config.schema import schema

    print(json.dumps(schema(kind), indent=2))
    return 0


def _plan(options: argparse.Namespace) -> int:
    from bootstrap.cmdline import parse
    from bootstrap.handoff import describe_handoff
    from bootstrap.kernel_filesystems import steps
    from bootstrap.phases import plan, with_policy

    config = load_or_fail(options.file)
    print("kernel:", *map(with_policy, steps()), sep="\n    - ")
    print(plan(config, parse(options.cmdline)).describe(), end="")
    print("handoff:", *describe_handoff(config.post_switch.handoff), sep="\n    - ")
    return 0


def _try(options: argparse.Namespace) -> int:
    from ocelot.trial import run

    return run(options.file, options.root)


def load_or_fail(path: str) -> Bootstrap:
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


def _reexec(arguments: list[str]) -> int:
    """Not for people: what one image of ocelot asks of another (see ``ocelotctl reexec``)."""
    match arguments:
        case ["--check"]:
            from ocelot.reexec import check

            print(check(0))
            return 0
        case ["--restore" | "--back" as way, number] if number.isdecimal():
            from ocelot.init import resume

            return resume(int(number), back=way == "--back")
    raise UsageError("cannot do this by hand", hint="use ocelotctl reexec")


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


def _version(_options: argparse.Namespace) -> int:
    print(f"ocelot {__version__} (Python {sys.version.split()[0]})")
    return 0


def _convert(options: argparse.Namespace) -> int:
    try:
        from ocelot.convert.command import run
    except ModuleNotFoundError as error:
        raise _not_here("convert files", error) from error

    return run(options)


def _monitoring(options: argparse.Namespace) -> int:
    name = "grafana.json" if options.what == "dashboard" else "alerts.yml"
    path = os.path.join(os.path.dirname(__file__), "dashboards", name)
    if not os.path.exists(path):
        raise _not_here("print it")
    with open(path, encoding="utf-8") as file:
        sys.stdout.write(file.read())
    return 0


def _completions(options: argparse.Namespace) -> int:
    from ocelot.complete import script

    sys.stdout.write(script(options.shell))
    return 0


def _man(options: argparse.Namespace) -> int:
    try:
        from ocelot.manual import PAGES, install, page
    except ImportError:
        raise _not_here("print it") from None
    if options.directory is not None and options.page is None:
        install(options.directory)
    elif options.page in PAGES and options.directory is None:
        sys.stdout.write(page(options.page))
    else:
        raise UsageError("cannot tell which page is meant", hint=f"name one of {', '.join(PAGES)}, or give --directory")
    return 0


def _not_here(what: str, error: ModuleNotFoundError | None = None) -> OcelotError:
    if error is not None and not (error.name or "").startswith("ocelot."):
        return OcelotError(f"cannot {what}: the package {error.name} is not installed", hint="see the extras of ocelot")
    return OcelotError(f"cannot {what}: that is not part of this runtime", hint="use ocelot on a desk")


def run_and_exit() -> NoReturn:
    """What ``python -m ocelot`` and the scripts of the runtime call."""
    sys.exit(main())
