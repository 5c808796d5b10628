"""``ocelot.client`` under trio and under asyncio, against a real ocelot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from ocelot.client import Client
from ocelot.errors import ControlError
from ocelot.states import PowerVerb

TALKER = {"program": "/bin/sh", "arguments": ["-c", "echo hello; exec sleep 1000"]}

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, {"web": TALKER, "other": SLEEPER}) as running:
        yield running


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
    assert (await client.power(PowerVerb.POWEROFF)).verb == "poweroff"
    assert await anyio.to_thread.run_sync(machine.process.wait, PATIENCE) == 0


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
