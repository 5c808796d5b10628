"""The programs that are run before each start of a process and after each end: ``preStart`` and ``postStop``.

They run as the process does: its user, environment, folder, limits, output, and a cgroup with its resources. Imported only
when a process has some.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, SpawnError, describe, refused
from ocelot.states import ExitStatus
from ocelot.wire.protocol import ExitInfo
from supervisor.children.child import Child
from supervisor.children.spawn import SpawnSpec
from supervisor.process import launch
from supervisor.process.environment_file import read_environment_file
from supervisor.process.group_stop import kill_cgroup
from supervisor.process.starting import OPEN_TIMEOUT
from supervisor.process.surroundings import ProcessOutput, Surroundings

KILL_TIMEOUT = 5.0
"""Seconds for a command to be gone after SIGKILL; more means that a device holds it."""

FINISH_TIMEOUT = 5.0
"""Seconds for the last output of a command to be moved."""


class CommandFailed(SpawnError):
    """A command before the start did not end as it should. ``shell_status``: as a shell would show how it ended."""

    def __init__(self, message: str, *, hint: str = "", step: str, shell_status: int = 1) -> None:
        super().__init__(message, hint=hint, step=step)
        self.shell_status = shell_status


class Commands:
    """What is run for the process ``name``. ``told``: returns when there is no more time for it."""

    def __init__(
        self,
        name: str,
        config: structs.Process,
        around: Surroundings,
        output: ProcessOutput,
        told: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._config = config
        self._around = around
        self._output = output
        self._told = told

    async def before(self) -> bool:
        """Run ``preStart``, one after the other. False: it was told to stop meanwhile. Raises SpawnError for the first that fails."""
        for command in self._config.pre_start:
            status = await self._run(command, {})
            if status is None:
                return False
            if not status.success:
                message = f'cannot start "{self._config.program}": its preStart "{command.command}" {status}'
                raise CommandFailed(message, step="preStart", shell_status=status.shell_status)
        return True

    async def after(self, last: ExitInfo | None) -> None:
        """Run all of ``postStop``, whatever becomes of each. ``last``: how the process ended."""
        variables = {}
        if last is not None:
            variables = {"OCELOT_EXIT_STATUS": str(last.status), "OCELOT_EXIT_CAUSE": last.cause}
        for command in self._config.post_stop:
            try:
                status = await self._run(command, variables)
            except Exception as error:
                if not refused(error):
                    raise
                log.warn(f"{self._name}: postStop failed: {describe(error)}")
                continue
            if status is None:
                log.warn(f'{self._name}: its postStop "{command.command}" was killed: no more time')
            elif not status.success:
                log.warn(f'{self._name}: its postStop "{command.command}" {status}')

    async def _run(self, command: structs.Command, variables: Mapping[str, str]) -> ExitStatus | None:
        """How it ended; None: it was killed since there is no more time. Raises SpawnError, also after its own time-out."""
        cgroup = launch.leaf(self._name, self._config)
        folder = launch.prepare(cgroup, self._config) if cgroup is not None else None
        timely = trio.move_on_after(command.timeout)
        finished = False
        try:
            child = await self._spawn(command, variables, folder)
            try:
                async with trio.open_nursery() as nursery:

                    async def give_up() -> None:
                        await self._told()
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(give_up)
                    with timely:
                        await child.wait()
                        finished = True
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await self._kill(child)
        finally:
            with trio.CancelScope(shield=True):
                if cgroup is not None:
                    await kill_cgroup(cgroup)
                    cgroup.remove()
                await self._output.finish(FINISH_TIMEOUT)
        if finished:
            return child.status
        if not timely.cancelled_caught:
            return None
        raise CommandFailed(
            f'cannot run "{command.command}" to its end within {command.timeout:g}s: it was killed',
            hint="raise its timeout",
            step="time-out",
        )

    async def _spawn(self, command: structs.Command, variables: Mapping[str, str], folder: str | None) -> Child:
        config, around = self._config, self._around
        path = config.environment_file
        from_file = {} if path is None else await read_environment_file(path)
        environment = launch.environment(config, around.inherited, around.environment, from_file)
        try:
            ends = self._output.open()
        except (OSError, OcelotError) as error:
            raise SpawnError(
                f'cannot start "{command.command}": cannot open its log: {describe(error)}', step="log"
            ) from error
        try:
            spec: SpawnSpec = launch.specification(
                config,
                {**environment, **variables},
                ends,
                around.inherited,
                argv=(command.command, *command.arguments),
                cgroup=folder,
            )
            if around.slow(spec):
                return await around.spawner.spawn_in_thread(spec, timeout=OPEN_TIMEOUT, on_exit=_nobody)
            return around.spawner.spawn(spec, on_exit=_nobody)
        finally:
            ends.close()

    async def _kill(self, child: Child) -> None:
        """Its whole process group, if it still runs."""
        if child.status is None:
            child.kill_group = True
            with suppress(OSError):
                child.signal_group(signal.SIGKILL)
            with trio.move_on_after(KILL_TIMEOUT):
                await child.wait()


def _nobody() -> None:
    """Whoever waits for a command asks its child."""
