"""From a configured process to what is spawned: its environment, its streams, what it is handed, and who it runs as.

Everything that runs on behalf of a process goes through here, its probes and its commands before and after too, so that all of
them have the same environment, user and limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ocelot.config import structs
from ocelot.linux.inherited import Inherited
from supervisor.spawn import SpawnSpec
from supervisor.surroundings import Ends, Handles


def environment(
    config: structs.Process, inherited: Inherited, phase: Mapping[str, str], from_file: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the process: ours, ``phase``, then what ``environmentFile`` said, then its own variables."""
    return inherited.child_environment(phase, from_file, config.environment_variables)


def specification(
    config: structs.Process,
    environment: Mapping[str, str],
    ends: Ends,
    inherited: Inherited,
    *,
    handles: Sequence[Handles] = (),
    argv: Sequence[str] | None = None,
) -> SpawnSpec:
    """What to spawn for ``config``.

    ``environment`` is that of :func:`environment`; the variables of ``handles`` are added. ``argv``: another command, to be
    run as the process would be. The descriptors stay the caller's, who closes them once the child has them.
    """
    descriptors: dict[int, int] = {}
    for each in handles:
        environment = {**environment, **each.environment}
        descriptors.update(each.descriptors)
    return SpawnSpec(
        argv=(config.program, *config.arguments) if argv is None else tuple(argv),
        environment=environment,
        working_directory=config.working_directory,
        stdout=ends.stdout,
        stderr=ends.stderr,
        limits=inherited.limits,
        descriptors=descriptors or None,
        listen_pid=bool(descriptors) and "LISTEN_FDS" in environment,
    )
