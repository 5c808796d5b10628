"""What the keys of dependencies, replicas and commands mean together."""

from __future__ import annotations

from collections.abc import Mapping

from ocelot.config import structs
from ocelot.config.dependencies import condition_of, edges, tells_by_log, tells_readiness
from ocelot.config.findings import Path, quoted, suggest
from ocelot.config.graph import cycles
from ocelot.config.ordering import MAX_REPLICAS
from ocelot.config.places import Places, present
from ocelot.config.program_checks import check_program, check_time
from ocelot.config.structs import Condition

_FOR_EVER = (structs.RestartType.ALWAYS, structs.RestartType.UNLESS_STOPPED)
_COMPLETIONS = (Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY)


def check_dependencies(processes: Mapping[str, structs.Process], path: Path, places: Places) -> None:
    """``dependsOn`` of all processes. A circle is told once, where it begins in the file."""
    for name, process in processes.items():
        for other, dependency in process.depends_on.items():
            here = _place(other, (*path, name, "dependsOn"), places)
            if other == name:
                places.error(here, f"{quoted(name)} cannot depend on itself", "remove it")
            elif other not in processes:
                _unknown(other, dependency, processes, here, places)
            else:
                _condition(other, dependency, processes[other], here, places)
    known = {name: [each for each in targets if each != name] for name, targets in edges(processes).items()}
    for circle in cycles(known):
        here = _place(circle[1], (*path, circle[0], "dependsOn"), places)
        places.error(here, f"the dependencies go in a circle: {' -> '.join(circle)}", "remove one of them")


def _place(other: str, path: Path, places: Places) -> Path:
    """Where the dependency on ``other`` stands: its key in a map, its item in a list."""
    if places.given((*path, other)) or places.is_null((*path, other)):
        return (*path, other)
    return (*path, places.index(path, other))


def _unknown(
    other: str, dependency: structs.Dependency, processes: Mapping[str, structs.Process], path: Path, places: Places
) -> None:
    meant = suggest(other, list(processes))
    hint = f'did you mean "{meant}"?' if meant else "name one of the processes of this file"
    if dependency.required:
        places.error(path, f"there is no process {quoted(other)}", hint)
    else:
        places.warn(path, f"there is no process {quoted(other)}: the dependency has no effect", hint)


def _condition(other: str, dependency: structs.Dependency, target: structs.Process, path: Path, places: Places) -> None:
    condition = condition_of(dependency, target)
    here = (*path, "condition") if places.given((*path, "condition")) else path
    if condition is Condition.HEALTHY and not tells_readiness(target):
        hint = "add a readinessProbe or notify to it, or write Started"
        places.error(here, f"{quoted(other)} can never be healthy: nothing tells whether it is ready", hint)
    elif condition is Condition.LOG_READY and not tells_by_log(target):
        hint = "give it a readinessProbe with a handler of type log"
        places.error(here, f"{quoted(other)} can never be ready by its log: it has no log probe", hint)
    elif (
        condition in _COMPLETIONS
        and target.type == "service"
        and target.schedule is None
        and target.restart_policy.type in _FOR_EVER
        and target.restart_policy.max_retries is None
    ):
        policy = target.restart_policy.type.value
        places.warn(here, f"{quoted(other)} never completes: it is restarted {policy}", "write Started or Healthy")
    elif target.replicas == 0:
        places.warn(path, f"{quoted(other)} has no replicas: this waits until it is scaled up", "give it replicas")


def check_replicas(process: structs.Process, path: Path, places: Places) -> None:
    if process.replicas is None:
        return
    here = (*path, "replicas")
    if process.replicas < 0:
        places.error(here, "must not be negative", "write 0 for none")
    elif process.replicas > MAX_REPLICAS:
        places.error(here, f"{process.replicas} are too many, the limit is {MAX_REPLICAS}")


def check_commands(process: structs.Process, path: Path, places: Places) -> None:
    for key, commands in (("preStart", process.pre_start), ("postStop", process.post_stop)):
        for index, command in present(commands):
            check_program(command.command, (*path, key, index, "command"), places)
            check_time(command.timeout, (*path, key, index, "timeout"), places)
