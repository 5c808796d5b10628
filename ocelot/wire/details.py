"""What ``ocelotctl status NAME`` shows beyond the table: why, how it came here, what it needs, its probes, what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ocelot.wire.graph import demand
from ocelot.wire.tables import span


def details_page(processes: Sequence[Mapping[str, Any]]) -> str:
    """The details of all of them, each below its name; empty if there are none."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    pages = [(process["name"], [*facts(process, now=now), *health_lines(process)]) for process in processes]
    return "".join(f"\n{name}\n" + "".join(f"  {line}\n" for line in lines) for name, lines in pages if lines)


def facts(process: Mapping[str, Any], *, now: float) -> Iterator[str]:
    """A line each for why it is as it is, what it depends on, its schedule, its restarts and its last end, if there are any."""
    if process["reason"] and not process["ready"]:  # whole here: in the table it may be cut
        yield f"why: {process['reason']}"
    if process["state"] == "fatal":
        yield f"to try again: ocelotctl start {process['name']}"
    for need in process["dependsOn"]:
        yield f"depends on {need['name']} ({demand(need)})"
    schedule = process["schedule"]
    if schedule is not None:
        coming = schedule["nextRun"]
        following = f"next in {span(coming - now)}" if coming is not None else "no next run"
        skipped = f", {schedule['skipped']} skipped" if schedule["skipped"] else ""
        yield f"schedule {schedule['when']}: {following}{skipped}{', one queued' if schedule['queued'] else ''}"
    if process["restartsByCause"]:
        yield "restarts: " + ", ".join(f"{n} for {cause}" for cause, n in sorted(process["restartsByCause"].items()))
    for stream in process.get("output", ()):
        dropped = f"{stream['dropped']} bytes were dropped" if stream["dropped"] else "nothing was dropped yet"
        problem = f", and it cannot be written now: {stream['problem']}" if stream["problem"] else ""
        yield f"{stream['stream']}: {dropped}{problem}"
    last = process["lastExit"]
    if last is not None:
        how = last["detail"] if last["detail"] and last["cause"] != "spawn-failed" else f"status {last['status']}"
        yield f"last end: {how} ({last['cause']}), {span(now - last['at'])} ago"


def health_lines(process: Mapping[str, Any], *, now: float | None = None) -> list[str]:
    """A line for each probe and for notifications, as JSON gives them; none for a process without. ``now``: since the epoch."""
    health = process.get("health")
    if not health:
        return []
    at = time.clock_gettime(time.CLOCK_REALTIME) if now is None else now
    lines = [_probe(probe, at) for probe in health["probes"]]
    if health["notify"] is not None:
        lines.append(_notify(health["notify"]))
    return lines


def _probe(probe: Mapping[str, Any], now: float) -> str:
    start = f"{probe['role']} ({probe['type']})"
    if probe["ok"] is None:
        return f"{start}: no result yet"
    when = f"{span(max(0.0, now - probe['at']))} ago, took {span(probe['latency'])}"
    row = probe["successes"] if probe["ok"] else probe["failures"]
    verdict = f"{'good' if probe['ok'] else 'bad'}, {row} in a row"
    missed = f"; {probe['misses']} of {probe['runs']} were bad" if probe["misses"] else ""
    output = f": {probe['output']}" if probe["output"] else ""
    return f"{start}: {verdict}, {when}{output}{missed}"


def _notify(notify: Mapping[str, Any]) -> str:
    parts = [notify["state"]]
    if notify["mainPid"] is not None:
        parts.append(f"main pid {notify['mainPid']}")
    if notify["errno"] is not None:
        parts.append(f"errno {notify['errno']}")
    if notify["watchdog"] is not None:
        since = f", last sign {span(notify['pinged'])} ago" if notify["pinged"] is not None else ""
        parts.append(f"watchdog {span(notify['watchdog'])}{since}")
    text = f': "{notify["text"]}"' if notify["text"] else ""
    return f"notify: {', '.join(parts)}{text}"
