"""What ``ocelotctl top`` asks for in every interval, and only then: the difference of two replies gives the rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocelot.verbs.top_view import Row, rows
from ocelot.wire.client import call


@dataclass
class Readings:
    """The last two replies about figures, and the status beside the last."""

    socket: str
    names: Sequence[str]
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None

    def read(self) -> None:
        from ocelot.verbs.arguments import query

        status = lasting(self.socket, "/v1/status" + query(self.names))
        after = lasting(self.socket, "/v1/figures" + query(self.names))
        self.before, self.after, self.status = self.after, after, status

    def rows(self) -> list[Row]:
        assert self.status is not None
        assert self.after is not None
        return rows(self.status, self.before, self.after)


def lasting(socket: str, target: str) -> Any:
    """The answer, also of an ocelot that takes over meanwhile. Nothing is said of that: it would spoil the screen."""
    from ocelot.verbs.again import await_answer
    from ocelot.wire.client import Cut

    try:
        return call(socket, "GET", target)
    except Cut as cut:
        await_answer(socket, cut, quiet=True)
        return call(socket, "GET", target)
