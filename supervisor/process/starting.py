"""One start of a process, from its configuration to its child."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import trio

from ocelot.config import structs
from ocelot.errors import OcelotError, SpawnError, describe
from supervisor.children.child import Child
from supervisor.children.spawn import SpawnSpec
from supervisor.process import launch
from supervisor.process.environment_file import read_environment_file
from supervisor.process.surroundings import Ends, Handed, Handing, Health, ProcessOutput, Surroundings

if TYPE_CHECKING:
    from supervisor.children.cgroups import Leaf

OPEN_TIMEOUT = 30.0
"""Seconds for a network file system to open a program."""


async def start_child(
    config: structs.Process,
    around: Surroundings,
    output: ProcessOutput,
    health: Health | None,
    *,
    listening: Handing | None = None,
    cgroup: Leaf | None = None,
    on_exit: Callable[[], None],
    stopped: Callable[[], Awaitable[None]],
) -> Child | None:
    """The child, or None if ``stopped`` returned before a slow file system had answered. Raises SpawnError."""
    path = config.environment_file
    from_file = {} if path is None else await read_environment_file(path)
    opened: list[Ends | Handed] = []
    try:
        spec = _specification(config, around, output, (health, listening), cgroup, from_file, opened)
        if not around.slow(spec):
            return around.spawner.spawn(spec, on_exit=on_exit)
        child = None
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await stopped()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            child = await around.spawner.spawn_in_thread(spec, timeout=OPEN_TIMEOUT, on_exit=on_exit)
            nursery.cancel_scope.cancel()
        return child
    finally:
        for each in opened:
            each.close()


def _specification(
    config: structs.Process,
    around: Surroundings,
    output: ProcessOutput,
    handing: tuple[Handing | None, Handing | None],
    cgroup: Leaf | None,
    from_file: Mapping[str, str],
    opened: list[Ends | Handed],
) -> SpawnSpec:
    """What to start. What was opened for it is added to ``opened``, and closed once the child has it."""
    folder = launch.prepare(cgroup, config) if cgroup is not None else None
    environment = launch.environment(config, around.inherited, around.environment, from_file)
    handles: list[Handed] = []
    step = ""
    try:
        for name, each in zip(("health", "sockets"), handing, strict=True):
            if each is not None:
                step = name
                handles.append(each.handles())
                opened.append(handles[-1])
        step = "terminal" if config.stdin == "pty" else "log"
        ends = output.open()
    except (OSError, OcelotError) as error:
        raise SpawnError(
            f'cannot start "{config.program}": cannot open its {step}: {describe(error)}',
            hint="it takes devpts on /dev/pts, with ptmx in it" if step == "terminal" else "",
            step=step,
            errno=error.errno or 0 if isinstance(error, OSError) else 0,
        ) from error
    opened.append(ends)
    return launch.specification(
        config, environment, ends, around.inherited, handles=handles, cgroup=folder, terminal=around.terminal
    )
