"""Looking: status, health, metrics, version."""

from __future__ import annotations

import sys

from ocelot import __version__
from ocelot.errors import ControlError
from ocelot.verbs.outcome import FAILED, OK, complain, exit_of, told
from ocelot.verbs.terminal import colour, columns, print_json
from ocelot.wire.client import Client, call, quote

TYPE_CHECKING = False  # typing itself would cost as much as all of this
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from ocelot.verbs.arguments import Add


LINES = 5
"""How many of their last lines the status of named processes shows."""


def _add_status(command: ArgumentParser) -> None:
    from ocelot.verbs.arguments import names

    names(command, "*")
    command.add_argument("-w", "--watch", action="store_true", help="show it again every second until interrupted")
    command.add_argument(
        "-n",
        "--lines",
        type=int,
        default=LINES,
        metavar="N",
        help=f"below, so many of the last lines that those NAMEs wrote ({LINES})",
    )
    command.set_defaults(run=_status)


def _status(options: Namespace) -> int:
    if options.json and not options.watch:
        return _status_as_json(options)
    if not options.watch:
        return status(options.socket, options.names, options.lines)
    import time

    while True:
        if options.json:
            _status_as_json(options)
        else:
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            status(options.socket, options.names, options.lines)
        sys.stdout.flush()
        time.sleep(1.0)


def status(socket: str, names: list[str], lines: int = LINES) -> int:
    """Print the machine and its processes, and return the exit status. The table is made by ocelot: that is quicker.

    With ``names``, the last ``lines`` that those wrote stand below.
    """
    target = "/v1/status?colour=" + ("true" if colour() else "false")
    width = columns()
    if width is not None:
        target += f"&columns={width}"
    for name in names:
        target += f"&name={quote(name)}"
    with Client(socket) as client:
        reply = client.request("GET", target, accept="text/plain")
        page = reply.read()
    if reply.status != 200:
        raise told(reply.status, page)
    sys.stdout.write(page.decode("utf-8", "replace"))
    if names and lines > 0:
        _show_last(socket, names, lines)
    return FAILED if names and reply.headers.get("ocelot-all-up") != "true" else OK


def _show_last(socket: str, names: list[str], count: int) -> None:
    from ocelot.wire.tables import log_printer

    wanted = "".join(f"&name={quote(name)}" for name in names)
    with Client(socket) as client:
        reply = client.request("GET", f"/v1/logs?n={count}{wanted}")
        page = reply.read()
    if reply.status != 200 or not page:
        return  # it may have gone meanwhile
    show = log_printer(plain=False, only=None, colour=colour(), raw=False, tame=sys.stdout.isatty())
    sys.stdout.write("\n" + "".join(f"{show(line)}\n" for line in page.splitlines()))


def _status_as_json(options: Namespace) -> int:
    from ocelot.verbs.arguments import query
    from ocelot.wire.tables import is_up

    found = call(options.socket, "GET", "/v1/status" + query(options.names))
    print_json(found)
    return FAILED if options.names and not all(map(is_up, found["processes"])) else OK


def _add_health(command: ArgumentParser) -> None:
    command.epilog = "It ends with 0 when all is well, with 1 when something has failed: for health checks of containers and machines."
    command.set_defaults(run=_health)


def _health(options: Namespace) -> int:
    health = call(options.socket, "GET", "/v1/health")
    if options.json:
        print_json(health)
    elif health["healthy"]:
        print(f"healthy ({health['phase']})")
    else:
        print("failed: " + (", ".join(health["failed"]) or health["phase"]))
    return OK if health["healthy"] else FAILED


def _add_metrics(command: ArgumentParser) -> None:
    command.set_defaults(run=_metrics)


def _metrics(options: Namespace) -> int:
    with Client(options.socket) as client:
        reply = client.request("GET", "/metrics", accept="text/plain")
        text = reply.read()
    if reply.status != 200:
        raise told(reply.status, text)
    if options.json:
        print_json({"metrics": text.decode().splitlines()})
    else:
        print(text.decode(), end="")
    return OK


def _add_version(command: ArgumentParser) -> None:
    command.set_defaults(run=_version)


def _version(options: Namespace) -> int:
    server: dict[str, Any] | None = None
    error: ControlError | None = None
    try:
        server = call(options.socket, "GET", "/v1/version")
    except ControlError as caught:
        error = caught
    if options.json:
        print_json({"client": __version__, "server": server})
    else:
        print(f"ocelotctl {__version__}")
        if server is not None:
            print(f"ocelot {server['version']} (Python {server['python']})")
    return complain(error, exit_of(error)) if error is not None else OK


COMMANDS: dict[str, Add] = {
    "status": _add_status,
    "health": _add_health,
    "metrics": _add_metrics,
    "version": _add_version,
}
