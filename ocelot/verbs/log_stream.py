"""Lines of logs without end: also over a reexec, in which every connection is cut and nothing is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ocelot.errors import ControlError
from ocelot.verbs.arguments import query
from ocelot.verbs.outcome import told
from ocelot.wire.client import Client, call

OVERLAP = 0.002
"""Seconds: lines that arrive within a millisecond share one time, so some of those that were seen are asked for again."""


def stream(socket: str, names: list[str], parameters: list[tuple[str, str]], *, follow: bool) -> Iterator[bytes]:
    """Lines of logs as JSON. With ``follow`` there is no end to them until ocelot itself ends. Raises ControlError."""
    place = Place()
    while True:
        try:
            with Client(socket, None if follow else 30.0) as client:
                reply = client.request("GET", "/v1/logs" + query(names, parameters))
                if reply.status != 200:
                    raise told(reply.status, reply.read())
                for line in reply.lines():
                    if not follow or place.is_new(line):
                        yield line
            return
        except ControlError as error:
            if not follow or error.kind != "unreachable" or not _still_there(socket):
                raise
        parameters = place.go_on(parameters)


class Place:
    """How far a stream was read, by the times of its lines."""

    def __init__(self) -> None:
        self._at = 0.0
        self._recent: list[tuple[float, bytes]] = []
        self._again: Counter[bytes] = Counter()  # what may come a second time, up to the time ``_until``
        self._until = 0.0

    def is_new(self, line: bytes) -> bool:
        """Note ``line``, unless it was there before the stream was cut."""
        import json

        said: dict[str, Any] = json.loads(line)
        key = f"{said['name']} {said['stream']} {said['text']}".encode("utf-8", "replace")
        if said["at"] <= self._until and self._again[key] > 0:
            self._again[key] -= 1
            return False
        self._at = max(self._at, said["at"])
        self._recent = [each for each in self._recent if each[0] >= self._at - 2 * OVERLAP]
        self._recent.append((said["at"], key))
        return True

    def go_on(self, parameters: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """What to ask for after a cut, in place of ``parameters``."""
        if not self._at:
            return parameters
        since, self._until = self._at - OVERLAP, self._at
        self._again = Counter(key for at, key in self._recent if at >= since)
        return [*(pair for pair in parameters if pair[0] not in ("n", "since")), ("since", repr(since))]


def _still_there(socket: str) -> bool:
    """Whether ocelot answers, as it does again in a moment when it was replaced."""
    time.sleep(0.1)  # one that cuts everybody off at once would keep us busy
    try:
        call(socket, "GET", "/v1/version")
    except ControlError:
        return False
    return True
