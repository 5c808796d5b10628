"""``ocelot.client`` under trio and under asyncio, against a real ocelot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.client import Client
from ocelot.client.vsock_stream import connect
from ocelot.errors import ControlError
from ocelot.states import PowerVerb
from ocelot.wire.protocol import Gap, StateChange

TALKER = {"program": "/bin/sh", "arguments": ["-c", "echo hello; exec sleep 1000"]}

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, {"web": TALKER, "other": SLEEPER}) as running:
        yield running


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def test_the_whole_of_it(machine: Desk) -> None:
    client = Client(machine.socket)
    assert (await client.status()).pid == machine.process.pid
    assert [process.name for process in (await client.status("o*")).processes] == ["other"]
    assert (await client.stop("web")).settled
    assert (await client.process("web")).state == "stopped"
    async with client.follow("web") as lines:
        reply = await client.start("web")
        assert (reply.settled, reply.failed) == (True, [])
        with anyio.fail_after(PATIENCE):
            assert (await anext(lines)).text == "hello"
    assert "hello" in [line.text for line in await client.logs("web", n=5)]
    first = (await client.process("web")).pid
    assert (await client.restart("w*")).processes[0].pid != first
    assert (await client.signal("CONT", "web")).processes[0].name == "web"
    assert (await client.health()).healthy
    assert (await client.version()).api == "/v1"
    assert "ocelot_process_up" in await client.metrics()
    assert (await client.boot()).spans
    assert (await client.reload(dry_run=True)).entries == []
    assert (await client.reexec()).processes == 2
    assert (await client.status()).pid == machine.process.pid
    assert (await client.power(PowerVerb.POWEROFF)).verb == "poweroff"
    assert await anyio.to_thread.run_sync(machine.process.wait, PATIENCE) == 0


async def test_events_and_waiting(machine: Desk) -> None:
    client = Client(machine.socket)
    assert (await client.wait("*")).settled
    async with client.events("web") as events:
        await client.stop("web")
        with anyio.fail_after(PATIENCE):
            first, second = await anext(events), await anext(events)
    assert isinstance(first, StateChange)
    assert isinstance(second, StateChange)
    assert (first.state, second.state) == ("stopping", "stopped")
    assert await client.history("web", n=1) == [second]
    assert (await client.history(after=first.number))[0] == second
    assert (await client.history(after=1))[0] == Gap()
    late = await client.wait("other", condition="exited", timeout=0.1)
    assert (late.settled, late.failed) == (False, [])
    assert (await client.wait("web")).failed == ["web"]


@pytest.mark.parametrize("reconnect", [True, False])
async def test_a_restart_over_a_reexec_is_done_once(tmp_path: Path, reconnect: bool) -> None:
    end = tmp_path / "end"
    script = (
        f"echo started; trap 'while [ ! -e {end} ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done"
    )
    with desk(tmp_path, {"web": {"program": "/bin/sh", "arguments": ["-c", script]}}) as machine:
        client = Client(machine.socket)
        outcome: list[Any] = []

        async def restart() -> None:
            try:
                outcome.append(await client.restart("web", timeout=PATIENCE, reconnect=reconnect))
            except ControlError as error:
                outcome.append(error.kind)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(restart)
                while (await client.process("web")).state != "stopping":
                    await anyio.sleep(0.02)
                await client.reexec()
                end.touch()
        if not reconnect:
            assert outcome == ["unreachable"]
            await client.wait("web", condition="running")
        else:
            assert (outcome[0].settled, outcome[0].failed, outcome[0].processes[0].state) == (True, [], "running")
        assert (await client.process("web")).restarts == 1


@pytest.mark.parametrize("reconnect", [False, True])
async def test_a_reexec_cuts_streams_unless_they_reconnect(machine: Desk, reconnect: bool) -> None:
    """Nothing was seen before it, so it is the beginning of the stream from where it goes on."""
    client = Client(machine.socket)
    await client.wait("web")
    async with (
        client.follow("web", reconnect=reconnect) as lines,
        client.events("web", n=0, reconnect=reconnect) as events,
    ):
        await client.reexec()
        await client.restart("web")
        with anyio.fail_after(PATIENCE):
            if not reconnect:
                for stream in (lines, events):
                    with pytest.raises(ControlError) as caught:
                        await anext(stream)
                    assert caught.value.kind == "unreachable"
                return
            assert (await anext(lines)).text == "hello"
            states = [(await anext(events)).state for _ in range(4)]
            assert states == ["stopping", "stopped", "starting", "running"]
            await client.reexec()
            await client.restart("web")
            assert (await anext(lines)).text == "hello"
            assert (await anext(events)).state == "stopping"
            machine.process.terminate()
            with pytest.raises(ControlError):
                await all_of(events)


async def test_a_connection_of_any_family_is_a_stream(machine: Desk) -> None:
    """As it is used for vsock, which nobody has here."""
    async with await connect(socket.AF_UNIX, machine.socket) as stream:
        await stream.send(b"GET /v1/version HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")
        await stream.send_eof()
        answer = await all_of(stream)
        assert answer[0].startswith(b"HTTP/1.1 200")
    with pytest.raises(anyio.BrokenResourceError):
        await stream.send(b"x")
    with pytest.raises(FileNotFoundError):
        await connect(socket.AF_UNIX, f"{machine.socket}-not")


async def test_an_address_on_vsock_that_nobody_has() -> None:
    with pytest.raises(ControlError, match="it is not vsock:CID:PORT"):
        await Client("vsock:me").version()
    with pytest.raises(ControlError) as caught, anyio.fail_after(PATIENCE):
        await Client("vsock:7777:9465").version()
    assert caught.value.kind == "unreachable"
    with pytest.raises(ControlError, match="cannot run a command from another machine"):
        await Client("vsock:7777:9465").run(None, "true", stdin=0, stdout=1, stderr=2)


async def test_a_command_beside_a_process(machine: Desk) -> None:
    client = Client(machine.socket)
    reader, writer = os.pipe()
    with open(os.devnull) as empty:
        ended = await client.run(
            "web",
            "sh",
            "-c",
            "echo $WHO; exit 5",
            stdin=empty.fileno(),
            stdout=writer,
            stderr=2,
            environment={"WHO": "me"},
        )
        missing = await client.run(None, "/no/such", stdin=empty.fileno(), stdout=2, stderr=2)
    os.close(writer)
    with os.fdopen(reader) as output:
        assert output.read() == "me\n"
    assert (ended.status, ended.code, ended.message) == (5, 5, "")
    assert (missing.status, "no such file" in missing.message) == (127, True)
    with pytest.raises(ControlError) as caught:
        await client.run("wbe", "true", stdin=0, stdout=1, stderr=2)
    assert caught.value.kind == "no-such-process"


async def test_to_cancel_a_command_is_to_end_it(machine: Desk) -> None:
    reader, writer = os.pipe()
    with anyio.move_on_after(1.0):
        await Client(machine.socket).run("web", "sleep", "1000", stdin=0, stdout=writer, stderr=2)
    os.close(writer)
    with os.fdopen(reader, "rb") as output, anyio.fail_after(PATIENCE):
        # Nobody has the other end any more. (Abandoned, or a command that lives on would hold up the test, not fail it.)
        assert await anyio.to_thread.run_sync(output.read, abandon_on_cancel=True) == b""


async def test_what_else_it_can_ask_for(tmp_path: Path) -> None:
    to_file = {"stdout": {"destination": {"type": "file", "path": str(tmp_path / "out")}}}
    with desk(tmp_path, {"web": {**SLEEPER, "replicas": 2, "reloadSignal": "SIGCONT", "log": to_file}}) as machine:
        client = Client(machine.socket)
        assert [process.name for process in (await client.scale("web", 3)).processes][-1] == "web[2]"
        used = await client.figures("web", pss=True)
        assert len(used.processes) == 3
        assert all(process.proportional_memory for process in used.processes)
        assert len((await client.tell_to_reload("web")).processes) == 3
        assert len((await client.rotate("*")).processes) == 3
        told = await client.reload(dry_run=True)
        assert (told.applied, told.problems) == (False, [])
        pid = machine.process.pid
        assert (await client.reexec()).processes == 3
        assert (await client.status()).pid == pid


async def test_errors_carry_the_words_of_the_server(machine: Desk) -> None:
    with pytest.raises(ControlError, match='cannot find the process "wbe"') as caught:
        await Client(machine.socket).stop("wbe")
    assert (caught.value.kind, caught.value.status) == ("no-such-process", 404)
    with pytest.raises(ControlError) as caught:
        async with Client(machine.socket).follow("wbe"):
            pass
    assert caught.value.kind == "no-such-process"


async def test_nobody_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        await Client(str(tmp_path / "none.sock")).status()
    assert (caught.value.kind, caught.value.status) == ("unreachable", 0)


async def test_who_does_not_answer_is_an_error_of_its_own_too(tmp_path: Path) -> None:
    path = str(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        client = Client(path, timeout=0.05)
        for question in (
            client.status(),
            client.run(None, "true", stdin=0, stdout=1, stderr=2),
            client.attach("web").__aenter__(),
            client.attach("web", keys=False).__aenter__(),
            client.follow("web").__aenter__(),
        ):
            with pytest.raises(ControlError, match="it takes too long") as refused:
                await question
            assert refused.value.kind == "timeout"


def example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"integration.examples.{name}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=-3)


def test_the_example_for_trio(machine: Desk) -> None:
    done = example("client_trio", machine.socket, "web", "other")
    assert (done.returncode, done.stderr) == (0, "")
    assert "other is ready again with pid" in done.stdout
    assert "  web: stopping -> stopped" in done.stdout


def test_the_example_for_asyncio(machine: Desk) -> None:
    done = example("client_asyncio", machine.socket, "web", "sh", "-c", "sleep 0.5; echo from the command; exit 4")
    assert (done.returncode, done.stderr) == (4, "")
    assert {"web | hello", "from the command"} <= set(done.stdout.splitlines())


async def test_a_terminal_is_typed_into_and_looked_at(tmp_path: Path) -> None:
    shell = {"program": "/bin/sh", "arguments": ["-i"], "environment": {"PS1": "$ "}, "stdin": "pty"}
    with desk(tmp_path, {"sh": shell, "web": TALKER}) as machine:
        client = Client(machine.socket)
        with anyio.fail_after(PATIENCE):
            async with client.attach("sh", size=(33, 77)) as terminal, client.attach("sh", keys=False) as watching:
                await terminal.type(b"stty size\r")
                heard = b""
                while b"\r\n33 77\r\n$ " not in heard:
                    heard += await anext(terminal)
                await terminal.resize(44, 88)
                await terminal.type(b"stty size; " + b"#" * 40_000 + b"\x15exit 3\r")
                place, pid = terminal.at, terminal.pid
                said = [block async for block in terminal]
                assert terminal.ended is not None
                assert (terminal.ended.status, terminal.ended.code) == (3, 3)
                assert b"".join([block async for block in watching]).endswith(b"".join(said))
                assert watching.ended == terminal.ended
            async with client.attach("sh", after=place, pid=pid, keys=False) as late:
                assert b"".join([block async for block in late]) == b"".join(said)
                assert late.ended == terminal.ended
        with pytest.raises(ControlError, match="it has none"):
            await client.attach("web").__aenter__()


async def test_a_terminal_that_is_cut_says_so(tmp_path: Path) -> None:
    with desk(tmp_path, {"sh": {**TALKER, "stdin": "pty"}, "web": TALKER}) as machine:
        client = Client(machine.socket)
        with anyio.fail_after(PATIENCE):
            async with client.attach("sh") as terminal:
                assert await anext(terminal) == b"hello\r\n"
                place, pid = terminal.at, terminal.pid
                await client.reexec()
                with pytest.raises(ControlError) as caught:
                    await anext(terminal)
                assert caught.value.kind == "unreachable"
            async with client.attach("sh", after=place, pid=pid) as terminal:
                await client.stop("sh")
                assert [block async for block in terminal] == []
                assert terminal.ended is not None
                assert terminal.ended.signal == "SIGTERM"
