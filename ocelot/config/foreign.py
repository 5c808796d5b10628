"""What keys of other supervisors are called here, for the hints about keys that are not known. Imported when there is one."""

from __future__ import annotations

from ocelot.config import structs

_READINESS = 'write "readinessProbe", or "livenessProbe" for one that leads to a restart'
_STARTED = "every process of the file is started: leave it out, or stop it with ocelotctl"
_LOG = "write `log: {stdout: {destination: {type: file, path: ...}}}`"
_SIGNAL = 'write "shutdownSignal"'
_GRACE = 'write "terminationGracePeriod"'
_PROGRAM = 'write "program" and "arguments"'
_HANDLER = "write `handler: {type: TYPE, ...}`"
_DESTINATION = 'it belongs to "destination"'
_DELAYS = 'write "backoff", with "maxBackoff" and "multiplier"'

_BY_RECORD: dict[type, dict[str, str]] = {
    structs.Process: {
        **dict.fromkeys(("healthcheck", "healthCheck", "healthchecks", "health", "checks"), _READINESS),
        **dict.fromkeys(("autostart", "enabled", "disabled", "startup"), _STARTED),
        **dict.fromkeys(("stdout", "stderr", "stdout_logfile", "stderr_logfile", "log_location", "logfile"), _LOG),
        **dict.fromkeys(("stopsignal", "stopSignal", "stop_signal", "signal", "killSignal", "KillSignal"), _SIGNAL),
        **dict.fromkeys(("stopwaitsecs", "stop_grace_period", "gracePeriod", "timeout", "TimeoutStopSec"), _GRACE),
        **dict.fromkeys(("cmd", "entrypoint", "exec", "ExecStart"), _PROGRAM),
        **dict.fromkeys(("autorestart", "Restart", "availability", "restart_policy"), 'write "restartPolicy"'),
        **dict.fromkeys(("numprocs", "instances", "numProcesses", "scale"), 'write "replicas"'),
        **dict.fromkeys(("env_file", "envFile", "EnvironmentFile"), 'write "environmentFile"'),
        **dict.fromkeys(("Environment", "envs", "vars"), 'write "environmentVariables"'),
        **dict.fromkeys(("directory", "working_directory", "dir", "WorkingDirectory"), 'write "workingDirectory"'),
        **dict.fromkeys(("needs", "wants", "After", "Requires", "depends"), 'write "dependsOn"'),
        **dict.fromkeys(("tty", "is_tty", "stdin_open"), "write `stdin: pty`"),
        **dict.fromkeys(("memoryMax", "memory", "mem_limit", "cpus", "cpuMax", "pidsMax"), 'it belongs to "resources"'),
        **dict.fromkeys(("nofile", "ulimits", "rlimits", "LimitNOFILE"), 'write "limits"'),
        **dict.fromkeys(("cap_add", "cap_drop"), 'write "capabilities"'),
        **dict.fromkeys(("every", "timer"), "write `schedule: {every: ...}` or `schedule: {cron: ...}`"),
        **dict.fromkeys(("maxRetries", "backoff", "restartDelay"), 'it belongs to "restartPolicy"'),
        "uid": 'write "user"',
        "gid": 'write "group"',
        "groups": 'write "supplementaryGroups"',
        "rotation": "it belongs to `log: {stdout: ...}`",
        "ports": "processes share one network: it listens itself, or takes `sockets`",
        "image": "a process is a program of this root file system",
        "daemon": "a process must stay in the foreground",
    },
    structs.Probe: {
        **dict.fromkeys(("httpGet", "tcpSocket", "exec", "grpc", "unixSocket", "log"), _HANDLER),
        **dict.fromkeys(("type", "command", "port", "path", "host", "http_get", "test"), _HANDLER),
        **dict.fromkeys(("interval", "periodSeconds", "period_seconds"), 'write "period", with a unit'),
        "initialDelaySeconds": 'write "initialDelay", with a unit',
        "timeoutSeconds": 'write "timeout", with a unit',
        "retries": 'write "failureThreshold"',
        "start_period": "write a `startupProbe`",
    },
    structs.ExecCommand: {
        "cmd": 'write "command"',
        "program": 'write "command"',
        "arguments": 'write all in "command"',
    },
    structs.RestartPolicy: {
        **dict.fromkeys(("delay", "backoff_seconds", "restartSec", "initialBackoff"), _DELAYS),
        **dict.fromkeys(("maxRetry", "max_restarts", "maxRestarts", "max_attempts", "retries"), 'write "maxRetries"'),
        "maxDelay": 'write "maxBackoff"',
        "policy": 'write "type"',
        "condition": 'write "type"',
    },
    structs.Stream: dict.fromkeys(("type", "path", "address"), _DESTINATION)
    | dict.fromkeys(("maxSizeBytes", "maxFiles", "compression", "maxAgeDays"), 'it belongs to "rotation"'),
    structs.Log: dict.fromkeys(
        ("destination", "format", "rotation", "type", "path"), 'it belongs to "stdout" or "stderr"'
    ),
    structs.Schedule: {"tz": 'write "timezone"', "interval": 'write "every"'},
    structs.Resources: {
        **dict.fromkeys(("cpu", "cpus"), 'write "cpuMax"'),
        **dict.fromkeys(("limits", "requests"), "write `memoryMax: 256MiB`, `cpuMax: 150%`"),
    },
}


PROCESSES: dict[type, str] = {
    structs.SuperviseFile: 'a process belongs below "processes"',
    structs.Bootstrap: 'a process belongs below "postSwitch.handoff.processes"',
    structs.PostSwitch: 'a process belongs below "handoff.processes"',
}
"""Where a process belongs, by the record in which one was found instead."""


def meaning(record: type, word: str) -> str:
    """The hint for ``word`` among the keys of ``record``; empty when nobody calls anything so."""
    return _BY_RECORD.get(record, {}).get(word, "")
