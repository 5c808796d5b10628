"""A probe: when it runs, what its results add up to, and what is remembered of the last one.

The schedule and the counts are kept here and not in a task, so whoever runs a probe may be cancelled and another may go on:
a check that was cut short is simply made again. How a check is made is none of this module's business.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, SpawnError, describe
from ocelot.wire.protocol import ProbeStatus

if TYPE_CHECKING:
    from supervisor.snapshots import ProbeSnapshot

OUTPUT_MAX = 1024
"""Characters that are kept of what a probe saw."""

LATE = 2.0
"""A check that ends so many times its timeout after its beginning is made again, once."""

SOON = 0.1
"""Seconds. A readiness probe that has never been good in this life is tried again after so long, then twice that, up to its period:
most processes need a moment to begin, and whoever depends on them should not wait for a whole period."""

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What a check may lack that is ocelot's own: descriptors, memory. That says nothing about the process."""

Role = Literal["readiness", "liveness", "startup"]

Check = Callable[[], Awaitable[str]]
"""Returns what it saw if all is well. Raises :class:`Failed`, OcelotError or OSError if it is not; may take for ever.

One that hears something before it ends has it as text in its attribute ``heard``.
"""


class Failed(Exception):
    """What a probe found is not as it should be; the message says what it found."""


@dataclass(frozen=True, slots=True)
class Result:
    """``at``: seconds since the epoch. ``latency``: seconds."""

    ok: bool
    at: float
    latency: float
    output: str


class Probe:
    """One probe of a process, over all its lives; :meth:`begin` starts with each.

    ``name``: of the process. ``wait``: for a check that waits for something to happen, and is no failure before that. ``runs`` and ``misses`` count over all
    lives, ``seconds`` is the sum of their latencies.
    """

    __slots__ = (
        "_check",
        "_due",
        "config",
        "expected",
        "failures",
        "last",
        "misses",
        "name",
        "role",
        "runs",
        "seconds",
        "successes",
        "unable",
        "wait",
    )

    def __init__(self, role: Role, config: structs.Probe, check: Check, *, wait: bool = False, name: str = "") -> None:
        self.role = role
        self.config = config
        self.wait = wait
        self.name = name
        self.unable = False  # the last check could not be made, and that was said
        self.expected = False  # it is a readiness probe, and its first good result in this life is still to come
        self.last: Result | None = None
        self.successes = 0
        self.failures = 0
        self.runs = 0
        self.misses = 0
        self.seconds = 0.0
        self._check = check
        self._due = math.inf

    def forget(self) -> None:
        """The life that the last result was about is over."""
        self.successes = self.failures = 0
        self.last = None
        self._due = math.inf

    def begin(self) -> None:
        """The first check is due after ``initialDelay``."""
        self.successes = self.failures = 0
        self.expected = self.role == "readiness"
        self._due = trio.current_time() + self.config.initial_delay

    @property
    def passed(self) -> bool:
        """Whether the last checks were good, ``successThreshold`` of them."""
        return self.successes >= self.config.success_threshold

    @property
    def missed(self) -> bool:
        """Whether the last checks were bad, ``failureThreshold`` of them."""
        return self.failures >= self.config.failure_threshold

    @property
    def timeout(self) -> float:
        """Seconds that one check may take: no more than the period, also where only that was given."""
        if self.wait:
            return self.config.period if self.role == "startup" else math.inf
        return min(self.config.timeout, self.config.period)

    async def step(self) -> bool:
        """Wait until a check is due, make it, and count it; whether it was good.

        One that ocelot itself cannot make, for want of descriptors or memory, counts as nothing: it is made when the next is due.
        """
        await trio.sleep_until(self._due)
        began = trio.current_time()
        ok, output = await self._run()
        if ok is False and trio.current_time() - began > LATE * self.timeout:
            # We had no time ourselves (a machine that was paused or starved): that says nothing about the process. But once only
            began = trio.current_time()
            ok, output = await self._run()
        now = trio.current_time()
        # From beginning to beginning, as people expect of a period; what was missed while we were busy is not made up for
        self._due = max(began + self._interval(ok), now)
        if ok is None:
            if not self.unable:
                log.warn(f"{self.name}: its {self.role} probe cannot be made, which says nothing about it: {output}")
            self.unable = True
            return True
        self.unable = False
        self.last = Result(ok, time.clock_gettime(time.CLOCK_REALTIME), now - began, _bounded(output))
        self.runs += 1
        self.seconds += now - began
        if ok:
            self.successes, self.failures = self.successes + 1, 0
        else:
            self.successes, self.failures = 0, self.failures + 1
            self.misses += 1
        return ok

    def _interval(self, ok: bool | None) -> float:
        """Seconds from the check that came out as ``ok`` to the next one. ``failures`` is without it."""
        self.expected = self.expected and not ok
        soon = self.expected and ok is False
        return min(self.config.period, SOON * 2.0 ** min(self.failures, 32)) if soon else self.config.period

    async def _run(self) -> tuple[bool | None, str]:
        """Whether it was good, None if it could not be made, and what was seen."""
        try:
            with trio.move_on_after(self.timeout):
                return True, await self._check()
        except Failed as failed:
            return False, str(failed)
        except (OcelotError, OSError) as error:
            return None if _is_ours(error) else False, describe(error)
        except MemoryError as error:
            return None, describe(error)
        if self.wait:
            return False, f"nothing has matched within {self.timeout:g}s"
        heard = getattr(self._check, "heard", "")
        return False, f"timed out after {self.timeout:g}s" + (f": {heard}" if heard else "")

    def snapshot(self) -> ProbeSnapshot:
        from supervisor.snapshots import ProbeSnapshot, ResultSnapshot, monotonic

        last = self.last
        return ProbeSnapshot(
            due=monotonic(self._due),
            successes=self.successes,
            failures=self.failures,
            runs=self.runs,
            misses=self.misses,
            seconds=self.seconds,
            last=ResultSnapshot(ok=last.ok, at=last.at, latency=last.latency, output=last.output) if last else None,
        )

    def restore(self, kept: ProbeSnapshot) -> None:
        """Go on with the counts, and when the next check was due."""
        from supervisor.snapshots import trio_time

        self._due = trio_time(kept.due)
        self.successes, self.failures = kept.successes, kept.failures
        self.runs, self.misses, self.seconds = kept.runs, kept.misses, kept.seconds
        last = kept.last
        self.last = Result(last.ok, last.at, last.latency, last.output) if last else None

    def verdict(self) -> str:
        """Why the process is to go, in words."""
        times = "once" if self.failures == 1 else f"{self.failures} times in a row"
        return f"its {self.role} probe failed {times}: {self.last.output if self.last else 'no result'}"

    def status(self) -> ProbeStatus:
        last = self.last
        return ProbeStatus(
            role=self.role,
            type=str(self.config.handler.__struct_config__.tag),
            ok=last.ok if last else None,
            at=last.at if last else None,
            latency=last.latency if last else None,
            output=last.output if last else "",
            successes=self.successes,
            failures=self.failures,
            runs=self.runs,
            misses=self.misses,
            seconds=self.seconds,
        )


def _is_ours(error: OcelotError | OSError) -> bool:
    """Whether it is ocelot that lacks something."""
    number = error.errno if isinstance(error, SpawnError | OSError) else None
    return number in SHORTAGES or (isinstance(error, SpawnError) and error.step == "fork")


def _bounded(text: str) -> str:
    """One line of printable characters, cut to what is kept."""
    text = " ".join(text[: 4 * OUTPUT_MAX].split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= OUTPUT_MAX else text[: OUTPUT_MAX - 3] + "..."
