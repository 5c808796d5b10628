"""Who is measured: how each supervisor is told to keep so many services alive, started, asked and ended.

Every one gets the same service (``programs/service.c``) with the least that its configuration allows: no restart delay where it
can be had, no logging of its own. Which file a service reports to is in the environment, which all of them pass on.
"""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from integration.lab import cache
from ocelot.errors import OcelotError

PROGRAMS = Path(__file__).parent / "programs"

DINIT = "dinit is not measured: neither Debian 12 nor Debian 13 has it."


@dataclass(frozen=True)
class Tools:
    """What was compiled or installed for the measurements."""

    service: Path
    loop: Path
    orphans: Path
    circusd: Path | None
    supervisord: Path | None


@dataclass(frozen=True, eq=False)
class Peer:
    """One supervisor. ``prepare`` writes its configuration into a folder, for so many services running a program, and
    returns its command line. ``status``: the command that asks it for the state of them all.

    ``brisk``: the same with a shorter period of looking for the dead, for those that poll; only for restarts, since it
    costs wake-ups.
    """

    name: str
    prepare: Callable[[Path, int, Path], list[str]]
    status: Callable[[Path], list[str]] | None = None
    stop: int = signal.SIGTERM
    environment: Mapping[str, str] = field(default_factory=dict)
    brisk: Peer | None = None


def tools(say: Callable[[str], None]) -> tuple[Tools, list[str]]:
    """Compile and install into the cache what is not there yet; also what could not be had, in words.

    Raises OcelotError without a C compiler.
    """
    left_out: list[str] = []
    folder = cache.folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: _compile(folder, name) for name in ("service", "loop", "orphans")}
    # As pip leaves what it installs; the environment may keep the checkout from it (PYTHONDONTWRITEBYTECODE)
    for package in ("ocelot", "bootstrap", "supervisor"):
        compileall.compile_dir(cache.CHECKOUT / package, quiet=2)
    circusd = _installed(folder, "circus==0.19.0", "circusd", say, left_out)
    here = cache.tool("supervisord")
    supervisord = Path(here) if here else _installed(folder, "supervisor==4.2.5", "supervisord", say, left_out)
    return Tools(made["service"], made["loop"], made["orphans"], circusd, supervisord), left_out


def _installed(
    folder: Path, requirement: str, program: str, say: Callable[[str], None], left_out: list[str]
) -> Path | None:
    """``program`` of a package from PyPI, in an environment of its own; None, and a word in ``left_out``, if that fails."""
    name = requirement.partition("=")[0]
    path = folder / name / "bin" / program
    if not path.exists():
        say(f"installing {requirement} into the cache")
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / name], check=True)
            pip = [str(folder / name / "bin/python"), "-m", "pip", "install", "--quiet", requirement]
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            last = (error.stderr or "").strip().splitlines()[-1:] or ["pip failed"]
            left_out.append(f"{program} is not measured: it could not be installed ({last[0]}).")
            return None
    return path


def _compile(folder: Path, name: str) -> Path:
    source, program = PROGRAMS / f"{name}.c", folder / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = cache.tool("gcc", "cc")
        if compiler is None:
            raise OcelotError("cannot measure: there is no C compiler", hint="install gcc and libc6-dev")
        subprocess.run([compiler, "-O2", "-static", "-s", "-o", program, source], check=True)
    return program


def all_peers(made: Tools) -> tuple[list[Peer], list[str]]:
    """Everybody that is here, ocelot last; and in words, who is not."""
    missing = [DINIT]
    peers = [Peer("C loop", _loop(made.loop)), Peer("bare trio", _trio)]
    if cache.tool("s6-svscan"):
        peers.append(Peer("s6", _s6, _s6_status, environment={"BENCH_READY": "3"}))
    else:
        missing.append("s6 is not measured: it is not installed (apt package s6).")
    if cache.tool("runsvdir"):
        peers.append(Peer("runit", _runit, _runit_status, stop=signal.SIGHUP))
    else:
        missing.append("runit is not measured: it is not installed (apt package runit).")
    if made.supervisord is not None:
        peers.append(Peer("supervisord", _supervisord(made.supervisord), _supervisord_status(made.supervisord)))
    if made.circusd is not None:
        peers.append(
            Peer(
                "circus",
                _circus(made.circusd),
                brisk=Peer("circus", _circus(made.circusd, 0.1)),
                status=_circus_status(made.circusd),
            )
        )
    peers.append(
        Peer("ocelot", _ocelot, _ocelot_status, environment={"container": "bench", "PYTHONPATH": str(cache.CHECKOUT)})
    )
    return peers, missing


# -- the floors


def _loop(program: Path) -> Callable[[Path, int, Path], list[str]]:
    return lambda folder, count, service: [str(program), str(count), str(service)]


def _trio(folder: Path, count: int, service: Path) -> list[str]:
    return [sys.executable, str(PROGRAMS / "trio_loop.py"), str(count), str(service)]


# -- the others


def _s6(folder: Path, count: int, service: Path) -> list[str]:
    _service_folders(folder / "scan", count, service)
    return ["s6-svscan", "-c", str(count + 10), str(folder / "scan")]


def _s6_status(folder: Path) -> list[str]:
    return ["s6-svstat", str(folder / "scan" / "s0")]


def _runit(folder: Path, count: int, service: Path) -> list[str]:
    _service_folders(folder / "scan", count, service)
    return ["runsvdir", "-P", str(folder / "scan")]


def _runit_status(folder: Path) -> list[str]:
    return ["sv", "status", *sorted(str(path) for path in (folder / "scan").iterdir())]


def _service_folders(scan: Path, count: int, service: Path) -> None:
    shutil.rmtree(scan, ignore_errors=True)
    for number in range(count):
        (scan / f"s{number}").mkdir(parents=True)
        (scan / f"s{number}" / "run").symlink_to(service)
        (scan / f"s{number}" / "notification-fd").write_text("3\n")  # s6 restarts at once only what had become ready


def _supervisord(program: Path) -> Callable[[Path, int, Path], list[str]]:
    def prepare(folder: Path, count: int, service: Path) -> list[str]:
        one = _SUPERVISORD_ONE.format
        services = "".join(one(number=number, service=service) for number in range(count))
        (folder / "supervisord.conf").write_text(_SUPERVISORD_HEAD.format(folder=folder, user=os.geteuid()) + services)
        return [str(program), "-c", str(folder / "supervisord.conf")]

    return prepare


_SUPERVISORD_HEAD = """\
[supervisord]
nodaemon=true
silent=true
user={user}
minfds=8192
logfile=/dev/null
logfile_maxbytes=0
pidfile={folder}/supervisord.pid
childlogdir={folder}
[unix_http_server]
file={folder}/supervisord.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisord.sock
"""

_SUPERVISORD_ONE = """\
[program:s{number}]
command={service}
autorestart=true
startsecs=0
stopwaitsecs=5
stdout_logfile=NONE
stderr_logfile=NONE
"""


def _supervisord_status(program: Path) -> Callable[[Path], list[str]]:
    tool = str(program.with_name("supervisorctl"))
    return lambda folder: [tool, "-c", str(folder / "supervisord.conf"), "status"]


def _circus(program: Path, check_delay: float = 5.0) -> Callable[[Path, int, Path], list[str]]:
    def prepare(folder: Path, count: int, service: Path) -> list[str]:
        # no stats_endpoint: with one it starts a second process that looks at everything all the time
        sockets = "".join(f"{name}=ipc://{folder}/circus-{name}\n" for name in ("endpoint", "pubsub_endpoint"))
        one = "[watcher:s{number}]\ncmd={service}\ncopy_env=True\nmax_retry=-1\ngraceful_timeout=5\n"
        services = "".join(one.format(number=number, service=service) for number in range(count))
        head = f"[circus]\n{sockets}statsd=False\nwarmup_delay=0\ncheck_delay={check_delay}\nloglevel=error\nlogoutput=/dev/null\n"
        (folder / "circus.ini").write_text(head + services)
        return [str(program), str(folder / "circus.ini")]

    return prepare


def _circus_status(program: Path) -> Callable[[Path], list[str]]:
    return lambda folder: [
        str(program.with_name("circusctl")),
        "--endpoint",
        f"ipc://{folder}/circus-endpoint",
        "status",
    ]


# -- and we


def _ocelot(folder: Path, count: int, service: Path) -> list[str]:
    policy = "{type: Always, backoff: 0s, resetAfter: 1ms}"
    one = "  s{number}:\n    program: {service}\n    restartPolicy: {policy}\n    terminationGracePeriod: 5s\n"
    services = "".join(one.format(number=number, service=service, policy=policy) for number in range(count))
    head = f'version: "1.0"\nlogLevel: error\ncontrol:\n  socket: {folder}/control.sock\nprocesses:\n'
    (folder / "ocelot.yaml").write_text(head + services)
    return [_script("ocelot"), "supervise", str(folder / "ocelot.yaml")]


def _ocelot_status(folder: Path) -> list[str]:
    return [_script("ocelotctl"), "--socket", str(folder / "control.sock"), "status"]


def _script(name: str) -> str:
    """The command as installed beside the interpreter that runs this."""
    return os.path.join(os.path.dirname(sys.executable), name)
