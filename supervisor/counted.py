"""What was counted of a process: it outlives the process, and goes on in the image that replaces ocelot."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counted:
    """What only grows. Seconds, bytes and numbers; None: not ours to see."""

    user_seconds: float = 0.0
    system_seconds: float = 0.0
    read_bytes: int | None = None
    written_bytes: int | None = None
    voluntary_switches: int = 0
    involuntary_switches: int = 0


@dataclass
class Account:
    """What was measured of one process. ``last``: read in this life of it. ``total``: said to the outside, over all lives."""

    pid: int
    last: Counted = field(default_factory=Counted)
    total: Counted = field(default_factory=Counted)
