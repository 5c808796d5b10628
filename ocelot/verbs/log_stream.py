"""Lines of logs without end: also over a reexec, in which every connection is cut and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ocelot.verbs.again import await_answer
from ocelot.verbs.arguments import query
from ocelot.verbs.outcome import told
from ocelot.wire.client import Client, Cut
from ocelot.wire.place import BEGAN, Place


def stream(socket: str, names: list[str], parameters: list[tuple[str, str]], *, follow: bool) -> Iterator[bytes]:
    """Lines of logs as JSON. With ``follow`` there is no end to them until ocelot itself ends. Raises ControlError."""
    place = Place()
    while True:
        try:
            with Client(socket, None if follow else 30.0) as client:
                reply = client.request("GET", "/v1/logs" + query(names, parameters))
                if reply.status != 200:
                    raise told(reply.status, reply.read())
                place.begin(reply.headers.get(BEGAN))
                for line in reply.lines():
                    if not follow or is_new(place, line):
                        yield line
            return
        except Cut as cut:
            if not follow:
                raise
            await_answer(socket, cut)
        parameters = go_on(place, parameters)


def is_new(place: Place, line: bytes) -> bool:
    """Whether ``line``, a JSON object, was not seen before a cut."""
    import json

    said: dict[str, Any] = json.loads(line)
    return place.is_new(said["at"], f"{said['name']} {said['stream']} {said['text']}")


def go_on(place: Place, parameters: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What to ask for after a cut, in place of ``parameters``."""
    since = place.cut()
    if since is None:
        return parameters
    return [*(pair for pair in parameters if pair[0] not in ("n", "since")), ("since", repr(since))]
