"""``ocelotctl``: looks at a running ocelot and tells it what to do, over the control socket.

Made to start quickly, since scripts call it often and emulated machines are slow: no msgspec, no trio, only the parser of
the command that was called, and imports within the functions that need them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ocelot import __version__
from ocelot.errors import ControlError, OcelotError, UsageError
from ocelot.wire.client import DEFAULT_SOCKET, Client, call, problem, quote

API = "/v1"
OK, FAILED, USAGE, UNREACHABLE, NO_SUCH_PROCESS, DENIED, TIMED_OUT = range(7)

_EXITS = {
    "unreachable": UNREACHABLE,
    "no-such-process": NO_SUCH_PROCESS,
    "permission-denied": DENIED,
    "timeout": TIMED_OUT,
}

_EPILOG = f"""\
NAME is the name of a process or a pattern such as "web-*".

exit status:
  0  done
  1  it failed; for status with names: one of them is not up; for health: something has failed
  2  the command line was wrong
  3  ocelot does not answer on the socket
  4  there is no such process
  5  you may not do this
  6  the time was up before it had taken effect

The socket is --socket PATH, else OCELOT_SOCKET, else {DEFAULT_SOCKET}.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Errors are one line on standard error, and a hint."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["__complete"]:
            return _complete(arguments[1:])
        options = parse(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except ControlError as error:
        return _complain(error, _EXITS.get(error.kind, FAILED))
    except UsageError as error:
        return _complain(error, USAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's own flush at exit does not complain
        return FAILED
    except OSError as error:
        return _complain(OcelotError(f"cannot go on: {error}"), FAILED)
    except KeyboardInterrupt:
        return 130


def _complain(error: OcelotError, status: int) -> int:
    print(f"ocelotctl: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return status


# -- the tree

Run = Callable[[argparse.Namespace], int]


def _formatter(prog: str) -> argparse.HelpFormatter:
    """With the width given, argparse does not import shutil, bz2 and lzma to find it out, for each argument anew."""
    return argparse.RawDescriptionHelpFormatter(prog, width=min(_columns() or 100, 100) - 2)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of a command line. Only the parser of the command is built, unless something stands before it."""
    only = arguments[0] if arguments and arguments[0] in _COMMANDS else None
    # Not as defaults of the options: those stand before and after the command, and the later would undo the earlier.
    found = argparse.Namespace(socket=os.environ.get("OCELOT_SOCKET") or DEFAULT_SOCKET, json=False)
    return parser(only).parse_args(arguments, found)


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The tree, or the part of it that parses the command ``only``. Also read by the completion generator."""
    common = argparse.ArgumentParser(add_help=False, formatter_class=_formatter)
    common.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help="the control socket")
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
        add, summary = _COMMANDS[name]
        command = commands.add_parser(
            name, help=summary, description=_sentence(summary), parents=[common], formatter_class=_formatter
        )
        command.set_defaults(command=name)
        add(command)
    return top


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _add_status(command: argparse.ArgumentParser) -> None:
    _names(command, "*")
    command.add_argument("-w", "--watch", action="store_true", help="show it again every second until interrupted")
    command.set_defaults(run=_status)


def _add_action(command: argparse.ArgumentParser) -> None:
    _names(command, "*")
    command.add_argument("-a", "--all", action="store_true", help="every process")
    command.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it has taken effect")
    command.add_argument(
        "-t", "--timeout", type=_duration, default=90.0, metavar="TIME", help="how long to wait, such as 30s (90s)"
    )
    command.set_defaults(run=_act)


def _add_signal(command: argparse.ArgumentParser) -> None:
    command.add_argument("signal", metavar="SIGNAL", help="a name or number, such as HUP")
    _names(command, "*")
    command.add_argument("-a", "--all", action="store_true", help="every process")
    command.set_defaults(run=_act, wait=False, timeout=0.0)


def _add_logs(command: argparse.ArgumentParser) -> None:
    _names(command, "*")
    command.add_argument("-f", "--follow", action="store_true", help="go on with new lines until interrupted")
    command.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    command.add_argument("--since", metavar="TIME", help="only lines after it: 10m ago, or 2026-11-23T09:00")
    command.add_argument("--plain", action="store_true", help="the text only, without time and name")
    command.set_defaults(run=_logs)


def _add_boot(command: argparse.ArgumentParser) -> None:
    command.add_argument("--svg", metavar="FILE", help='write it as a picture, "-" for standard output')
    command.set_defaults(run=_boot)


def _add_help(command: argparse.ArgumentParser) -> None:
    command.add_argument("topic", nargs="?", metavar="COMMAND", choices=tuple(_COMMANDS))
    command.set_defaults(run=_help)


def _add_plain(run: Run) -> Callable[[argparse.ArgumentParser], None]:
    return lambda command: command.set_defaults(run=run)


def _names(command: argparse.ArgumentParser, count: str) -> None:
    command.add_argument("names", nargs=count, metavar="NAME", help="a process, or a pattern")


def _duration(text: str) -> float:
    """Seconds from ``30``, ``1.5s``, ``10m``, ``1h30m``, ``250ms``."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    total, number, unit = 0.0, "", ""
    for char in text.replace(" ", "") + "\0":
        if unit and not char.isalpha():
            if unit not in units or not number:
                raise argparse.ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m')
            total += float(number) * units[unit]
            number = unit = ""
        if char.isdigit() or char == ".":
            number += char
        elif char.isalpha():
            unit += char
        elif char != "\0":
            raise argparse.ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m')
    try:
        return total + (float(number) if number else 0.0)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a time such as 30s or 1h30m') from None


# -- commands


def _status(options: argparse.Namespace) -> int:
    target = f"{API}/status" + _query(options.names)
    if not options.watch:
        return _show_status(options, call(options.socket, "GET", target))
    import time

    while True:
        status = call(options.socket, "GET", target)
        if sys.stdout.isatty() and not options.json:
            sys.stdout.write("\x1b[H\x1b[2J")
        _show_status(options, status)
        sys.stdout.flush()
        time.sleep(1.0)


def _show_status(options: argparse.Namespace, status: dict[str, Any]) -> int:
    from ocelot.wire.tables import is_up, machine_line, process_table

    if options.json:
        _print_json(status)
    else:
        print(machine_line(status, colour=_colour()))
        if status["processes"]:
            print()
            for line in process_table(status["processes"], width=_columns(), colour=_colour()):
                print(line)
    return FAILED if options.names and not all(map(is_up, status["processes"])) else OK


def _act(options: argparse.Namespace) -> int:
    from ocelot.wire.tables import process_table

    names = ["*"] if options.all else options.names
    if not names:
        raise UsageError(f"cannot {options.command} nothing: no NAME was given", hint="name processes, or use --all")
    body = {"names": names, "wait": options.wait, "timeout": options.timeout}
    if options.command == "signal":
        body["signal"] = options.signal
    reply = call(options.socket, "POST", f"{API}/processes/{options.command}", body, timeout=options.timeout + 30.0)
    if options.json:
        _print_json(reply)
    elif reply["processes"]:
        for line in process_table(reply["processes"], width=_columns(), colour=_colour()):
            print(line)
    if reply["failed"]:
        failed = ", ".join(f'"{name}"' for name in reply["failed"])
        hint = f"ocelotctl logs {reply['failed'][0]} shows what it wrote"
        return _complain(OcelotError(f"cannot {options.command} {failed}", hint=hint), FAILED)
    if options.wait and not reply["settled"]:
        hint = "it goes on; ocelotctl status shows how far it is"
        return _complain(OcelotError(f"cannot wait any longer for {options.command}", hint=hint), TIMED_OUT)
    return OK


def _logs(options: argparse.Namespace) -> int:
    from ocelot.wire.tables import log_printer

    if options.lines is not None and options.lines < 0:
        raise UsageError("cannot show less than no lines", hint="give --lines a number from 0 up")
    parameters = [("n", str(options.lines))] if options.lines is not None else []
    if options.since:
        parameters.append(("since", str(_moment(options.since))))
    if options.follow:
        parameters.append(("follow", "true"))
    several = len(options.names) != 1 or any(mark in options.names[0] for mark in "*?[")
    show = log_printer(plain=options.plain, names=several, colour=_colour(), raw=options.json)
    with Client(options.socket, None if options.follow else 30.0) as client:
        reply = client.request("GET", f"{API}/logs" + _query(options.names, parameters))
        if reply.status != 200:
            raise _told(reply.status, reply.read())
        for line in reply.lines():
            print(show(line), flush=options.follow)
    return OK


def _boot(options: argparse.Namespace) -> int:
    if options.svg:
        with Client(options.socket) as client:
            reply = client.request("GET", f"{API}/boot", accept="image/svg+xml")
            picture = reply.read()
        if reply.status != 200:
            raise _told(reply.status, picture)
        if options.svg == "-":
            sys.stdout.buffer.write(picture)
        else:
            with open(options.svg, "wb") as file:
                file.write(picture)
        return OK
    timeline = call(options.socket, "GET", f"{API}/boot")
    if options.json:
        _print_json(timeline)
        return OK
    from ocelot.wire.drawing import table

    for line in table(timeline, width=_columns() or 100, colour=_colour()):
        print(line)
    return OK


def _power(options: argparse.Namespace) -> int:
    reply = call(options.socket, "POST", f"{API}/power/{options.command}")
    if options.json:
        _print_json(reply)
    else:
        print({"poweroff": "powering off", "reboot": "rebooting", "halt": "halting"}[reply["verb"]])
    return OK


def _version(options: argparse.Namespace) -> int:
    server: dict[str, Any] | None = None
    error: ControlError | None = None
    try:
        server = call(options.socket, "GET", f"{API}/version")
    except ControlError as caught:
        error = caught
    if options.json:
        _print_json({"client": __version__, "server": server})
    else:
        print(f"ocelotctl {__version__}")
        if server is not None:
            print(f"ocelot {server['version']} (Python {server['python']})")
    return _complain(error, _EXITS.get(error.kind, FAILED)) if error is not None else OK


def _health(options: argparse.Namespace) -> int:
    health = call(options.socket, "GET", f"{API}/health")
    if options.json:
        _print_json(health)
    elif health["healthy"]:
        print(f"healthy ({health['phase']})")
    else:
        print("failed: " + (", ".join(health["failed"]) or health["phase"]))
    return OK if health["healthy"] else FAILED


def _metrics(options: argparse.Namespace) -> int:
    with Client(options.socket) as client:
        reply = client.request("GET", "/metrics", accept="text/plain")
        text = reply.read()
    if reply.status != 200:
        raise _told(reply.status, text)
    if options.json:
        _print_json({"metrics": text.decode().splitlines()})
    else:
        print(text.decode(), end="")
    return OK


def _help(options: argparse.Namespace) -> int:
    if options.topic:
        parser(options.topic).parse_args([options.topic, "--help"])
    parser().print_help()
    return OK


def _complete(words: list[str]) -> int:
    """Process names for the shells' completions, one a line; silence when they cannot be had."""
    path = os.environ.get("OCELOT_SOCKET") or DEFAULT_SOCKET
    for index, word in enumerate(words):
        if word == "--socket" and index + 1 < len(words):
            path = words[index + 1]
        elif word.startswith("--socket="):
            path = word.partition("=")[2]
    try:
        for process in call(path, "GET", f"{API}/processes", timeout=1.0)["processes"]:
            print(process["name"])
    except (OcelotError, OSError):
        return FAILED
    return OK


# -- parts


def _query(names: Sequence[str], more: Sequence[tuple[str, str]] = ()) -> str:
    pairs = [("name", name) for name in names] + list(more)
    return "?" + "&".join(f"{key}={quote(value)}" for key, value in pairs) if pairs else ""


def _moment(text: str) -> float:
    """Seconds since the epoch of an ISO time (local), or of so long ago."""
    from datetime import datetime

    try:
        return datetime.now().timestamp() - _duration(text.removesuffix("ago"))
    except argparse.ArgumentTypeError:
        pass
    try:
        if text.count(":") and "-" not in text:
            text = f"{datetime.now().date().isoformat()}T{text}"
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(
            f'cannot tell which time "{text}" is', hint="write how long ago (10m), or 2026-11-23T09:00"
        ) from None


def _told(status: int, body: bytes) -> ControlError:
    import json

    try:
        return problem(status, json.loads(body))
    except ValueError:
        return problem(status, {})


def _print_json(value: object) -> None:
    import json

    # Indented for eyes only: json's quick encoder cannot indent
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def _columns() -> int | None:
    """The width of the terminal; None when the output goes elsewhere and may be as wide as it likes."""
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "status": (_add_status, "show the machine and its processes"),
    "start": (_add_action, "start processes"),
    "stop": (_add_action, "stop processes"),
    "restart": (_add_action, "restart processes"),
    "signal": (_add_signal, "send a signal to processes"),
    "logs": (_add_logs, "show what processes wrote"),
    "boot": (_add_boot, "show how the boot went, step by step"),
    "poweroff": (_add_plain(_power), "stop everything in order and power the machine off"),
    "reboot": (_add_plain(_power), "stop everything in order and reboot the machine"),
    "halt": (_add_plain(_power), "stop everything in order and halt the machine"),
    "health": (_add_plain(_health), "tell whether all is well"),
    "metrics": (_add_plain(_metrics), "print the figures that Prometheus reads"),
    "version": (_add_plain(_version), "show the versions of ocelotctl and of ocelot"),
    "help": (_add_help, "explain a command"),
}

if __name__ == "__main__":
    sys.exit(main())
