"""What the keys of a supervised process mean together."""

from __future__ import annotations

from ocelot.config import structs
from ocelot.config.findings import Path, quoted
from ocelot.config.places import Places, present
from ocelot.config.program_checks import check_environment, check_program, check_time, check_working_directory
from ocelot.config.values import is_numeric_address

MAX_NAME = 128


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
        for stream in ("stdout", "stderr"):
            _destination(getattr(process.log, stream), (*here, "log", stream), places)


def _name(name: str, path: Path, places: Places) -> None:
    if not name:
        places.error(path, "a process needs a name")
    elif len(name) > MAX_NAME:
        places.error(path, f"the name of a process has {len(name)} characters, the limit is {MAX_NAME}")
    elif not all(letter.isalnum() or letter in "-._@:+" for letter in name) or name.startswith("-"):
        hint = "use letters, digits, dots, hyphens and underscores"
        places.error(path, f"{quoted(name)} cannot be the name of a process", hint)


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


def _destination(stream: structs.Stream, path: Path, places: Places) -> None:
    destination, here = stream.destination, (*path, "destination")
    if places.is_null(here):
        places.warn(here, "null means that nothing is set", "write {type: null} to throw the output away")
    if isinstance(destination, structs.File) and not destination.path.startswith("/"):
        places.error((*here, "path"), f"{quoted(destination.path)} is not an absolute path")
    elif isinstance(destination, structs.File) and destination.path.endswith("/"):
        places.error((*here, "path"), f"{quoted(destination.path)} is a folder", "name a file in it")
    elif isinstance(destination, structs.Syslog) and not destination.address.startswith("/"):
        _syslog_address(destination.address, (*here, "address"), places)
    elif isinstance(destination, structs.Direct) and places.given((*path, "onFull")):
        places.warn((*path, "onFull"), "has no effect: ocelot does not see what a direct stream carries", "remove it")


def _syslog_address(address: str, path: Path, places: Places) -> None:
    host, _, port = address.removeprefix("udp://").rpartition(":")
    if address.startswith("udp://") and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536:
        if is_numeric_address(host):
            return
        places.error(path, f"{quoted(host)} is not a numeric address", "names are not looked up here")
        return
    hint = 'write for example "/dev/log" or "udp://192.0.2.1:514"'
    places.error(path, f"{quoted(address)} is neither an absolute path nor udp://HOST:PORT", hint)
