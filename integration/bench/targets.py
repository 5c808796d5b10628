"""What ocelot is to reach, each against others in the same run; and how a run did."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from integration.bench.desk import Results
from integration.bench.figures import Figure, plain

DINIT_OF_C = 0.65
"""dinit's share of the restarts a second of a loop in C, measured where it could be had."""


@dataclass(frozen=True)
class Target:
    """``bound`` is the limit in this run, or None when whom it names was not measured. ``least``: no less than it."""

    what: str
    words: str
    bound: Callable[[Results], float | None]
    least: bool = False
    value: Callable[[Figure], float] = lambda figure: figure.value
    who: str = "ocelot"


@dataclass(frozen=True)
class Verdict:
    target: Target
    value: float
    bound: float
    unit: str

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.target.least else self.value <= self.bound

    def __str__(self) -> str:
        word = "reached" if self.reached else "NOT reached"
        return f"{self.target.words}: {plain(self.value)} {self.unit}, limit {plain(self.bound)}: {word}"


def p99(figure: Figure) -> float:
    """The 99th percentile (nearest rank)."""
    ordered = sorted(figure.samples)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def _share(
    factor: float, what: str, who: str, value: Callable[[Figure], float] = lambda figure: figure.value
) -> Callable[[Results], float | None]:
    def bound(results: Results) -> float | None:
        figure = results.figure(what, who)
        return None if figure is None else factor * value(figure)

    return bound


def _fixed(limit: float) -> Callable[[Results], float | None]:
    return lambda results: limit


TARGETS = (
    Target("first service", "start to the first service <= 1.5x bare trio", _share(1.5, "first service", "bare trio")),
    Target("start of 1000", "start of 1,000 services <= s6", _share(1, "start of 1000", "s6")),
    Target("kill to restarted", "kill -9 to restarted <= s6", _share(1, "kill to restarted", "s6")),
    Target(
        "kill to restarted",
        "kill -9 to restarted, 99th percentile <= 3x the C loop's",
        _share(3, "kill to restarted", "C loop", p99),
        value=p99,
    ),
    Target(
        "restart storm",
        "restarts a second >= 0.8x dinit's (0.65x the C loop's)",
        _share(0.8 * DINIT_OF_C, "restart storm", "C loop"),
        least=True,
    ),
    Target("memory at 1", "memory with 1 service", _fixed(24)),
    Target("memory at 1000", "memory with 1,000 services", _fixed(36)),
    Target("memory at 1, asked", "memory with 1 service after a status and a scrape", _fixed(29)),
    Target("memory at 1000, asked", "memory with 1,000 services after a status and a scrape", _fixed(41)),
    Target("idle wake-ups", "wake-ups a second with 1,000 idle services", _fixed(0)),
    Target("orphans gone after", "20,000 orphans gone <= 2x tini", _share(2, "orphans gone after", "tini")),
    Target("stop of 1000", "stop of 1,000 services <= circus", _share(1, "stop of 1000", "circus")),
    Target(
        "log throughput",
        "stdout to a rotated file >= 0.8x a bare relay",
        _share(0.8, "log throughput", "bare relay"),
        least=True,
        who="ocelot, rotated",
    ),
    Target(
        "status of 100", "status of 100 services <= 0.75x supervisorctl", _share(0.75, "status of 100", "supervisord")
    ),
)


def judge(results: Results) -> list[Verdict]:
    """Every target whose figures were measured."""
    found = []
    for target in TARGETS:
        figure = results.figure(target.what, target.who)
        bound = target.bound(results)
        if figure is not None and bound is not None:
            found.append(Verdict(target, target.value(figure), bound, figure.unit))
    return found
