"""Streams that ``ocelot.client`` follows over a reexec: what is asked for, and where it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ocelot.client.exchange import query
from ocelot.wire.place import BEGAN, LATEST, Place
from ocelot.wire.protocol import API, Gap, LogLine, StateChange

Item = TypeVar("Item", contravariant=True)


class Followed(Protocol[Item]):
    """Where a stream is asked for, and how far it was read."""

    @property
    def kind(self) -> Any:
        """What its lines are."""

    def target(self, names: Sequence[str]) -> str:
        """What to ask for on the next connection."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """An answer has begun."""

    def is_new(self, item: Item) -> bool:
        """Note ``item``; false if it was there before a cut."""

    def cut(self) -> None:
        """The connection has ended: what is asked for next is what follows."""


class Lines:
    """Lines of logs."""

    kind = LogLine

    def __init__(self, n: int | None, since: float | None) -> None:
        self._n, self._since = n, since
        self._place = Place()

    def target(self, names: Sequence[str]) -> str:
        return f"{API}/logs" + query(
            names, n=self._n, since=repr(self._since) if self._since is not None else None, follow="true"
        )

    def begin(self, headers: Mapping[str, str]) -> None:
        self._place.begin(headers.get(BEGAN))

    def is_new(self, item: LogLine) -> bool:
        return self._place.is_new(item.at, f"{item.name} {item.stream} {item.text}")

    def cut(self) -> None:
        since = self._place.cut()
        if since is not None:
            self._n, self._since = None, since


class Changes:
    """Changes of state."""

    kind = StateChange | Gap

    def __init__(self, n: int | None, after: int | None) -> None:
        self._n, self._after = n, after
        self._latest: int | None = None

    def target(self, names: Sequence[str]) -> str:
        return f"{API}/events" + query(names, n=self._n, after=self._after, follow="true")

    def begin(self, headers: Mapping[str, str]) -> None:
        if self._latest is None and LATEST in headers:
            self._latest = int(headers[LATEST])

    def is_new(self, item: StateChange | Gap) -> bool:
        if isinstance(item, StateChange):
            self._after = item.number
        return True

    def cut(self) -> None:
        self._n = None
        self._after = self._latest if self._after is None else self._after
