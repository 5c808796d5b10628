"""Pictures: the boot as a timeline, the dependencies as a graph."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from ocelot.verbs.arguments import Add, names, query
from ocelot.verbs.outcome import OK, told
from ocelot.verbs.terminal import colour, columns, print_json
from ocelot.wire.client import Client, call


def _add_boot(command: ArgumentParser) -> None:
    command.add_argument("--svg", metavar="FILE", help='write it as a picture, "-" for standard output')
    command.set_defaults(run=_boot)


def _boot(options: Namespace) -> int:
    if options.svg:
        with Client(options.socket) as client:
            reply = client.request("GET", "/v1/boot", accept="image/svg+xml")
            picture = reply.read()
        if reply.status != 200:
            raise told(reply.status, picture)
        _save(picture, options.svg)
        return OK
    timeline = call(options.socket, "GET", "/v1/boot")
    if options.json:
        print_json(timeline)
        return OK
    from ocelot.wire.drawing import table

    for line in table(timeline, width=columns() or 100, colour=colour()):
        print(line)
    return OK


def _save(picture: bytes, path: str) -> None:
    if path == "-":
        sys.stdout.buffer.write(picture)
    else:
        with open(path, "wb") as file:
            file.write(picture)


def _add_graph(command: ArgumentParser) -> None:
    names(command, "*")
    command.add_argument("--svg", metavar="FILE", help='write it as a picture, "-" for standard output')
    command.epilog = "Below each process stands what it depends on; with NAME, only for these."
    command.set_defaults(run=_graph)


def _graph(options: Namespace) -> int:
    from ocelot.wire import graph

    processes = call(options.socket, "GET", "/v1/status")["processes"]
    chosen: list[str] = []
    if options.names:
        found = call(options.socket, "GET", "/v1/status" + query(options.names))["processes"]
        chosen = list(dict.fromkeys(process["group"] or process["name"] for process in found))
        processes = graph.needed_by(processes, chosen)
    if options.svg:
        _save(graph.svg(processes).encode(), options.svg)
    elif options.json:
        print_json({name: [need["name"] for need in node.needs] for name, node in graph.nodes(processes).items()})
    else:
        for line in graph.tree(processes, chosen, colour=colour()):
            print(line)
    return OK


COMMANDS: dict[str, Add] = {"boot": _add_boot, "graph": _add_graph}
