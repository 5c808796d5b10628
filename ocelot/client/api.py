"""A client of the control socket for programs, under trio or asyncio (through anyio).

::

    from ocelot.client import Client

    client = Client("/run/ocelot/control.sock")
    status = await client.status()
    await client.restart("web", "worker-*")
    await client.wait("db", condition="ready", timeout=30.0)
    async with client.follow("web") as lines:
        async for line in lines:
            print(line.text)
    async with client.events() as events:
        async for event in events:
            print(event)
    async with client.attach("game") as terminal:  # a process with stdin: pty
        await terminal.type(b"say hello\\r")
        async for block in terminal:
            print(block)

``path`` may also be ``vsock:CID:PORT``, from the host of a virtual machine whose configuration has ``control.vsock``.

Every method makes a connection of its own, so one client may be used by many tasks. Whatever fails raises
:class:`ocelot.errors.ControlError`: ``kind`` is the stable word for it, ``status`` the HTTP status, 0 if nobody answered.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Literal, TypeVar

import anyio
import msgspec

from ocelot.client.attached import Attached, first_of
from ocelot.client.exchange import Exchange, connect, connect_unix, lines_of, problem, query, within
from ocelot.client.following import Changes, Followed, Lines
from ocelot.errors import ControlError
from ocelot.states import PowerVerb
from ocelot.wire import protocol
from ocelot.wire.client import default_socket, quote
from ocelot.wire.protocol import (
    API,
    ActionReply,
    BootTimeline,
    FiguresReply,
    Gap,
    Health,
    LogLine,
    PowerReply,
    ProcessStatus,
    ReexecReply,
    ReloadReply,
    SessionEnded,
    SessionStarted,
    StateChange,
    Status,
    Version,
)
from ocelot.wire.vsock import PREFIX

Reply = TypeVar("Reply")

_DELAYS = (0.1, 0.3, 0.9)
"""Seconds between the attempts to go on after a reexec."""

WAIT = 90.0
"""Seconds that start, stop and restart wait by default for their effect."""


class Client:
    """Talks to the ocelot at ``path``. ``timeout``: seconds that an answer may take, beyond what was asked to wait.

    Without a path it is found as ``ocelotctl`` finds it: OCELOT_SOCKET, else the user's own ocelot, else that of the machine.
    """

    def __init__(self, path: str | None = None, *, timeout: float = 30.0) -> None:
        self.path = path or default_socket()
        self.timeout = timeout

    # -- looking

    async def status(self, *names: str) -> Status:
        """The machine and its processes, or those that ``names`` (names and glob patterns) stand for."""
        return await self._call(Status, "GET", f"{API}/status" + query(names))

    async def process(self, name: str) -> ProcessStatus:
        return await self._call(ProcessStatus, "GET", f"{API}/processes/{quote(name)}")

    async def boot(self) -> BootTimeline:
        return await self._call(BootTimeline, "GET", f"{API}/boot")

    async def version(self) -> Version:
        return await self._call(Version, "GET", f"{API}/version")

    async def health(self) -> Health:
        """Whether all is well; a failed process is an answer here, not an error."""
        return await self._call(Health, "GET", f"{API}/health", accepted=(503,))

    async def figures(self, *names: str, pss: bool = False) -> FiguresReply:
        """What running processes use, with their children. ``pss``: also the proportional set size, which is dear to find."""
        return await self._call(FiguresReply, "GET", f"{API}/figures" + query(names, pss="true" if pss else None))

    async def metrics(self) -> str:
        """The figures in Prometheus' text format."""
        return (await self._read("GET", "/metrics", accept="text/plain")).decode()

    # -- acting

    async def start(
        self, *names: str, wait: bool = True, timeout: float = WAIT, reconnect: bool = False
    ) -> ActionReply:
        """Start processes. ``wait``: return when they are ready, or after ``timeout`` seconds: see the reply's fields.

        A reexec cuts the connection, which raises ControlError (kind ``unreachable``). ``reconnect``: instead, go on with the
        ocelot that has taken over; what was done already is not done twice.
        """
        return await self._act("start", names, wait=wait, timeout=timeout, reconnect=reconnect)

    async def stop(self, *names: str, wait: bool = True, timeout: float = WAIT, reconnect: bool = False) -> ActionReply:
        """Stop processes; the rest is as for :meth:`start`."""
        return await self._act("stop", names, wait=wait, timeout=timeout, reconnect=reconnect)

    async def restart(
        self, *names: str, wait: bool = True, timeout: float = WAIT, reconnect: bool = False
    ) -> ActionReply:
        """Stop processes that run, and start them; the rest is as for :meth:`start`."""
        return await self._act("restart", names, wait=wait, timeout=timeout, reconnect=reconnect)

    async def signal(self, signal: str | int, *names: str) -> ActionReply:
        """Send ``signal`` (SIGHUP, HUP or 1) to processes that run."""
        return await self._act("signal", names, wait=False, timeout=0.0, signal=signal)

    async def reload(self, file: str | None = None, *, dry_run: bool = False, keep_scale: bool = False) -> ReloadReply:
        """Read the configuration file anew (None: the one that ocelot was started with) and apply what is different.

        A file with errors changes nothing: look at ``problems``. ``dry_run``: only tell what would be done. ``keep_scale``: entries
        that were scaled keep their number of replicas, whatever the file says.
        """
        body = msgspec.json.encode(protocol.ReloadRequest(file=file, dry_run=dry_run, keep_scale=keep_scale))
        return await self._call(ReloadReply, "POST", f"{API}/reload", body, longer=WAIT)

    async def reexec(self, runtime: str | None = None) -> ReexecReply:
        """Replace ocelot by the one in the folder ``runtime`` (None: the same, read anew); it is the new one that answers."""
        body = msgspec.json.encode(protocol.ReexecRequest(runtime=runtime))
        return await self._call(ReexecReply, "POST", f"{API}/reexec", body, longer=WAIT)

    async def tell_to_reload(
        self, *names: str, wait: bool = True, timeout: float = WAIT, reconnect: bool = False
    ) -> ActionReply:
        """Send processes that run their ``reloadSignal``. ``wait``: until those that tell (``notify: systemd``) have reloaded.

        The rest is as for :meth:`start`.
        """
        return await self._act("reload", names, wait=wait, timeout=timeout, reconnect=reconnect)

    async def rotate(self, *names: str) -> ActionReply:
        """Rotate their log files, or open those without rotation anew."""
        return await self._act("rotate", names, wait=False, timeout=0.0)

    async def scale(self, name: str, replicas: int, *, wait: bool = True, timeout: float = WAIT) -> ActionReply:
        """Start or stop replicas of the entry ``name`` until there are so many."""
        body = msgspec.json.encode(protocol.ScaleRequest(replicas=replicas, wait=wait, timeout=timeout))
        target = f"{API}/processes/{quote(name)}/scale"
        return await self._call(ActionReply, "POST", target, body, longer=timeout if wait else 0.0)

    async def power(self, verb: PowerVerb) -> PowerReply:
        """End the machine; returns when it has begun to go down."""
        return await self._call(PowerReply, "POST", f"{API}/power/{verb.value}")

    # -- logs

    async def logs(self, *names: str, n: int | None = None, since: float | None = None) -> list[LogLine]:
        """The last ``n`` lines, those since ``since`` (epoch seconds), or all that is kept; of all processes, or some."""
        body = await self._read("GET", f"{API}/logs" + query(names, n=n, since=since))
        return [msgspec.json.decode(line, type=LogLine) for line in body.splitlines()]

    def follow(
        self, *names: str, n: int | None = 0, since: float | None = None, reconnect: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """The last ``n`` lines, and then new ones until the block is left or ocelot goes down.

        A reexec cuts the connection, which raises ControlError (kind ``unreachable``). ``reconnect``: instead, go on with the
        ocelot that has taken over; no line is lost or comes twice, as far as they are still kept for ``logs``.
        """
        return self._follow(Lines(n, since), names, reconnect=reconnect)

    # -- events

    async def wait(
        self,
        *names: str,
        condition: Literal["ready", "running", "exited", "completed", "stopped"] = "ready",
        timeout: float = WAIT,
    ) -> ActionReply:
        """Wait until all of them have arrived there, one of them cannot any more, or ``timeout`` seconds are over.

        The reply says which: ``failed`` names those that cannot, ``settled`` is false after the time was up.
        """
        request = protocol.WaitRequest(names=list(names), condition=condition, timeout=timeout)
        body = msgspec.json.encode(request)
        return await self._call(ActionReply, "POST", f"{API}/processes/wait", body, longer=timeout)

    async def history(self, *names: str, n: int | None = None, after: int | None = None) -> list[StateChange | Gap]:
        """The last ``n`` changes of state, those after number ``after``, or all that are kept."""
        body = await self._read("GET", f"{API}/events" + query(names, n=n, after=after))
        return [msgspec.json.decode(line, type=StateChange | Gap) for line in body.splitlines()]

    def events(
        self, *names: str, n: int | None = 0, after: int | None = None, reconnect: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[StateChange | Gap]]:
        """The last ``n`` changes of state, then new ones until the block is left or ocelot goes down.

        To go on after a lost connection, give ``after`` the number of the last change seen, and ``n`` None; ``reconnect`` does that
        by itself after a reexec, which raises ControlError (kind ``unreachable``) otherwise. What could not be kept for you is
        told by a :class:`~ocelot.wire.protocol.Gap`.
        """
        return self._follow(Changes(n, after), names, reconnect=reconnect)

    # -- commands

    async def run(
        self,
        name: str | None,
        *argv: str,
        stdin: int,
        stdout: int,
        stderr: int,
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
    ) -> SessionEnded:
        """Run a command beside the process ``name``, as that would run (None: on the machine), and return how it ended.

        ``stdin``, ``stdout`` and ``stderr`` are descriptors of ours, handed over to it; close yours when it has them. To
        cancel this is to end the command. A command that could not be started ends with status 126 or 127 and a ``message``.
        """
        request = protocol.SessionRequest(
            argv=list(argv), environment=dict(environment or {}), working_directory=working_directory
        )
        target = f"{API}/exec" if name is None else f"{API}/processes/{quote(name)}/exec"
        if self.path.startswith(PREFIX):
            raise ControlError(
                "cannot run a command from another machine: it is handed its streams over the unix socket",
                kind="not-local",
            )
        async with await connect_unix(self.path) as stream:
            exchange = Exchange(stream)
            with within(self.timeout, self.path):
                head = await exchange.ask(
                    "POST", target, msgspec.json.encode(request), "application/json", upgrade="ocelot-session"
                )
                if head.status_code != 101:
                    raise problem(head.status_code, b"".join([piece async for piece in exchange.body()]))
                with suppress(anyio.BrokenResourceError):  # met again when reading
                    await stream.send_fds(b"\n", [stdin, stdout, stderr])
            told: SessionStarted | SessionEnded
            async with aclosing(exchange.rest()) as lines:
                async for line in lines:
                    told = msgspec.json.decode(line, type=SessionStarted | SessionEnded)
                    if isinstance(told, SessionEnded):
                        return told
        raise ControlError("cannot tell how the command ended: the connection ended", kind="unreachable")

    @asynccontextmanager
    async def attach(
        self,
        name: str,
        *,
        lines: int = 10,
        size: tuple[int, int] | None = None,
        keys: bool = True,
        after: int | None = None,
        pid: int | None = None,
    ) -> AsyncGenerator[Attached, None]:
        """Be attached to the terminal of the process ``name`` (``stdin: pty``) while the block runs; it goes on afterwards.

        ``lines``: begin with so many of the last ones. ``size``: rows and columns of a terminal that shows it. ``keys`` False: only
        look, for which the role read is enough. ``after``, ``pid``: go on after a cut, see :class:`~ocelot.attached.Attached`.
        """
        target = f"{API}/processes/{quote(name)}/terminal"
        rows, columns = size or (None, None)
        request = protocol.TerminalRequest(lines=lines, after=after, pid=pid, rows=rows, columns=columns)
        exchange = Exchange(await connect(self.path))
        async with exchange:
            with within(self.timeout, self.path):
                if keys:
                    body = msgspec.json.encode(request)
                    head = await exchange.ask("POST", target, body, "application/json", upgrade="ocelot-terminal")
                else:
                    target += query((), lines=lines, after=after, pid=pid)
                    head = await exchange.ask("GET", target, b"", "application/x-ndjson")
                if head.status_code != (101 if keys else 200):
                    raise problem(head.status_code, b"".join([piece async for piece in exchange.body()]))
            async with aclosing(exchange.rest() if keys else exchange.lines()) as messages:
                yield Attached(exchange, messages, await first_of(messages))

    # -- inside

    @asynccontextmanager
    async def _follow(
        self, place: Followed[Reply], names: Sequence[str], *, reconnect: bool
    ) -> AsyncGenerator[AsyncIterator[Reply], None]:
        first = await self._ask_for(place, names)
        async with aclosing(self._go_on(first, place, names, reconnect=reconnect)) as items:
            yield items

    async def _go_on(
        self, first: Exchange, place: Followed[Reply], names: Sequence[str], *, reconnect: bool
    ) -> AsyncGenerator[Reply, None]:
        """What comes on the connection of ``first``, and on those that follow it."""
        exchange = first
        while True:
            try:
                async with exchange, aclosing(lines_of(exchange, place.kind)) as lines:
                    async for item in lines:
                        if place.is_new(item):
                            yield item
                return
            except ControlError as error:
                if not reconnect or error.kind != "unreachable":
                    raise
            exchange = await self._ask_again(place, names)

    async def _ask_again(self, place: Followed[Reply], names: Sequence[str]) -> Exchange:
        """An ocelot that is being replaced still has its socket: whoever connects waits there until the next one answers."""
        place.cut()
        for delay in _DELAYS:
            await anyio.sleep(delay)
            with suppress(ControlError):
                return await self._ask_for(place, names)
        return await self._ask_for(place, names)

    async def _ask_for(self, place: Followed[Reply], names: Sequence[str]) -> Exchange:
        """The answer has begun. Raises ControlError."""
        exchange = Exchange(await connect(self.path))
        try:
            with within(self.timeout, self.path):
                head = await exchange.ask("GET", place.target(names), b"", "application/x-ndjson")
                if head.status_code != 200:
                    raise problem(head.status_code, b"".join([piece async for piece in exchange.body()]))
            place.begin({name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers})
        except BaseException:
            with anyio.CancelScope(shield=True):
                await exchange.aclose()
            raise
        return exchange

    async def _act(
        self,
        verb: str,
        names: Sequence[str],
        *,
        wait: bool,
        timeout: float,
        signal: str | int | None = None,
        reconnect: bool = False,
    ) -> ActionReply:
        token = os.urandom(12).hex() if reconnect else ""
        request = protocol.ActionRequest(names=list(names), wait=wait, timeout=timeout, signal=signal, token=token)
        end = anyio.current_time() + timeout
        delays = iter(_DELAYS if reconnect else ())
        while True:
            body = msgspec.json.encode(request)
            longer = request.timeout if wait else 0.0
            try:
                return await self._call(ActionReply, "POST", f"{API}/processes/{verb}", body, longer=longer)
            except ControlError as error:
                delay = next(delays, None)
                if delay is None or error.kind != "unreachable":
                    raise
            await anyio.sleep(delay)
            request.timeout = max(0.0, end - anyio.current_time())

    async def _call(
        self,
        kind: type[Reply],
        method: str,
        target: str,
        body: bytes = b"",
        *,
        longer: float = 0.0,
        accepted: tuple[int, ...] = (),
    ) -> Reply:
        return msgspec.json.decode(await self._read(method, target, body, longer=longer, accepted=accepted), type=kind)

    async def _read(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        accept: str = "application/json",
        longer: float = 0.0,
        accepted: tuple[int, ...] = (),
    ) -> bytes:
        with within(self.timeout + longer, self.path):
            async with await connect(self.path) as stream:
                exchange = Exchange(stream)
                head = await exchange.ask(method, target, body, accept)
                content = b"".join([piece async for piece in exchange.body()])
        if head.status_code >= 400 and head.status_code not in accepted:
            raise problem(head.status_code, content)
        return content
