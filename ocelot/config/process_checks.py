"""What the keys of a supervised process mean together."""

from __future__ import annotations

from ocelot.config import structs
from ocelot.config.findings import Path, quoted
from ocelot.config.log_checks import check_logs
from ocelot.config.places import Places, present
from ocelot.config.program_checks import check_environment, check_program, check_time, check_working_directory

MAX_NAME = 128

_PRIVILEGES = (
    "user",
    "group",
    "supplementary_groups",
    "umask",
    "limits",
    "nice",
    "ioprio",
    "oom_score_adjust",
    "capabilities",
    "resources",
)


def check_processes(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    if not processes and not places.broken(path):
        where = path if places.given(path) else path[:-1]
        places.warn(where, "there are no processes: ocelot will hold and supervise nothing", "add one")
    for name, process in processes.items():
        here = (*path, name)
        _name(name, here, places)
        check_program(process.program, (*here, "program"), places)
        check_working_directory(process.working_directory, here, places)
        check_environment(process.environment_variables, (*here, "environmentVariables"), places)
        if process.environment_file is not None and not process.environment_file.startswith("/"):
            message = f"{quoted(process.environment_file)} is not an absolute path"
            places.error((*here, "environmentFile"), message)
        check_time(process.termination_grace_period, (*here, "terminationGracePeriod"), places)
        _restart_policy(process, here, places)
    _healths(processes, path, places)
    _orders(processes, path, places)
    _privileges(processes, path, places)
    check_logs(processes, path, places)


def _healths(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    """Imported only for files that use it: PID 1 reads its file while it boots."""
    for name, process in processes.items():
        probes = (process.readiness_probe, process.liveness_probe, process.startup_probe)
        if any(probes) or process.notify or process.sockets:
            from ocelot.config.health_checks import check_health

            check_health(process, (*path, name), places)
    if any(process.sockets for process in processes.values()):
        from ocelot.config.health_checks import check_listeners

        check_listeners(processes, path, places)


def _privileges(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    """Imported only for files that use it, too."""
    for name, process in processes.items():
        if any(getattr(process, key) not in (None, ()) for key in _PRIVILEGES):
            from ocelot.config.privilege_checks import check_privileges

            check_privileges(process, (*path, name), places)
    if any(process.stdin != "null" for process in processes.values()):
        from ocelot.config.privilege_checks import check_terminals

        check_terminals(processes, path, places)


def _orders(processes: dict[str, structs.Process], path: Path, places: Places) -> None:
    """Dependencies, replicas, commands, schedules; imported only for files that use them."""
    for name, process in processes.items():
        if process.replicas is not None or process.pre_start or process.post_stop:
            from ocelot.config.dependency_checks import check_commands, check_replicas

            check_replicas(process, (*path, name), places)
            check_commands(process, (*path, name), places)
        if process.schedule is not None:
            from ocelot.config.schedule_checks import check_schedule

            check_schedule(process, (*path, name), places)
    if any(process.depends_on for process in processes.values()):
        from ocelot.config.dependency_checks import check_dependencies

        check_dependencies(processes, path, places)


def _name(name: str, path: Path, places: Places) -> None:
    if not name:
        places.error(path, "a process needs a name", key=True)
    elif len(name) > MAX_NAME:
        places.error(path, f"the name of a process has {len(name)} characters, the limit is {MAX_NAME}", key=True)
    elif not all(letter.isalnum() or letter in "-._@:+" for letter in name) or name.startswith("-"):
        hint = "use letters, digits, dots, hyphens and underscores"
        places.error(path, f"{quoted(name)} cannot be the name of a process", hint, key=True)


def _restart_policy(process: structs.Process, path: Path, places: Places) -> None:
    policy, here = process.restart_policy, (*path, "restartPolicy")
    if policy.max_retries is not None and policy.max_retries < 0:
        places.error((*here, "maxRetries"), "must not be negative", "leave it out for no limit")
    if policy.multiplier < 1:
        places.error((*here, "multiplier"), "must be at least 1", "write 1 for a constant backoff")
    for index, code in present(policy.success_exit_codes):
        if not 0 <= code <= 255:
            places.error((*here, "successExitCodes", index), f"{code} is not an exit code: they go from 0 to 255")
    if places.broken((*here, "type")):
        return
    if policy.type is structs.RestartType.NEVER:
        for key in ("maxRetries", "backoff", "maxBackoff", "multiplier", "resetAfter"):
            if places.given((*here, key)):
                hint = "set the type to OnFailure, Always or UnlessStopped, or remove it"
                places.warn((*here, key), "has no effect: the type is Never", hint)
        return
    if policy.max_retries == 0:
        places.warn((*here, "maxRetries"), "with 0 retries the process is never restarted", "write `type: Never`")
    if policy.max_backoff < policy.backoff:
        key = "maxBackoff" if places.given((*here, "maxBackoff")) else "backoff"
        places.warn((*here, key), "maxBackoff is shorter than backoff and cuts it", "raise maxBackoff")
    if process.type == "oneshot" and policy.type is not structs.RestartType.ON_FAILURE:
        message = f"a oneshot that is restarted {policy.type.value} never completes"
        places.warn((*here, "type"), message, "write OnFailure or Never")
    elif process.essential and policy.max_retries is None and policy.type is not structs.RestartType.ON_FAILURE:
        message = f'is restarted {policy.type.value}, so "essential" never has an effect'
        places.warn((*here, "type"), message, "write OnFailure or Never, or set maxRetries")
