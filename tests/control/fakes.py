"""A machine to control that has no processes behind it, and a way to talk to the server in memory."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import trio
from trio.testing import memory_stream_pair

from ocelot.config import structs
from ocelot.errors import ControlError
from ocelot.states import Cause, PowerVerb, State
from ocelot.wire.protocol import (
    BootTimeline,
    ExitInfo,
    HealthStatus,
    NotifyStatus,
    ProcessStatus,
    ReloadReply,
    Span,
    Status,
)
from supervisor.control.connection import Answer, Limits, converse
from supervisor.journal import Journal
from supervisor.lifecycle import Change, Event
from supervisor.output.process_output import OutputLine
from supervisor.output.ring import Line
from supervisor.output.sinks import Counters
from supervisor.output.terminal import TerminalStream
from supervisor.roster import no_such_process

LIMITS = Limits()


@dataclass
class FakeOutput:
    kept: list[OutputLine] = field(default_factory=list)
    watchers: list[Callable[[str, Line], None]] = field(default_factory=list)
    counters: Mapping[str, Counters] = field(default_factory=lambda: {"stdout": Counters(bytes=120, dropped=7)})
    files: int = 1
    rotated: int = 0
    refusal: OSError | None = None
    terminal: TerminalStream | None = None

    def lines(self, last: int | None = None, since: float | None = None) -> Sequence[OutputLine]:
        found = [line for line in self.kept if since is None or line.at >= since]
        return found if last is None else found[max(0, len(found) - last) :]

    @contextmanager
    def watch(self, seen: Callable[[str, Line], None]) -> Iterator[None]:
        self.watchers.append(seen)
        try:
            yield
        finally:
            self.watchers.remove(seen)

    def rotate(self) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.rotated += 1
        return self.files

    def write(self, at: float, text: str, stream: str = "stdout") -> None:
        self.kept.append(OutputLine(at, stream, text))
        for seen in list(self.watchers):
            seen(stream, Line(at, text))


class FakeSupervisor:
    """Starting leads to ``starting``; :meth:`become` plays what the process does then."""

    def __init__(self, *names: str) -> None:
        self._all = {name: running(name, pid=100 + index) for index, name in enumerate(names)}
        self.outputs = {name: FakeOutput() for name in names}
        self.cgroups: dict[str, str] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.under_way: dict[str, dict[str, float | None]] = {}
        self.notifies: set[str] = set()
        self.signals: list[tuple[tuple[str, ...], int]] = []
        self.journal = Journal(4, now=lambda: 1000.0)
        self._change = trio.Event()
        self.listeners: list[Callable[[Change], None]] = []
        self.broken: Exception | None = None

    @property
    def names(self) -> Sequence[str]:
        if self.broken is not None:
            raise self.broken
        return tuple(self._all)

    def status(self, name: str) -> ProcessStatus:
        if name not in self._all:
            raise no_such_process(name)
        return self._all[name]

    def statuses(self) -> list[ProcessStatus]:
        return list(self._all.values())

    async def start(self, names: Sequence[str]) -> None:
        self._ask("start", names, State.STARTING)

    async def stop(self, names: Sequence[str]) -> None:
        self._ask("stop", names, State.STOPPING)

    async def restart(self, names: Sequence[str]) -> None:
        self._ask("restart", names, State.STOPPING)

    def _ask(self, verb: str, names: Sequence[str], state: State) -> None:
        self.asked.append((verb, tuple(names)))
        for name in names:
            self.become(name, state)

    def config(self, name: str) -> structs.Process:
        notify = structs.Notify(type="systemd") if name in self.notifies else None
        reload_signal = None if name == "db" else signal.SIGHUP
        return structs.Process(program="/bin/server", reload_signal=reload_signal, notify=notify)

    def signal(self, names: Sequence[str], number: int) -> None:
        self.signals.append((tuple(names), number))

    def reload(self, names: Sequence[str]) -> None:
        for name in names:
            self.signal([name], signal.SIGHUP)

    def reloading(self, name: str, how_far: Literal["reloading", "done"]) -> None:
        self._all[name].health = HealthStatus(notify=NotifyStatus(reload=how_far))
        self.become(name, State.RUNNING)

    async def accepted(self, names: Sequence[str]) -> None:
        pass

    async def scale(self, name: str, replicas: int) -> None:
        self.asked.append(("scale", (name, str(replicas))))

    def changed(self) -> trio.Event:
        return self._change

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def add(self, name: str) -> FakeOutput:
        self._all[name] = running(name)
        self.outputs[name] = FakeOutput()
        self.become(name, State.STARTING)
        return self.outputs[name]

    def take_away(self, name: str) -> None:
        self.become(name, State.STOPPED, pid=None)
        del self._all[name]

    def become(
        self,
        name: str,
        state: State,
        pid: int | None = 0,
        status: int | None = None,
        started_at: float | None = None,
    ) -> None:
        """``pid`` 0 keeps what it is."""
        process = self._all[name]
        before = State(process.state)
        process.state = state.value
        process.ready = state is State.RUNNING
        if pid != 0:
            process.pid = pid
        process.started_at = started_at or process.started_at
        if status is not None:
            process.last_exit = ExitInfo(status=status, code=status, cause="exit", at=1.0)
        process.failed = state is State.FATAL or (state is State.EXITED and bool(status))
        cause = Cause.EXIT if status is not None else None
        change = Change(name, before, state, Event.READY, f"it is {state}", cause)
        self.journal.note(change)
        for listener in self.listeners:
            listener(change)
        self._change.set()
        self._change = trio.Event()


def running(name: str, pid: int | None = 100) -> ProcessStatus:
    return ProcessStatus(
        name=name,
        state="running",
        goal="up",
        ready=True,
        pid=pid,
        uptime=61.0,
        started_at=1000.0,
        restarts=3,
        restarts_by_cause={"exit": 2, "signal": 1},
        program=f"/bin/{name}",
    )


@dataclass
class FakeMachine:
    supervisor: FakeSupervisor | None = field(default_factory=lambda: FakeSupervisor("web", "web-2", "db"))
    verbs: list[PowerVerb] = field(default_factory=list)
    measures: object | None = None
    config: structs.Sections = field(default_factory=structs.SuperviseFile)

    def status(self) -> Status:
        return Status(
            version="0",
            hostname="box",
            identity="container",
            phase="running",
            pid=1,
            uptime=5.0,
            processes=self.supervisor.statuses() if self.supervisor is not None else [],
        )

    def timeline(self) -> BootTimeline:
        return BootTimeline(
            before=0.5,
            finished=True,
            spans=[
                Span(name="mount /data", phase="preSwitch", start=0.25, end=1.0, outcome="ok"),
                Span(name="hook <a&b>", phase="preSwitch", start=1.0, end=2.0, outcome="warned", detail="it failed"),
                Span(name="switchRoot", phase="switchRoot", start=2.0, end=2.5, outcome="ok"),
            ],
        )

    def request_power(self, verb: PowerVerb) -> None:
        self.verbs.append(verb)

    async def reload(self, file: str | None, *, dry_run: bool, keep_scale: bool) -> ReloadReply:
        return ReloadReply(file=file or "/etc/ocelot.yaml", applied=not dry_run)

    async def replace(self, runtime: str | None, descriptor: int) -> None:
        raise ControlError(f"cannot replace this image: {runtime}, {descriptor}", status=409, kind="busy")

    def counters(self) -> Mapping[str, float]:
        return {"reaped_orphans": 4.0}


async def talk(answer: Answer, *blocks: bytes, limits: Limits = LIMITS) -> bytes:
    """Send ``blocks`` on one connection, close the sending side, and return all that was answered."""
    ours, theirs = memory_stream_pair()
    heard = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(converse, theirs, answer, limits)
        try:
            for block in blocks:
                await ours.send_all(block)
            await ours.send_eof()
        except trio.BrokenResourceError:
            pass  # it has closed already
        async for piece in ours:
            heard += piece
    return bytes(heard)


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of one request that closes its connection."""
    head = f"{method} {target} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]
