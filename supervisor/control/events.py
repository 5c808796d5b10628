"""The events stream: changes of state as they are written to the journal, one JSON object a line.

Imported when a client first asks for it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from fnmatch import translate
from typing import TYPE_CHECKING

import msgspec

from ocelot.wire.protocol import Gap, StateChange
from supervisor.lifecycle import Change

if TYPE_CHECKING:
    from supervisor.controlled import Supervised


def recent(supervisor: Supervised, wanted: Sequence[str], after: int | None, n: int | None) -> bytes:
    """The changes after the one numbered ``after``, or all that are kept; of these the last ``n``. As NDJSON."""
    return _block(supervisor, _chosen(wanted), after, n)[0]


async def follow(
    supervisor: Supervised, wanted: Sequence[str], after: int | None, n: int | None
) -> AsyncGenerator[bytes, None]:
    """What :func:`recent` gives, then new changes until closed. A reader that falls behind finds a gap that says so."""
    chosen = _chosen(wanted)
    while True:
        news = supervisor.changed()
        block, after = _block(supervisor, chosen, after, n)
        n = None
        if block:
            yield block
        else:
            await news.wait()


def _block(
    supervisor: Supervised, chosen: Callable[[str], bool], after: int | None, n: int | None
) -> tuple[bytes, int]:
    """The lines, and the number to go on from."""
    missed, entries = supervisor.journal.after(after)
    told = [_record(number, at, change) for number, at, change in entries if chosen(change.name)]
    lines: list[StateChange | Gap] = [*told] if n is None else [*told[max(0, len(told) - n) :]]
    if missed != 0:
        lines.insert(0, Gap(missed=missed))
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines), supervisor.journal.latest


def _record(number: int, at: float, change: Change) -> StateChange:
    return StateChange(
        number=number,
        at=at,
        name=change.name,
        before=change.before.value,
        state=change.after.value,
        event=change.event.value,
        reason=change.reason,
        cause=change.cause.value if change.cause is not None else None,
    )


def _chosen(wanted: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name is one of ``wanted``, which are names and glob patterns; those that appear later too."""
    names = frozenset(wanted)
    if not names or "*" in names:
        return lambda name: True
    patterns = [re.compile(translate(text)) for text in wanted if any(mark in text for mark in "*?[")]

    def chosen(name: str) -> bool:
        spellings = (name, name.partition("[")[0])  # a replica answers to the name of its entry too
        return any(each in names or any(pattern.match(each) for pattern in patterns) for each in spellings)

    return chosen
