"""supervisord.conf (Supervisor 4): programs, with the files it includes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from configparser import Error, RawConfigParser
from typing import Any

from ocelot.convert import words
from ocelot.convert.draft import Draft, Entry, seconds
from ocelot.errors import OcelotError

_IGNORED_SECTIONS = ("supervisorctl", "include")
_LEVELS = {"critical": "error", "error": "error", "warn": "warn", "info": "info", "debug": "debug", "trace": "trace", "blather": "trace"}  # fmt: skip
_DROPPED = {
    "autostart": "ocelot starts every process; ocelotctl stop stops it",
    "process_name": "replicas are called NAME[0], NAME[1], ...",
    "serverurl": "there is no XML-RPC; programs find the control socket in /run/ocelot/control.sock",
    "stdout_capture_maxbytes": "there are no communication events",
    "stderr_capture_maxbytes": "there are no communication events",
    "stdout_events_enabled": "there are no event listeners; see ocelotctl events",
    "stderr_events_enabled": "there are no event listeners; see ocelotctl events",
    "numprocs_start": "replicas are counted from 0",
    "priority": "processes are in this order here; where one needs another, say so with dependsOn",
}
_READ = {
    "command", "numprocs", "autorestart", "startretries", "startsecs", "exitcodes", "stopsignal", "stopwaitsecs",
    "stopasgroup", "killasgroup", "user", "redirect_stderr", "directory", "umask", "environment", "socket",
    "socket_owner", "socket_mode", "socket_backlog", "stdout_logfile", "stdout_logfile_maxbytes",
    "stdout_logfile_backups", "stdout_syslog", "stderr_logfile", "stderr_logfile_maxbytes", "stderr_logfile_backups",
    "stderr_syslog", "events", "buffer_size", "result_handler",
}  # fmt: skip


def read(path: str) -> Draft:
    """Raises OcelotError."""
    draft = Draft(path)
    parser = _parse(path, draft)
    here = os.path.dirname(os.path.abspath(path))
    for section in sorted(parser.sections(), key=lambda name: _priority(parser, name)):
        kind, _, name = section.partition(":")
        options = dict(parser.items(section))
        if kind in ("program", "fcgi-program", "eventlistener") and name:
            draft.entries.append(_program(kind, name.strip(), options, here))
        elif kind == "supervisord":
            _supervisord(options, draft)
        elif kind == "unix_http_server":
            _control(options, draft)
        elif kind == "inet_http_server":
            draft.lose(
                f"[inet_http_server] port={options.get('port', '')}",
                "control is a unix socket only; use ssh, or vsock from the host",
            )
        elif kind == "group":
            draft.lose(
                f"[{section}] programs={options.get('programs', '')}", 'name them together with a pattern ("web-*")'
            )
        elif kind not in _IGNORED_SECTIONS and kind != "rpcinterface":
            draft.lose(f"[{section}]", "unknown section")
    return draft


def _parse(path: str, draft: Draft) -> RawConfigParser:
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)  # as supervisord has it
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        if parser.has_option("include", "files"):
            for pattern in parser.get("include", "files").split():
                here = os.path.dirname(os.path.abspath(path))
                names = sorted(glob.glob(os.path.join(here, pattern.replace("%(here)s", here))))
                if not names:
                    draft.lose(f"[include] files={pattern}", "there is no such file here")
                for name in names:
                    with open(name, encoding="utf-8") as file:
                        parser.read_file(file)
    except (OSError, UnicodeDecodeError, Error) as error:
        raise OcelotError(f'cannot read "{path}": {" ".join(str(error).split())}') from None
    return parser


def _priority(parser: RawConfigParser, section: str) -> int:
    text = parser.get(section, "priority", fallback="999")
    return int(text) if text.isdigit() else 999


def _program(kind: str, name: str, options: dict[str, str], here: str) -> Entry:
    entry = Entry(re.sub(r"\s", "-", name))
    known = {"program_name": name, "group_name": name, "here": here, "host_node_name": os.uname().nodename}
    known["numprocs"] = options.get("numprocs", "1")
    options = {key: _expand(value, known, entry) for key, value in options.items()}
    if not options.get("command"):
        raise OcelotError(f"cannot convert [{kind}:{name}]: it has no command", hint="add command=")
    entry.keys |= words.program(words.split(options["command"], f"command of [{kind}:{name}]"))
    if kind == "eventlistener":
        entry.withheld = "event listeners speak supervisord's own protocol; see ocelotctl events --json"
    for key, value in options.items():
        if key in _DROPPED:
            if key != "priority" and not (key == "autostart" and _true(value)) and value not in ("0", "AUTO"):
                entry.lose(f"{key}={value}", _DROPPED[key])
        elif key not in _READ:
            entry.lose(f"{key}={value}", "unknown")
    _surroundings(options, entry)
    _restarts(options, entry)
    _stopping(options, entry)
    _logs(options, entry, here)
    if kind == "fcgi-program":
        _socket(options, entry)
    return entry


def _expand(text: str, known: Mapping[str, str], entry: Entry) -> str:
    def value(match: re.Match[str]) -> str:
        key = match[1]
        if key == "process_num":
            entry.lose(match.group(), "each replica has its number in OCELOT_REPLICA: use a shell to put it in")
            return "0"
        if key.startswith("ENV_"):
            entry.lose(
                match.group(), f"an environment variable of whoever starts it: {key[4:]} was put in as it is now"
            )
            return os.environ.get(key[4:], "")
        if key not in known:
            entry.lose(match.group(), "unknown")
        return known.get(key, match.group())

    return re.sub(r"%\((\w+)\)(\d*[sd])", value, text)


def _surroundings(options: dict[str, str], entry: Entry) -> None:
    for key, ours in (("directory", "workingDirectory"), ("user", "user"), ("umask", "umask")):
        if options.get(key):
            entry.keys[ours] = options[key]
    if options.get("environment"):
        entry.keys["environmentVariables"] = environment(options["environment"], entry)
    replicas = int(_number(options, "numprocs", 1, entry))
    if replicas > 1:
        entry.keys["replicas"] = replicas


def _number(options: Mapping[str, str], key: str, default: float, entry: Entry) -> float:
    text = options.get(key, "").strip()
    if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if text:
        entry.lose(f"{key}={text}", "it is no number")
    return default


_PAIR = re.compile(r"""\s*([^\s=,]+)\s*=\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?:,|$)""")


def environment(text: str, entry: Entry) -> dict[str, str]:
    """``KEY="val",KEY2=val2``. What is not of this form is lost, and said so."""
    found, end = {}, 0
    while match := _PAIR.match(text, end):
        found[match[1]] = match[2].strip("'\"").replace("%%", "%")
        end = match.end()
    if text[end:].strip():
        entry.lose(f"environment={text[end:].strip()}", "it could not be read")
    return found


def _restarts(options: dict[str, str], entry: Entry) -> None:
    policy: dict[str, Any] = {}
    again = options.get("autorestart", "unexpected").lower()
    codes = [int(code) for code in re.findall(r"\d+", options.get("exitcodes", "0"))]
    if again == "unexpected":
        policy["type"] = "OnFailure"
    elif _true(again):
        policy["type"] = "Always"
    if not policy:
        return
    policy |= {
        "maxRetries": int(_number(options, "startretries", 3, entry)),
        "backoff": "1s",
        "resetAfter": seconds(max(_number(options, "startsecs", 1, entry), 1.0)),
    }
    if codes != [0] and again == "unexpected":
        policy["successExitCodes"] = codes
    entry.keys["restartPolicy"] = policy


def _stopping(options: dict[str, str], entry: Entry) -> None:
    if options.get("stopsignal", "TERM").upper().removeprefix("SIG") != "TERM":
        entry.keys["shutdownSignal"] = "SIG" + options["stopsignal"].upper().removeprefix("SIG")
    entry.keys["terminationGracePeriod"] = seconds(max(1.0, _number(options, "stopwaitsecs", 10, entry)))
    for key in ("stopasgroup", "killasgroup"):
        if key in options and not _true(options[key]):
            entry.lose(f"{key}={options[key]}", "a stop means the whole process group")


def _logs(options: dict[str, str], entry: Entry, here: str) -> None:
    log = {}
    for stream in ("stdout", "stderr"):
        target = _stream(options, stream, here, entry)
        if target is not None:
            log[stream] = target
        path = options.get(f"{stream}_logfile", "AUTO")
        if _true(options.get(f"{stream}_syslog", "false")) and path.upper() not in ("AUTO", "NONE", "SYSLOG"):
            entry.lose(f"{stream}_logfile={path}", "a stream goes to one place, and this one to syslog")
    if _true(options.get("redirect_stderr", "false")):
        log.pop("stderr", None)
        if "stdout" in log:
            log["stderr"] = dict(log["stdout"])
    if log:
        entry.keys["log"] = log


def _stream(options: dict[str, str], stream: str, here: str, entry: Entry) -> dict[str, Any] | None:
    if _true(options.get(f"{stream}_syslog", "false")) or options.get(f"{stream}_logfile") == "syslog":
        return {"destination": {"type": "syslog"}}
    path = options.get(f"{stream}_logfile", "AUTO")
    if path.upper() == "NONE" or path == "/dev/null":
        return {"destination": {"type": "null"}}
    if path.upper() == "AUTO" or path in (
        f"/dev/{stream}",
        "/dev/fd/1",
        "/dev/fd/2",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "/dev/stdout",
    ):
        return None
    found: dict[str, Any] = {"destination": {"type": "file", "path": os.path.join(here, path)}}
    text = options.get(f"{stream}_logfile_maxbytes", "50MB")
    limit = words.size(text)
    if limit is None:
        entry.lose(f"{stream}_logfile_maxbytes={text}", "it is no size")
    backups = int(_number(options, f"{stream}_logfile_backups", 10, entry))
    if limit and limit != "0B":
        found["rotation"] = {"maxSizeBytes": limit, "maxFiles": max(backups, 1)}
    return found


def _socket(options: dict[str, str], entry: Entry) -> None:
    address = options.get("socket", "").replace("%%", "%")
    socket: dict[str, Any] = {"name": entry.name, "listen": address}
    if options.get("socket_backlog"):
        socket["backlog"] = int(_number(options, "socket_backlog", 4096, entry))
    if address.startswith("unix://"):
        if options.get("socket_mode"):
            socket["mode"] = options["socket_mode"]
        if options.get("socket_owner"):
            user, _, group = options["socket_owner"].partition(":")
            socket |= {"user": user} | ({"group": group} if group else {})
    else:
        for key in ("socket_mode", "socket_owner"):
            if options.get(key):
                entry.lose(f"{key}={options[key]}", "that belongs to unix sockets")
    entry.keys["sockets"] = [socket]
    entry.lose("[fcgi-program]", "the socket is descriptor 3 (LISTEN_FDS), not 0: the program must be told so")


def _supervisord(options: dict[str, str], draft: Draft) -> None:
    quiet = {"nodaemon", "pidfile", "childlogdir", "identifier", "silent", "nocleanup"}
    for key, value in options.items():
        if key == "loglevel" and value.lower() in _LEVELS:
            if _LEVELS[value.lower()] != "info":
                draft.sections["logLevel"] = _LEVELS[value.lower()]
        elif key == "logfile" or key.startswith("logfile_"):
            if key == "logfile" and value not in ("/dev/null", "/dev/stdout"):
                draft.lose(f"logfile={value}", "ocelot writes to its own standard error")
        elif key not in quiet:
            draft.lose(
                f"[supervisord] {key}={value}",
                "set it for each process" if key in ("user", "umask", "environment", "directory") else "",
            )


def _control(options: dict[str, str], draft: Draft) -> None:
    control: dict[str, Any] = {}
    if "file" in options:
        draft.lose(
            f"[unix_http_server] file={options['file']}",
            "the control socket is /run/ocelot/control.sock; set control.socket for another",
        )
    if options.get("chmod", "0700") not in ("0700", "0600"):
        control["mode"] = options["chmod"]
    owner = options.get("chown", "")
    if ":" in owner:
        control["group"] = owner.partition(":")[2]
    if options.get("username"):
        draft.lose("[unix_http_server] username", "clients are told apart by their user id; see control.roles")
    if control:
        draft.sections["control"] = control


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "yes", "on", "1", "t")
