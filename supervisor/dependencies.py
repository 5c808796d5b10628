"""What holds a process back until others have come as far as it needs them, and who is told when they have.

A dependency holds at the start only, as a milestone does in dinit: a process that runs goes on when what it depends on ends, unless
it says ``restart: true``. Conditions are looked at when somebody's state changes; nothing is remembered that a state does
not tell, so the order in which things happen makes no difference.

Imported only for a set in which somebody depends on somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ocelot import log
from ocelot.config import structs
from ocelot.config.dependencies import condition_of, edges
from ocelot.config.graph import chains, order, reversed_edges
from ocelot.config.structs import Condition
from ocelot.states import Cause, Goal, State
from ocelot.wire.protocol import DependencyStatus
from supervisor.process.supervised import Process
from supervisor.process.surroundings import Hold
from supervisor.replicas import base_of

Find = Callable[[str], Sequence[Process]]
"""The processes that a name of the configuration stands for: its replicas, or itself."""

_WORDS = {
    Condition.STARTED: "to be started",
    Condition.HEALTHY: "to be healthy",
    Condition.LOG_READY: "to say in its log that it is ready",
    Condition.COMPLETED: "to complete",
    Condition.COMPLETED_SUCCESSFULLY: "to complete successfully",
}


class Link(NamedTuple):
    """One dependency, with its condition filled in."""

    name: str
    condition: Condition
    required: bool
    restart: bool


class Blame(NamedTuple):
    """Why something will never come: the names that lead there, and what became of the last one."""

    path: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        if len(self.path) == 2:
            return f'its dependency "{self.path[1]}" failed: {self.reason}'
        return f'its dependency "{self.path[1]}" failed: {" -> ".join(self.path)}, and {self.path[-1]} {self.reason}'


class Gate:
    """What ``name`` waits for. ``blame`` is set while it has failed because of another."""

    def __init__(self, name: str, links: Sequence[Link], find: Find) -> None:
        self.name = name
        self.links = links
        self.blame: Blame | None = None
        self._find = find

    def look(self) -> Hold | None:
        """What holds it back now, or None. A soft dependency that failed is told in the log and passed over."""
        self.blame = None
        waiting: list[str] = []
        without: list[str] = []
        for link in self.links:
            standing = self._standing(link)
            if standing is None:
                continue
            if not link.required and (isinstance(standing, Blame) or self._unwanted(link)):
                without.append(link.name)
            elif isinstance(standing, Blame):
                self.blame = standing
                return Hold(str(standing), for_good=True)
            else:
                waiting.append(standing)
        if waiting:
            more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
            return Hold(f"waiting for {', '.join(waiting[:3])}{more}")
        if without:
            log.warn(f"{self.name}: starts without {', '.join(without)}, which it does not require")
        return None

    def unmet(self) -> list[str]:
        """The names of what it requires and does not have."""
        return [link.name for link in self.links if link.required and self._standing(link) is not None]

    def statuses(self) -> list[DependencyStatus]:
        """The dependencies one by one, for the status."""
        return [
            DependencyStatus(
                name=link.name,
                condition=link.condition.value,
                required=link.required,
                restart=link.restart,
                met=self._standing(link) is None,
            )
            for link in self.links
        ]

    def _unwanted(self, link: Link) -> bool:
        return all(other.goal is Goal.DOWN and other.state is State.STOPPED for other in self._find(link.name))

    def _standing(self, link: Link) -> Blame | str | None:
        """None: the condition holds. Text: what is waited for. Else why it never will."""
        others = self._find(link.name)
        if not others:
            return f'"{link.name}" {_WORDS[link.condition]} (there is none)'
        for other in others:
            if not holds(link.condition, other):
                if failed(link.condition, other):
                    return self._blame(link.condition, other)
                wish = ", not wanted up" if other.goal is Goal.DOWN else ""
                return f'"{other.name}" {_WORDS[link.condition]} ({other.state.value}{wish})'
        return None

    def _blame(self, condition: Condition, other: Process) -> Blame:
        behind = _blamed(other)
        if behind is not None:
            return Blame((self.name, *behind.path), behind.reason)
        reason = other.reason
        if other.state is State.EXITED and condition in (Condition.HEALTHY, Condition.LOG_READY):
            reason = f"has ended, so it cannot be ready: {reason}"
        return Blame((self.name, other.name), reason)


def holds(condition: Condition, other: Process) -> bool:
    """Whether ``condition`` is true of ``other`` now. A schedule's last run counts until the next one has ended."""
    ended = other.history.last_end
    ran = ended is not None and ended.status is not None
    if condition is Condition.STARTED:
        return (other.pid is not None and other.state is not State.STOPPING) or (other.state is State.EXITED and ran)
    if condition in (Condition.HEALTHY, Condition.LOG_READY):
        return other.ready
    over = other.state is State.EXITED or other.config.schedule is not None
    if condition is Condition.COMPLETED:
        return ran and (over or other.state is State.FATAL)
    return over and other.succeeded


def failed(condition: Condition, other: Process) -> bool:
    """Whether ``condition``, which does not hold, never will unless somebody starts ``other`` again."""
    if other.about_to_start:
        return False
    if other.config.schedule is not None:
        # Its next run may do better, if there is one and it is let
        return other.state is State.FATAL and (_blamed(other) is not None or _has_no_time(other))
    if other.state is State.EXITED:
        return condition is not Condition.STARTED
    return other.state is State.FATAL


def _blamed(process: Process) -> Blame | None:
    """Why it has failed, if it has because of another."""
    return process.gate.blame if isinstance(process.gate, Gate) and process.state is State.FATAL else None


def _has_no_time(process: Process) -> bool:
    return process.schedule is None or process.schedule.next_run is None


class Dependencies:
    """Who depends on whom, by the names of the configuration."""

    def __init__(self, processes: Mapping[str, structs.Process], find: Find) -> None:
        self._find = find
        self._edges = edges(processes)
        self._dependants = reversed_edges(self._edges)
        self.order = order(self._edges)
        self._links = {
            name: tuple(
                Link(other, condition_of(each, processes[other]), each.required, each.restart)
                for other, each in process.depends_on.items()
                if other in processes
            )
            for name, process in processes.items()
            if process.depends_on
        }

    def gate(self, base: str, name: str) -> Gate | None:
        """For the process ``name``, which is ``base`` or one of its replicas; None if it depends on nothing."""
        links = self._links.get(base)
        return Gate(name, links, self._find) if links else None

    def dependants(self, base: str) -> Iterable[Process]:
        """Every process that depends on ``base`` directly."""
        for name in self._dependants.get(base, ()):
            yield from self._find(name)

    def ranks(self, processes: Iterable[Process]) -> list[list[Process]]:
        """``processes`` in the order of stopping: each rank depends on nothing in the ranks before it, directly or not."""
        chosen: dict[str, list[Process]] = {}
        for process in processes:
            chosen.setdefault(base_of(process.name), []).append(process)
        rank: dict[str, int] = {}
        for name in reversed(self.order):
            above = max((rank[each] for each in self._dependants[name]), default=-1)
            rank[name] = above + (name in chosen)
        ranks: dict[int, list[Process]] = {}
        for name in reversed(self.order):
            if name in chosen:
                ranks.setdefault(rank[name], []).extend(reversed(chosen[name]))
        return [ranks[each] for each in sorted(ranks)]

    def chains(self, weights: Mapping[str, float]) -> dict[str, float]:
        """For each process in ``weights`` (names with their replicas) the heaviest chain of dependencies through it."""
        by_base: dict[str, float] = {}
        for name, weight in weights.items():
            by_base[base_of(name)] = max(weight, by_base.get(base_of(name), 0.0))
        heaviest = chains(self._edges, by_base)
        return {name: heaviest[base_of(name)] for name in weights}

    def needed(self, bases: Iterable[str]) -> list[str]:
        """What ``bases`` require, directly or not, and do not have: what a start of them must start first."""
        found: dict[str, None] = {}
        pending = list(bases)
        while pending:
            for process in self._find(pending.pop()):
                if isinstance(process.gate, Gate):
                    new = [name for name in process.gate.unmet() if name not in found]
                    found.update(dict.fromkeys(new))
                    pending += new
        return [name for name in self.order if name in found]

    def changed(self, base: str, *, begins: bool, again: bool) -> None:
        """The state of ``base`` has changed: tell those that wait for it.

        ``begins``: it is started or waits to be, so what failed because of it is wanted up again. ``again``: it is started, and
        not for the first time, so those that follow are restarted.
        """
        for name in self._dependants.get(base, ()):
            follows = again and any(link.restart and link.name == base for link in self._links[name])
            for process in self._find(name):
                if follows and process.goal is Goal.UP and process.state in (State.STARTING, State.RUNNING):
                    process.restart(Cause.DEPENDENCY)
                elif begins and process.goal is Goal.UP and _fell_with(process, base):
                    process.start()
                else:
                    process.look_again()


def _fell_with(process: Process, base: str) -> bool:
    """Whether it has failed because ``base`` had."""
    blame = _blamed(process)
    return blame is not None and base_of(blame.path[1]) == base
