"""Running a program to its end for the boot: hooks, scripts, shells. One reaper owns their statuses too.

What a script that ended well has left running in the background lives on (it may have started a daemon); what is over its
time limit goes down with its whole process group.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import trio

from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import Inherited
from ocelot.states import ExitStatus
from supervisor.children.child import Child
from supervisor.children.leaderless import kill_leftovers
from supervisor.children.reaper import Reaper
from supervisor.children.spawn import SpawnSpec
from supervisor.output.network_files import NetworkFiles
from supervisor.output.process_output import Output
from supervisor.process.launch import take_back_terminal
from supervisor.process.starting import OPEN_TIMEOUT

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that is over its time limit."""


class Programs:
    """A ``Runner`` of ``ocelot.runner``. ``stdout`` and ``stderr`` take the output of what is run."""

    def __init__(
        self,
        reaper: Reaper,
        *,
        inherited: Inherited,
        stdout: Writer,
        stderr: Writer,
    ) -> None:
        self._reaper = reaper
        self._inherited = inherited
        self._stdout = stdout
        self._stderr = stderr
        self._network = NetworkFiles()

    async def run(
        self,
        argv: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str],
        working_directory: str | None = None,
        timeout: float | None = None,
        terminal: str | None = None,
    ) -> ExitStatus:
        """See ``Runner.run``."""
        spec = SpawnSpec(
            argv=tuple(argv),
            environment=environment,
            working_directory=working_directory,
            terminal=terminal,
            limits=self._inherited.limits,
        )
        with trio.fail_after(timeout if timeout is not None else float("inf")):
            if terminal is not None:
                return await self._run_on_terminal(spec)
            output = Output(name, structs.Log(), stdout=self._stdout, stderr=self._stderr)
            try:
                return await self._run_relayed(spec, output)
            finally:
                output.close()

    async def _run_on_terminal(self, spec: SpawnSpec) -> ExitStatus:
        """The machine's console goes to the program's own session. Any other terminal belongs to whoever started us, and stays
        that of our session, whose foreground group the program is (as a shell runs a command)."""
        if identity() is Identity.MACHINE or not _is_ours(spec.terminal):
            return await self._wait(await self._spawn(spec))
        spec = replace(spec, terminal=None, stdin=-1, session=False, group=True, foreground=True)
        try:
            return await self._wait(await self._spawn(spec))
        finally:
            take_back_terminal()

    async def _run_relayed(self, spec: SpawnSpec, output: Output) -> ExitStatus:
        ends = output.open()
        try:
            child = await self._spawn(spec, stdout=ends.stdout, stderr=ends.stderr)
        finally:
            ends.close()
        # What the program says while it is being stopped must still arrive: only the end of all this ends the relay
        relaying = trio.CancelScope(shield=True)

        async def relay() -> None:
            with relaying:
                await output.run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay)
            try:
                return await self._wait(child)
            finally:
                with trio.CancelScope(shield=True):
                    await output.finish(GRACE)
                relaying.cancel()

    async def _spawn(self, spec: SpawnSpec, *, stdout: int = -1, stderr: int = -1) -> Child:
        spec = replace(spec, stdout=stdout, stderr=stderr)
        if self._network.may_hang(spec):
            child = await self._reaper.spawn_in_thread(spec, timeout=OPEN_TIMEOUT)
        else:
            child = self._reaper.spawn(spec)
        child.kill_group = False
        return child

    async def _wait(self, child: Child) -> ExitStatus:
        try:
            return await child.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._end(child)
            raise

    async def _end(self, child: Child) -> None:
        """SIGTERM to the group, two seconds, SIGKILL to what is left of it."""
        emptied = trio.Event()
        with suppress(OSError):
            child.signal_group(signal.SIGTERM)
            child.signal_group(signal.SIGCONT)
        with trio.move_on_after(GRACE):
            await child.wait()
            if self._reaper.watch_group(child.pid, emptied.set):
                await emptied.wait()
            return
        if child.status is None:
            child.kill_group = True
            with suppress(OSError):
                child.signal_group(signal.SIGKILL)
            await child.wait()
        else:
            self._reaper.unwatch_group(child.pid)
            kill_leftovers(child.pid)


def _is_ours(terminal: str | None) -> bool:
    """Whether it is the one on our standard input."""
    try:
        return os.ttyname(0) == terminal
    except OSError:
        return False
