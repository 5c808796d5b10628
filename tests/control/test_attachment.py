"""Attached to the terminal of a process: what a client is sent, and what becomes of what it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ocelot.errors import ControlError
from ocelot.states import State
from ocelot.wire.protocol import Role, TerminalRequest
from supervisor.control.attachment import ASK, BEHIND, LINE, SEND, Viewer, admit, attend, watch
from supervisor.control.door import Door
from supervisor.control.endpoints import control_answer
from supervisor.output.ring import Ring
from supervisor.output.terminal import TerminalStream
from tests.control.fakes import FakeMachine, FakeSupervisor, request, status_of, talk


class FakeTerminal:
    """``room``: bytes that go in before it waits for :attr:`read` to be set."""

    def __init__(self, room: int = 1000) -> None:
        self.ring = Ring(100)
        self.viewers: list[Callable[[bytes], None]] = []
        self.room = room
        self.read = trio.Event()
        self.typed = b""
        self.sizes: list[tuple[tuple[int, int], bool]] = []

    def write(self, block: bytes) -> None:
        for show in self.viewers:
            show(block)
        self.ring.append(block.replace(b"\r\n", b"\n"))

    def type_now(self, data: bytes) -> bytes:
        now, later = data[: self.room], data[self.room :]
        self.room -= len(now)
        self.typed += now
        return later

    async def type(self, data: bytes) -> None:
        await self.read.wait()
        self.typed += data

    def resize(self, size: tuple[int, int], *, redraw: bool = False) -> None:
        self.sizes.append((size, redraw))


class Client:
    """The other side of a connection."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.heard = b""

    async def say(self, **message: Any) -> None:
        await self.stream.send_all(json.dumps(message).encode() + b"\n")

    async def type(self, data: bytes) -> None:
        await self.say(kind="input", data=base64.b64encode(data).decode())

    async def next(self) -> Any:
        while True:
            line, found, rest = self.heard.partition(b"\n")
            if found:
                self.heard = rest
                if line:
                    return json.loads(line)
                continue
            piece = await self.stream.receive_some()
            if not piece:
                return None
            self.heard += piece

    async def text(self) -> bytes:
        return base64.b64decode((await self.next())["data"])


Play = Callable[[Client, FakeTerminal, FakeSupervisor], Awaitable[None]]


async def serve(stream: Any, supervisor: FakeSupervisor, terminal: FakeTerminal, request: TerminalRequest) -> None:
    async with stream:
        await attend(stream, supervisor, "web", cast(TerminalStream, terminal), request)


def play(script: Play, *, room: int = 1000, clock: MockClock | None = None, **request: Any) -> FakeTerminal:
    """Attach to "web" while ``script`` runs; fails if the server does not end when the client has gone."""

    async def main() -> FakeTerminal:
        supervisor, terminal = FakeSupervisor("web", "db"), FakeTerminal(room)
        terminal.write(b"one\r\ntwo\r\n$ ")
        ours, theirs = memory_stream_pair()
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, theirs, supervisor, terminal, TerminalRequest(**request))
                await script(Client(ours), terminal, supervisor)
                await ours.aclose()
        assert terminal.viewers == []
        assert supervisor.listeners == []
        return terminal

    return trio.run(main, clock=clock or MockClock(autojump_threshold=0))


def test_the_last_lines_then_what_comes_then_the_end() -> None:
    async def script(client: Client, terminal: FakeTerminal, supervisor: FakeSupervisor) -> None:
        assert await client.next() == {"kind": "attached", "pid": 100, "at": 4}
        assert await client.next() == {"kind": "output", "data": base64.b64encode(b"two\r\n$ ").decode(), "at": 10}
        terminal.write(b"\x1b[H\r\n")
        assert await client.next() == {"kind": "output", "data": base64.b64encode(b"\x1b[H\r\n").decode(), "at": 14}
        supervisor.become("db", State.EXITED)
        await wait_all_tasks_blocked()
        terminal.write(b"bye")
        supervisor.become("web", State.STOPPING)
        supervisor.become("web", State.EXITED, None, 5)
        assert await client.text() == b"bye"
        ended = await client.next()
        assert (ended["kind"], ended["status"], ended["code"]) == ("ended", 5, 5)
        assert await client.next() is None

    play(script, lines=2)


@pytest.mark.parametrize(
    ("request_", "kept"),
    [({"lines": 0}, None), ({"after": 4, "lines": 1}, b"two\r\n$ "), ({"after": 10}, None), ({"after": 999}, None)],
)
def test_where_it_begins(request_: dict[str, int], kept: bytes | None) -> None:
    async def script(client: Client, terminal: FakeTerminal, _: FakeSupervisor) -> None:
        assert (await client.next())["kind"] == "attached"
        if kept is not None:
            assert await client.text() == kept
        terminal.write(b"next")
        assert await client.text() == b"next"

    play(script, **request_)


@pytest.mark.parametrize("state", [State.BACKOFF, State.RUNNING])
def test_after_a_cut_another_start_of_it_is_the_end(state: State) -> None:
    async def main() -> list[Any]:
        supervisor, terminal = FakeSupervisor("web"), FakeTerminal()
        supervisor.become("web", state, 777, 3)
        wanted = TerminalRequest(pid=100 if state is State.RUNNING else 777, after=0)
        return [json.loads(line) async for line in watch(supervisor, "web", cast(TerminalStream, terminal), wanted)]

    attached, ended = trio.run(main)
    assert (attached["kind"], ended["kind"], ended["status"]) == ("attached", "ended", 3)


def test_keys_and_sizes_go_in() -> None:
    async def script(client: Client, terminal: FakeTerminal, _: FakeSupervisor) -> None:
        await client.type(b"ls\r\0\xff")
        await client.say(kind="size", rows=50, columns=100)
        await client.stream.send_all(b"\n\n")
        await wait_all_tasks_blocked()
        assert terminal.typed == b"ls\r\0\xff"
        assert terminal.sizes == [((24, 80), True), ((50, 100), False)]

    play(script, rows=24, columns=80)


def test_who_types_waits_until_it_is_read() -> None:
    async def script(client: Client, terminal: FakeTerminal, _: FakeSupervisor) -> None:
        assert (await client.next())["kind"] == "attached"
        await client.type(b"123456")
        await client.type(b"789")
        await wait_all_tasks_blocked()
        assert terminal.typed == b"1234"
        terminal.write(b"echo")
        assert await client.text() == b"echo"
        terminal.read.set()
        await wait_all_tasks_blocked()
        assert terminal.typed == b"123456789"
        terminal.read = trio.Event()
        await client.type(b"another")
        await wait_all_tasks_blocked()
        assert terminal.typed == b"123456789"
        terminal.read.set()

    play(script, room=4, clock=MockClock(), lines=0)


def test_a_client_that_is_gone_is_missed_even_if_what_it_typed_is_never_read() -> None:
    async def main() -> float:
        supervisor, terminal = FakeSupervisor("web"), FakeTerminal(0)
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, theirs, supervisor, terminal, TerminalRequest(lines=0))
            await Client(ours).type(b"x")
            await wait_all_tasks_blocked()
            await ours.aclose()
            gone = trio.current_time()
        return trio.current_time() - gone

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) <= ASK


def test_a_client_that_reads_nothing_is_given_up() -> None:
    async def main() -> float:
        supervisor, terminal = FakeSupervisor("web"), FakeTerminal()
        ours, theirs = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(serve, theirs, supervisor, terminal, TerminalRequest())
        await ours.aclose()
        return trio.current_time() - began

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == SEND


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\n",
        b'{"kind":"what"}\n',
        b'{"kind":"size","rows":0,"columns":9}\n',
        b"x" * (LINE + 1),
        b"\xff\n",
        b"[" * LINE,
    ],
)
def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    async def script(client: Client, _: FakeTerminal, __: FakeSupervisor) -> None:
        await client.stream.send_all(nonsense)
        while await client.next() is not None:
            pass

    play(script, lines=0)


def test_what_a_client_falls_behind_is_bounded_and_told() -> None:
    async def main() -> tuple[bytes | None, bytes | None, bytes | None]:
        viewer = Viewer()
        block = b"x" * 1000
        for _ in range(BEHIND // 1000 + 5):
            viewer.show(block)
        first = await viewer.next()
        viewer.show(b"again")
        viewer.end()
        return first, await viewer.next(), await viewer.next()

    first, second, third = trio.run(main)
    assert first is not None
    assert first.endswith(b"x\r\n[ocelot: 5000 bytes were left out here]\r\n")
    assert len(first) <= BEHIND + 100
    assert (second, third) == (b"again", None)


# -- the endpoint


def test_what_the_next_start_writes_is_not_for_who_was_attached_to_the_one_before() -> None:
    async def main() -> tuple[bytes | None, bytes | None]:
        viewer = Viewer()
        viewer.show(b"bye")
        viewer.end()
        viewer.show(b"hello again")
        return await viewer.next(), await viewer.next()

    assert trio.run(main) == (b"bye", None)


def test_who_cannot_be_attached_to_is_told_why() -> None:
    supervisor = FakeSupervisor("web", "db", "gone")
    for name in ("web", "gone"):
        supervisor.outputs[name].terminal = cast(TerminalStream, FakeTerminal())
    supervisor.become("gone", State.STOPPED, None)
    assert admit(supervisor, "web", TerminalRequest()) is supervisor.outputs["web"].terminal
    kinds = {"db": "no-terminal", "gone": "not-running", "webb": "no-such-process"}
    for name, kind in kinds.items():
        with pytest.raises(ControlError) as caught:
            admit(supervisor, name, TerminalRequest())
        assert caught.value.kind == kind
    assert admit(supervisor, "gone", TerminalRequest(pid=9)), "it may have ended during a cut: the end is to be told"


def test_the_host_may_type_too_if_it_has_the_role() -> None:
    """Unlike exec, nothing has to be handed over."""
    machine = FakeMachine()
    assert machine.supervisor is not None
    machine.supervisor.outputs["web"].terminal = cast(TerminalStream, FakeTerminal())
    answer = control_answer(machine, lambda: Role.ADMIN, local=False)
    heard = trio.run(talk, answer, request("POST", "/v1/processes/web/terminal", b"{}"))
    assert status_of(heard) == 426
    assert b"Upgrade: ocelot-terminal" in heard


def test_whoever_is_attached_is_not_waited_for_when_a_door_is_closed() -> None:
    """Nor who looks on: both have no end."""
    from supervisor.control.connection import Request

    async def main() -> list[int]:
        machine = FakeMachine()
        assert machine.supervisor is not None
        machine.supervisor.outputs["web"].terminal = cast(TerminalStream, FakeTerminal())
        door, inside = Door(), []
        for method, path in (("GET", "status"), ("GET", "processes/web/terminal"), ("POST", "processes/web/terminal")):
            with door.attend(control_answer(machine, lambda: Role.ADMIN)) as answer:
                await answer(Request(method, f"/v1/{path}", "", {}))
                inside.append(door.inside)
        return inside

    assert trio.run(main) == [1, 0, 0]
