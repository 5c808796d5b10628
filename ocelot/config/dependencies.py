"""What ``dependsOn`` means once every default is filled in. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ocelot.config import structs
from ocelot.config.structs import Condition

Processes = Mapping[str, structs.Process]


def edges(processes: Processes) -> dict[str, list[str]]:
    """What each process depends on, without names that do not exist (soft dependencies may)."""
    return {name: [each for each in process.depends_on if each in processes] for name, process in processes.items()}


def condition_of(dependency: structs.Dependency, other: structs.Process) -> Condition:
    """The condition that is meant, for a dependency on ``other``."""
    if dependency.condition is not None:
        return dependency.condition
    if other.type == "oneshot":
        return Condition.COMPLETED_SUCCESSFULLY
    return Condition.HEALTHY if tells_readiness(other) else Condition.STARTED


def tells_readiness(process: structs.Process) -> bool:
    """Whether it can become healthy: there is a readiness probe, a startup probe or a notification."""
    notify = process.notify
    return (
        process.readiness_probe is not None
        or process.startup_probe is not None
        or (notify is not None and notify.kind != "none")
    )


def tells_by_log(process: structs.Process) -> bool:
    """Whether a line of its log says that it is ready."""
    probes = (process.readiness_probe, process.startup_probe)
    return any(probe is not None and isinstance(probe.handler, structs.LogPattern) for probe in probes)


def stop_time(process: structs.Process) -> float:
    """Seconds that the stop of one process may take."""
    commands = (each.timeout for each in process.post_stop if each is not None)  # None: what could not be read
    return process.termination_grace_period + sum(commands, 0.0)
