"""Supervision on this machine: what ocelot and its peers cost, doing the same work in turns.

Every measurement goes round all peers before it begins again, so that a busy minute of the machine falls on all of them.
The medians count, and more than them the ratios.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from integration.bench import logs, peers, session, spawns
from integration.bench.figures import Figure
from integration.bench.peers import Peer
from integration.bench.session import Session
from integration.lab import cache

Say = Callable[[str], None]

PAUSE = 1.05
"""Seconds that a service has to live for s6 and runit to restart it at once."""

BUDGET = 12.0
"""Seconds in all for the restarts of one peer: a slow one gets fewer."""

SLOW = 1_000_000_000
"""Nanoseconds for the orphans after which a peer is not asked again."""

OURS = "ocelot"

KILLED_IN_TURN = 20
"""How many services there are to be killed one after another."""


@dataclass(frozen=True)
class Effort:
    """How often each thing is done. ``idle`` and ``storm`` in seconds."""

    starts: int = 9
    rounds: int = 3
    services: tuple[int, ...] = (100, 1000)
    kills: int = 200
    idle: float = 10.0
    storm: float = 2.0
    orphans: int = 20_000
    calls: int = 15
    megabytes: int = 200


QUICK = Effort(starts=3, rounds=1, services=(100,), kills=40, idle=3.0, storm=1.0, orphans=5_000, calls=5, megabytes=50)


@dataclass
class Results:
    """Samples by measurement and peer."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, who: str, unit: str, *values: float) -> None:
        self.units[what] = unit
        self.samples.setdefault(what, {}).setdefault(who, []).extend(values)

    def figure(self, what: str, who: str) -> Figure | None:
        found = self.samples.get(what, {}).get(who)
        return Figure(tuple(found), self.units[what]) if found else None


def measure(folder: Path, effort: Effort, say: Say, *, only: str | None = None) -> Results:
    """Everything, or one of :data:`MEASUREMENTS`. Raises OcelotError when the services cannot be compiled."""
    made, left_out = peers.tools(say)
    everybody, missing = peers.all_peers(made)
    results = Results(notes=missing + left_out)
    bench = Bench(folder, made, everybody, effort, results, say)
    for name, run in MEASUREMENTS.items():
        if only in (None, name):
            say(name)
            run(bench)
    return results


@dataclass
class Bench:
    folder: Path
    tools: peers.Tools
    peers: list[Peer]
    effort: Effort
    results: Results
    say: Say
    failed: set[tuple[str, str]] = field(default_factory=set)

    def start(
        self, peer: Peer, count: int, program: Path | None = None, *, own_pids: bool = False, **environment: str
    ) -> AbstractContextManager[Session]:
        folder = self.folder / peer.name.replace(" ", "-")
        return session.session(peer, folder, count, program or self.tools.service, own_pids=own_pids, **environment)

    @contextmanager
    def guard(self, what: str, peer: Peer) -> Iterator[None]:
        """One that fails is told and left out; the others go on."""
        try:
            yield
        except (TimeoutError, OSError, subprocess.CalledProcessError) as error:
            self.failed.add((what, peer.name))
            self.say(f"  {peer.name}: {what} failed: {error!r}")
            note = f"{peer.name}: {what} could not be measured each time."
            if note not in self.results.notes:
                self.results.notes.append(note)


def _start(bench: Bench) -> None:
    """From the command to the first instruction of its one service, and what it holds then."""
    for _ in range(bench.effort.starts):
        for peer in bench.peers:
            with bench.guard("start", peer), bench.start(peer, 1) as one:
                bench.results.add("first service", peer.name, "ms", one.await_services(1))
                time.sleep(0.3)
                bench.results.add("memory at 1", peer.name, "MiB", session.pss(one.supervisors()))
                if peer.name == OURS:
                    _ask(one)
                    bench.results.add("memory at 1, asked", peer.name, "MiB", session.pss(one.supervisors()))


def _many(bench: Bench) -> None:
    """Starting hundreds, holding them, doing nothing, and stopping them."""
    for count in bench.effort.services:
        for turn in range(bench.effort.rounds):
            for peer in bench.peers:
                if (f"{count} services", peer.name) in bench.failed:
                    continue  # it would take as long each time
                with bench.guard(f"{count} services", peer), bench.start(peer, count) as one:
                    _one_of_many(bench, one, count, looked_at=turn == 0)


def _one_of_many(bench: Bench, one: Session, count: int, *, looked_at: bool) -> None:
    who, add = one.peer.name, bench.results.add
    add(f"start of {count}", who, "ms", one.await_services(count))
    time.sleep(0.5)
    add(f"memory at {count}", who, "MiB", session.pss(one.supervisors()))
    if looked_at and count == max(bench.effort.services):
        _idle(bench, one)
    if one.peer.name == OURS:
        _ask(one)
        add(f"memory at {count}, asked", who, "MiB", session.pss(one.supervisors()))
    add(f"stop of {count}", who, "ms", one.stop())


def _idle(bench: Bench, one: Session) -> None:
    supervisors = one.supervisors()
    time.sleep(1.0)  # what was still to be done after the start is done
    woken, worked = session.switches(supervisors), session.run_time(supervisors)
    time.sleep(bench.effort.idle)
    woken, worked = session.switches(supervisors) - woken, session.run_time(supervisors) - worked
    bench.results.add("idle wake-ups", one.peer.name, "/s", woken / bench.effort.idle)
    bench.results.add("idle cpu", one.peer.name, "ms/s", worked / 1e6 / bench.effort.idle)


def _ask(one: Session) -> None:
    """A status and a scrape, after which more of ocelot is in memory."""
    assert one.peer.status is not None
    status = one.peer.status(one.folder)
    for command in (status, [*status[:-1], "metrics"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=session.surroundings(one.peer))


def _restarts(bench: Bench) -> None:
    """From kill -9 of a service to the first instruction of its successor, on the kernel's clock on both ends.

    All peers are up at once, and idle but for the one whose service is killed.
    """
    with ExitStack() as stack:
        running = _all_up(bench, stack, [peer.brisk or peer for peer in bench.peers], KILLED_IN_TURN)
        spent = {one.peer.name: 0.0 for one in running}
        for _ in range(bench.effort.kills // KILLED_IN_TURN):
            time.sleep(PAUSE)
            for one in running:
                if spent[one.peer.name] < BUDGET:
                    taken = [_kill(one, number) for number in range(KILLED_IN_TURN)]
                    bench.results.add("kill to restarted", one.peer.name, "ms", *taken)
                    spent[one.peer.name] += sum(taken) / 1000


def _all_up(bench: Bench, stack: ExitStack, chosen: list[Peer], count: int) -> list[Session]:
    """All of them at the same time, each with so many services; those that fail are left out."""
    up = []
    for peer in chosen:
        with bench.guard(f"{count} services beside the others", peer):
            one = stack.enter_context(bench.start(peer, count))
            one.await_services(count)
            up.append(one)
    return up


def _kill(one: Session, number: int) -> float:
    time.sleep(0.003)  # so that nobody is still busy with the one before
    killed = time.monotonic_ns()
    os.kill(one.services[number], signal.SIGKILL)
    one.services[number], at = one.stamps.next()
    return (at - killed) / 1e6


def _storm(bench: Bench) -> None:
    """How often a second a service that ends at once is started again."""
    for _ in range(bench.effort.rounds):
        for peer in bench.peers:
            with bench.guard("restart storm", peer):
                bench.results.add("restart storm", peer.name, "/s", _starts_a_second(bench, peer.brisk or peer))


def _starts_a_second(bench: Bench, peer: Peer) -> float:
    file = bench.folder / "count"
    file.write_bytes(b"")
    with bench.start(peer, 1, BENCH_STAMPS=str(file), BENCH_ENDS="1"):
        _until(lambda: file.stat().st_size > 0)
        time.sleep(0.2)
        before, began = file.read_bytes().count(b"\n"), time.monotonic()
        time.sleep(bench.effort.storm)
        return (file.read_bytes().count(b"\n") - before) / (time.monotonic() - began)


def _orphans(bench: Bench) -> None:
    """As PID 1, while thousands of orphans die one after another: how soon after the last nobody is left."""
    if os.geteuid() != 0:
        bench.results.notes.append("Orphans could not be measured: that needs root.")
        return
    everybody = [*bench.peers]
    if (tini := cache.tool("tini")) is not None:
        everybody.append(Peer("tini", lambda folder, count, program: [tini, "--", str(program)]))
    else:
        bench.results.notes.append("tini is not measured: it is not installed (apt package tini).")
    slow: set[str] = set()
    for _ in range(bench.effort.rounds):
        for peer in everybody:
            if peer.name in slow:
                continue
            environment = {"BENCH_COUNT": str(bench.effort.orphans)}
            with (
                bench.guard("orphans", peer),
                bench.start(peer, 1, bench.tools.orphans, own_pids=True, **environment) as one,
            ):
                left, nanoseconds = one.stamps.next()
                bench.results.add("orphans left over", peer.name, "", left)
                bench.results.add("orphans gone after", peer.name, "ms", nanoseconds / 1e6)
                if left or nanoseconds > SLOW:
                    slow.add(peer.name)


def _control(bench: Bench) -> None:
    """The whole command that shows the status of 100 services."""
    with ExitStack() as stack:
        running = _all_up(bench, stack, [peer for peer in bench.peers if peer.status is not None], 100)
        commands = {one.peer: one.peer.status(one.folder) for one in running if one.peer.status is not None}
        for peer, command in commands.items():
            _until(partial(_answers, command, session.surroundings(peer)))
        for _ in range(bench.effort.calls):
            for peer, command in commands.items():
                environment = session.surroundings(peer)
                began = time.monotonic()
                _answers(command, environment)
                bench.results.add("status of 100", peer.name, "ms", (time.monotonic() - began) * 1000)


def _logs(bench: Bench) -> None:
    """How fast a service can write to a log, each system in turn."""
    supervisord = bench.tools.supervisord
    found = logs.measure(
        bench.folder, bench.effort.rounds, bench.effort.megabytes, str(supervisord) if supervisord else None
    )
    for name, figure in found.items():
        bench.results.add("log throughput", name, figure.unit, *figure.samples)


def _spawns(bench: Bench) -> None:
    """What one start costs us, without a supervisor around it."""
    for name, figure in spawns.measure(bench.effort.kills).items():
        bench.results.add("spawn", name, figure.unit, *figure.samples)


def _answers(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return done.returncode == 0 and bool(done.stdout)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + session.PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


MEASUREMENTS: Mapping[str, Callable[[Bench], None]] = {
    "start": _start,
    "many": _many,
    "restarts": _restarts,
    "storm": _storm,
    "orphans": _orphans,
    "control": _control,
    "logs": _logs,
    "spawns": _spawns,
}
