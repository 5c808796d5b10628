"""Every endpoint of the control socket in one table: the server dispatches on it, the OpenAPI document is made from it.

A route without a role answers whoever could open the socket; the others ask for at least that role.
"""

from dataclasses import dataclass
from typing import Any

from ocelot.wire import protocol
from ocelot.wire.protocol import API, Role

JSON = "application/json"
NDJSON = "application/x-ndjson"
SVG = "image/svg+xml"
TEXT = "text/plain; charset=utf-8"
TEXT_METRICS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True)
class Query:
    """One query parameter. ``type`` is its JSON Schema type; ``many``: it may be given more than once."""

    name: str
    type: str
    summary: str
    many: bool = False


@dataclass(frozen=True)
class Route:
    """One endpoint. ``segments`` are the parts of the path; one in braces takes any text and is handed on by name."""

    operation: str
    method: str
    path: str
    role: Role | None
    summary: str
    reply: Any = None
    request: Any = None
    query: tuple[Query, ...] = ()
    status: int = 200
    media: tuple[str, ...] = (JSON,)

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/"))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The variables of the path if ``segments`` fit this route, else None."""
        own = self.segments
        if len(own) != len(segments):
            return None
        variables = {}
        for mine, theirs in zip(own, segments, strict=True):
            if mine.startswith("{"):
                variables[mine[1:-1]] = theirs
            elif mine != theirs:
                return None
        return variables


def _action(verb: str, summary: str) -> tuple[Route, Route]:
    reply, request = protocol.ActionReply, protocol.ActionRequest
    return (
        Route(verb, "POST", f"{API}/processes/{verb}", Role.OPERATE, f"{summary} several processes.", reply, request),
        Route(
            f"{verb}One",
            "POST",
            f"{API}/processes/{{name}}/{verb}",
            Role.OPERATE,
            f"{summary} one process, or all that a glob pattern names.",
            reply,
            request,
        ),
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "status",
        "GET",
        f"{API}/status",
        Role.READ,
        "The machine and its processes; a table as text/plain, whose header ocelot-all-up says whether all of them are.",
        protocol.Status,
        query=(
            Query("name", "string", "Only processes of this name or glob pattern.", many=True),
            Query("columns", "integer", "The width of the table; without it, as wide as it needs."),
            Query("colour", "boolean", "A table with colours, for terminals."),
        ),
        media=(JSON, TEXT),
    ),
    Route("processes", "GET", f"{API}/processes", Role.READ, "Every process.", protocol.ProcessList),
    Route("process", "GET", f"{API}/processes/{{name}}", Role.READ, "One process.", protocol.ProcessStatus),
    *_action("start", "Start"),
    *_action("stop", "Stop"),
    *_action("restart", "Restart"),
    *_action("signal", "Send a signal to"),
    *_action("reload", "Send the reloadSignal to"),
    *_action("rotate", "Rotate the log files of, or open those without rotation anew,"),
    Route(
        "scale",
        "POST",
        f"{API}/processes/{{name}}/scale",
        Role.OPERATE,
        "Start or stop replicas until there are so many.",
        protocol.ActionReply,
        protocol.ScaleRequest,
    ),
    Route(
        "wait",
        "POST",
        f"{API}/processes/wait",
        Role.READ,
        "Wait until several processes are ready, or have ended.",
        protocol.ActionReply,
        protocol.WaitRequest,
    ),
    Route(
        "waitOne",
        "POST",
        f"{API}/processes/{{name}}/wait",
        Role.READ,
        "Wait until one process is ready, or has ended.",
        protocol.ActionReply,
        protocol.WaitRequest,
    ),
    Route(
        "events",
        "GET",
        f"{API}/events",
        Role.READ,
        "The last changes of state, one JSON object a line.",
        protocol.StateChange | protocol.Gap,
        query=(
            Query("name", "string", "A process name or glob pattern; without any: all.", many=True),
            Query("after", "integer", "Only changes with a higher number; what is missing is told as a gap."),
            Query("n", "integer", "At most so many of the last changes."),
            Query("follow", "boolean", "Go on with new changes until the client closes the connection."),
        ),
        media=(NDJSON,),
    ),
    Route(
        "exec",
        "POST",
        f"{API}/exec",
        Role.ADMIN,
        "Run a command on this machine: what follows the upgrade is one JSON object a line, each way.",
        protocol.SessionStarted | protocol.SessionEnded,
        protocol.SessionRequest,
        status=101,
        media=(NDJSON,),
    ),
    Route(
        "execOne",
        "POST",
        f"{API}/processes/{{name}}/exec",
        Role.ADMIN,
        "Run a command beside a process, with its environment, user and cgroup.",
        protocol.SessionStarted | protocol.SessionEnded,
        protocol.SessionRequest,
        status=101,
        media=(NDJSON,),
    ),
    Route(
        "terminal",
        "GET",
        f"{API}/processes/{{name}}/terminal",
        Role.READ,
        "What a process writes to its terminal, until it ends.",
        protocol.TerminalAttached | protocol.TerminalWritten | protocol.SessionEnded,
        query=(
            Query("lines", "integer", "Begin with so many of the last lines (10)."),
            Query("after", "integer", "Go on from this place in the output."),
            Query("pid", "integer", "Of this process, and no later start of it."),
        ),
        media=(NDJSON,),
    ),
    Route(
        "attach",
        "POST",
        f"{API}/processes/{{name}}/terminal",
        Role.ADMIN,  # as exec: whoever may type into a shell may do what its user may
        "Type into the terminal of a process and see what it writes: after the upgrade, one JSON object a line, each way.",
        protocol.TerminalAttached | protocol.TerminalWritten | protocol.SessionEnded,
        protocol.TerminalRequest,
        status=101,
        media=(NDJSON,),
    ),
    Route(
        "logs",
        "GET",
        f"{API}/logs",
        Role.READ,
        "What processes wrote lately, merged by time, one JSON object a line.",
        protocol.LogLine,
        query=(
            Query("name", "string", "A process name or glob pattern; without any: all.", many=True),
            Query("n", "integer", "At most so many of the last lines."),
            Query("since", "number", "Only lines written after this time, in seconds since the epoch."),
            Query("follow", "boolean", "Go on with new lines until the client closes the connection."),
            Query(
                "pid",
                "integer",
                "With follow: only until the process with this pid has ended; 0: until the one that is alive has.",
            ),
        ),
        media=(NDJSON,),
    ),
    Route(
        "boot",
        "GET",
        f"{API}/boot",
        Role.READ,
        "The boot timeline; a table as text/plain, a picture as image/svg+xml.",
        protocol.BootTimeline,
        media=(JSON, TEXT, SVG),
    ),
    Route(
        "power",
        "POST",
        f"{API}/power/{{verb}}",
        Role.ADMIN,
        "End the machine in order: poweroff, reboot or halt.",
        protocol.PowerReply,
        status=202,
    ),
    Route(
        "reloadFile",
        "POST",
        f"{API}/reload",
        Role.ADMIN,
        "Read the configuration file anew and apply what is different in it, or only tell it.",
        protocol.ReloadReply,
        protocol.ReloadRequest,
    ),
    Route(
        "reexec",
        "POST",
        f"{API}/reexec",
        Role.ADMIN,
        "Replace ocelot itself by a newer one: every process, log, socket and counter stays.",
        protocol.ReexecReply,
        protocol.ReexecRequest,
    ),
    Route("version", "GET", f"{API}/version", None, "Who answers here.", protocol.Version),
    Route(
        "health",
        "GET",
        f"{API}/health",
        None,
        "Whether all is well: 200, or 503 when a process has failed for good.",
        protocol.Health,
    ),
    Route("openapi", "GET", f"{API}/openapi.json", None, "This interface as an OpenAPI 3.1 document."),
    Route(
        "figures",
        "GET",
        f"{API}/figures",
        Role.READ,
        "What running processes use, with their children.",
        protocol.FiguresReply,
        query=(
            Query("name", "string", "Only processes of this name or glob pattern.", many=True),
            Query("pss", "boolean", "Also the proportional set size, which is dear to find."),
        ),
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        Role.READ,
        "Figures for Prometheus; OpenMetrics when the client accepts it.",
        query=(Query("pss", "boolean", "Also the proportional set size, which is dear to find."),),
        media=(TEXT_METRICS, OPENMETRICS),
    ),
)


def find(method: str, path: str) -> tuple[Route | None, dict[str, str], tuple[str, ...]]:
    """The route for a request, its path variables, and the methods that this path knows.

    The path is still percent-encoded as in the request line, so that an encoded slash stays within its segment.
    """
    segments = tuple(_unquote(part) for part in path.strip("/").split("/"))
    methods = []
    for route in ROUTES:
        variables = route.match(segments)
        if variables is None:
            continue
        if route.method == method or (method == "HEAD" and route.method == "GET"):
            return route, variables, ()
        methods.append(route.method)
    return None, {}, tuple(methods)


def _unquote(text: str) -> str:
    """RFC 3986 percent-decoding without urllib, which costs more to import than all of this."""
    if "%" not in text:
        return text
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    parts = [first]
    for piece in rest:
        try:
            parts.append(bytes((int(piece[:2], 16),)) + piece[2:])
        except ValueError:
            parts.append(b"%" + piece)
    return b"".join(parts).decode("utf-8", "replace")


def parse_query(text: str) -> dict[str, list[str]]:
    """The query string as lists by name (application/x-www-form-urlencoded)."""
    query: dict[str, list[str]] = {}
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            query.setdefault(_unquote(name.replace("+", " ")), []).append(_unquote(value.replace("+", " ")))
    return query
