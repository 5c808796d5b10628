"""What each endpoint of the control socket does: one short function an operation of ``ocelot.wire.routes``.

Imported when the first client connects.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ocelot import __version__, log
from ocelot.errors import ControlError
from ocelot.states import PowerVerb
from ocelot.wire import drawing, protocol, routes, tables
from ocelot.wire.place import BEGAN, LATEST
from ocelot.wire.protocol import Role
from supervisor.control.actions import act, resolve, scale, unknown
from supervisor.control.connection import Answer, Request, Response, problem
from supervisor.control.permissions import require
from supervisor.control.waiting import wait_for

if TYPE_CHECKING:
    from supervisor.controlled import Controlled, Supervised

Asked = TypeVar("Asked", bound=msgspec.Struct)


@dataclass(frozen=True)
class Call:
    """One request to one operation. ``path`` and ``query`` are decoded.

    ``descriptor``: its connection, -1 if unknown. ``local``: it can hand over descriptors.
    """

    machine: Controlled
    request: Request
    path: Mapping[str, str]
    query: Mapping[str, list[str]]
    descriptor: int = -1
    local: bool = True


def control_answer(
    machine: Controlled, role: Callable[[], Role | None], *, descriptor: int = -1, local: bool = True
) -> Answer:
    """What answers one client of the control socket. ``role``: what it may do, asked for each request."""

    async def answer(request: Request) -> Response:
        route, variables, methods = routes.find(request.method, request.path)
        if route is None:
            return _no_route(request, methods)
        deed = route.summary[0].lower() + route.summary[1:].partition(":")[0].rstrip(".")
        require(role(), route.role, f'answer "{request.method} {request.path}" ({deed})', local=local)
        query = routes.parse_query(request.query)
        return await OPERATIONS[route.operation](Call(machine, request, variables, query, descriptor, local))

    return answer


def metrics_answer(machine: Controlled) -> Answer:
    """What answers on the metrics listener: figures and health, to anybody, and nothing else."""
    known = {"/metrics": _metrics, "/health": _health}

    async def answer(request: Request) -> Response:
        operation = known.get(request.path)
        if operation is None:
            return _no_route(request, ())
        if request.method not in ("GET", "HEAD"):
            return _no_route(request, ("GET",))
        return await operation(Call(machine, request, {}, routes.parse_query(request.query)))

    return answer


def _no_route(request: Request, methods: tuple[str, ...]) -> Response:
    if methods:
        allowed = ", ".join(methods)
        error = ControlError(
            f"cannot answer {request.method} here",
            hint=f"this path takes {allowed}",
            status=405,
            kind="method-not-allowed",
        )
        return problem(error, allow=allowed)
    return problem(
        ControlError(
            f'cannot find "{request.path}"',
            hint=f"{protocol.API}/openapi.json lists what the control socket knows",
            status=404,
            kind="not-found",
        )
    )


def _json(reply: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(reply) + b"\n", status)


# -- reading


async def _status(call: Call) -> Response:
    status = call.machine.status()
    if "name" in call.query:
        by_name = {process.name: process for process in status.processes}
        status.processes = [by_name[name] for name in resolve(list(by_name), call.query["name"])]
    if "text/plain" not in call.request.headers.get("accept", ""):
        return _json(status)
    # For ocelotctl, which is done sooner when it has nothing to decode and to draw
    plain = msgspec.to_builtins(status)
    width = _number(call.query, "columns", None)
    page = tables.status_page(plain, width=None if width is None else int(width), colour=_flag(call.query, "colour"))
    if "name" in call.query:
        from ocelot.wire.details import details_page

        page += details_page(plain["processes"])
    up = all(map(tables.is_up, plain["processes"]))
    return Response(page.encode(), media=routes.TEXT, headers={"ocelot-all-up": "true" if up else "false"})


async def _processes(call: Call) -> Response:
    return _json(protocol.ProcessList(processes=call.machine.status().processes))


async def _process(call: Call) -> Response:
    supervisor = _supervisor(call)
    name = call.path["name"]
    if name not in supervisor.names:
        raise unknown(name, supervisor.names)
    return _json(supervisor.status(name))


async def _boot(call: Call) -> Response:
    timeline = call.machine.timeline()
    accepted = call.request.headers.get("accept", "")
    if "svg" not in accepted and "text/plain" not in accepted:
        return _json(timeline)
    plain = msgspec.to_builtins(timeline)
    if "svg" in accepted:
        return Response(drawing.svg(plain).encode(), media=routes.SVG)
    return Response(("\n".join(drawing.table(plain, width=100)) + "\n").encode(), media=routes.TEXT)


async def _version(_call: Call) -> Response:
    return _json(protocol.Version(version=__version__, python=".".join(map(str, sys.version_info[:3]))))


async def _health(call: Call) -> Response:
    status = call.machine.status()
    failed = [process.name for process in status.processes if process.failed]
    healthy = not failed and status.phase != "failed"
    return _json(protocol.Health(healthy=healthy, phase=status.phase, failed=failed), 200 if healthy else 503)


async def _openapi(_call: Call) -> Response:
    from ocelot.wire.openapi import document

    return _json(document())


async def _metrics(call: Call) -> Response:
    from supervisor.metrics.collector import expose

    body, media = await expose(call.machine, call.request.headers.get("accept", ""), pss=_flag(call.query, "pss"))
    return Response(body, media=media)


async def _figures(call: Call) -> Response:
    from supervisor.metrics.collector import read_usage

    supervisor = _supervisor(call)
    usages = await read_usage(call.machine, pss=_flag(call.query, "pss"))
    chosen = resolve(supervisor.names, call.query.get("name") or ["*"])
    found = [
        protocol.ProcessFigures(
            name=name,
            cpu_seconds=used.counted.user_seconds + used.counted.system_seconds,
            resident_memory=used.resident_memory,
            proportional_memory=used.pss,
            processes=used.processes,
            threads=used.threads,
            open_fds=used.open_fds,
            read_bytes=used.counted.read_bytes,
            written_bytes=used.counted.written_bytes,
        )
        for name in chosen
        if (used := usages.get(name)) is not None
    ]
    return _json(protocol.FiguresReply(at=time.clock_gettime(time.CLOCK_MONOTONIC), processes=found))


# -- acting


def _supervisor(call: Call) -> Supervised:
    supervisor = call.machine.supervisor
    if supervisor is None:
        raise ControlError(
            "cannot do this yet: no processes are supervised",
            hint="wait until the boot has come to its hand-off; ocelotctl boot shows how far it is",
            status=503,
            kind="not-ready",
        )
    return supervisor


def _action(verb: str) -> Callable[[Call], Awaitable[Response]]:
    async def run(call: Call) -> Response:
        supervisor = _supervisor(call)
        request = _decode(call.request.body, protocol.ActionRequest)
        if "name" in call.path:
            request.names.append(call.path["name"])
        reply = await act(supervisor, verb, request, call.request.patience)
        log.debug(f"control: {verb} {' '.join(request.names)}")
        return _json(reply)

    return run


def _decode(body: bytes, kind: type[Asked]) -> Asked:
    if not body:
        return kind()
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(
            f"cannot read the request: {error}",
            hint='send a JSON object such as {"names": ["web"]}; /v1/openapi.json describes it',
            status=400,
            kind="bad-request",
        ) from None


async def _scale(call: Call) -> Response:
    supervisor = _supervisor(call)
    if not call.request.body:
        hint = 'send a JSON object such as {"replicas": 3}'
        raise ControlError("cannot scale to nothing", hint=hint, status=400, kind="bad-request")
    request = _decode(call.request.body, protocol.ScaleRequest)
    reply = await scale(supervisor, call.path["name"], request, call.request.patience)
    log.debug(f"control: scale {call.path['name']}")
    return _json(reply)


async def _wait(call: Call) -> Response:
    supervisor = _supervisor(call)
    request = _decode(call.request.body, protocol.WaitRequest)
    names = resolve(supervisor.names, [*request.names, *call.path.values()])
    return _json(await wait_for(supervisor, names, request, call.request.patience))


async def _exec(call: Call) -> Response:
    from supervisor.control.sessions import PROTOCOL, attend

    supervisor = _supervisor(call)
    if not call.local:
        raise ControlError(
            "cannot run a command from another machine: it is handed its streams over the unix socket",
            hint="use exec and shell on the machine itself",
            status=409,
            kind="not-local",
        )
    name = call.path.get("name")
    if name is not None and name not in supervisor.names:
        raise unknown(name, supervisor.names)
    request = _decode(call.request.body, protocol.SessionRequest)
    log.debug(f"control: exec {name or ''} {' '.join(request.argv)}")
    takeover = partial(attend, supervisor=supervisor, name=name, request=request)
    return Response(status=101, headers={"upgrade": PROTOCOL}, takeover=takeover)


async def _terminal(call: Call) -> Response:
    from supervisor.control.attachment import admit, watch

    numbers = {key: _number(call.query, key, None) for key in ("lines", "after", "pid")}
    request = protocol.TerminalRequest(**{key: int(value) for key, value in numbers.items() if value is not None})
    supervisor, name = _supervisor(call), call.path["name"]
    return Response(watch(supervisor, name, admit(supervisor, name, request), request), media=routes.NDJSON)


async def _attach(call: Call) -> Response:
    from supervisor.control.attachment import PROTOCOL, admit, attend

    supervisor, name = _supervisor(call), call.path["name"]
    request = _decode(call.request.body, protocol.TerminalRequest)
    terminal = admit(supervisor, name, request)
    log.debug(f"control: attach {name}")
    takeover = partial(attend, supervisor=supervisor, name=name, terminal=terminal, request=request)
    return Response(status=101, headers={"upgrade": PROTOCOL}, takeover=takeover)


async def _power(call: Call) -> Response:
    try:
        verb = PowerVerb(call.path["verb"])
    except ValueError:
        raise ControlError(
            f'cannot do "{call.path["verb"]}"',
            hint="the verbs are poweroff, reboot and halt",
            status=404,
            kind="not-found",
        ) from None
    identity = call.machine.status().identity
    call.machine.request_power(verb)
    return _json(protocol.PowerReply(verb=verb.value, identity=identity), 202)


async def _reload(call: Call) -> Response:
    request = _decode(call.request.body, protocol.ReloadRequest)
    return _json(await call.machine.reload(request.file, dry_run=request.dry_run, keep_scale=request.keep_scale))


async def _reexec(call: Call) -> Response:
    request = _decode(call.request.body, protocol.ReexecRequest)
    await call.machine.replace(request.runtime, call.descriptor)
    raise ControlError("cannot tell what became of it: this image is still here", kind="internal")


# -- what happens, and what is written


async def _events(call: Call) -> Response:
    from supervisor.control.events import follow, recent

    supervisor = _supervisor(call)
    wanted = call.query.get("name", [])
    resolve(supervisor.names, wanted or ["*"])
    after, count = _number(call.query, "after", None), _number(call.query, "n", None)
    bounds = None if after is None else int(after), None if count is None else max(int(count), 0)
    headers = {LATEST: str(supervisor.journal.latest)}
    body = follow(supervisor, wanted, *bounds) if _flag(call.query, "follow") else recent(supervisor, wanted, *bounds)
    return Response(body, media=routes.NDJSON, headers=headers)


async def _logs(call: Call) -> Response:
    from supervisor.control.loglines import follow, recent
    from supervisor.output.ring import real_time

    supervisor = _supervisor(call)
    wanted = call.query.get("name") or ["*"]
    names = resolve(supervisor.names, wanted)
    count = _number(call.query, "n", None)
    since, pid = _number(call.query, "since", None), _number(call.query, "pid", None)
    limit = None if count is None else max(int(count), 0)
    headers = {BEGAN: repr(real_time())}
    if _flag(call.query, "follow"):
        lines = follow(supervisor, names, limit, since, wanted, None if pid is None else int(pid))
        return Response(lines, media=routes.NDJSON, headers=headers)
    found = b"".join(msgspec.json.encode(line) + b"\n" for line in recent(supervisor, names, limit, since))
    return Response(found, media=routes.NDJSON, headers=headers)


def _number(query: Mapping[str, list[str]], name: str, default: float | None) -> float | None:
    if name not in query:
        return default
    try:
        value = float(query[name][-1])
        if value == value and abs(value) != float("inf"):
            return value
    except ValueError:
        pass
    raise ControlError(
        f'cannot read the parameter "{name}": "{query[name][-1]}" is not a number', status=400, kind="bad-request"
    )


def _flag(query: Mapping[str, list[str]], name: str) -> bool:
    return query.get(name, ["false"])[-1].lower() in ("", "1", "true", "yes", "on")


Operation = Callable[[Call], Awaitable[Response]]

OPERATIONS: Mapping[str, Operation] = {
    "status": _status,
    "processes": _processes,
    "process": _process,
    **{verb: _action(verb) for verb in ("start", "stop", "restart", "signal", "reload", "rotate")},
    **{f"{verb}One": _action(verb) for verb in ("start", "stop", "restart", "signal", "reload", "rotate")},
    "scale": _scale,
    **dict.fromkeys(("wait", "waitOne"), _wait),
    **dict.fromkeys(("exec", "execOne"), _exec),
    "terminal": _terminal,
    "attach": _attach,
    "events": _events,
    "logs": _logs,
    "boot": _boot,
    "power": _power,
    "reloadFile": _reload,
    "reexec": _reexec,
    "version": _version,
    "health": _health,
    "openapi": _openapi,
    "metrics": _metrics,
    "figures": _figures,
}
"""By the operation of a route; a test holds the two together."""
