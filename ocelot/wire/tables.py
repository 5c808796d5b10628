"""The tables of ``ocelotctl``: processes and log lines, from plain objects as JSON gives them, fitted to the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Process = Mapping[str, Any]

_COLOURS = {
    "running": "\x1b[32m",
    "starting": "\x1b[36m",
    "waiting": "\x1b[36m",
    "stopping": "\x1b[33m",
    "backoff": "\x1b[33m",
    "fatal": "\x1b[31m",
    "stopped": "\x1b[2m",
    "exited": "\x1b[2m",
}
_NAME_COLOURS = ("\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m")
_HEADS = ("NAME", "STATE", "PID", "UPTIME", "RESTARTS", "LAST EXIT", "WHY")
_SHORTENED = ((6, 28), (0, 16), (5, 9), (6, 3), (0, 4))
"""Which column gives way, and down to which width, where a line is too long: nothing is cut to nothing while another is wide."""


def state_colour(state: str) -> str:
    """The terminal's sequence for the colour of a state; empty if it has none."""
    return _COLOURS.get(state, "")


def is_up(process: Process) -> bool:
    """Running, or done with success, if it is a oneshot or has a schedule; or waiting for the time of its first run."""
    scheduled = process.get("schedule") is not None and process["goal"] == "up"
    if scheduled and process["state"] == "waiting" and process["nextStartIn"] is not None:
        return True
    if process["state"] == "exited" and (process["type"] == "oneshot" or scheduled):
        last = process["lastExit"]
        return last is None or (last["status"] == 0 if scheduled else not process.get("failed", last["status"] != 0))
    return bool(process["state"] == "running")


def machine_line(status: Mapping[str, Any], *, colour: bool = False) -> str:
    """The line above the table: which machine, how it is, and what runs it."""
    phase = status["phase"]
    if colour and phase == "failed":
        phase = f"\x1b[31m{phase}\x1b[0m"
    return (
        f"{status['hostname']}: {phase}, up {span(status['uptime'])}, "
        f"ocelot {status['version']} as pid {status['pid']} ({status['identity']})"
    )


def status_page(status: Mapping[str, Any], *, width: int | None, colour: bool = False) -> str:
    """The whole of ``ocelotctl status``: the machine, and the table of its processes."""
    lines = [machine_line(status, colour=colour)]
    if status["processes"]:
        lines += ["", *process_table(status["processes"], width=width, colour=colour)]
    return "\n".join(lines) + "\n"


def process_table(processes: Sequence[Process], *, width: int | None, colour: bool = False) -> list[str]:
    """A head and one line a process; nothing for none. What does not fit ``width`` is shortened: why, the name, the last exit."""
    if not processes:
        return []
    rows = [_row(process) for process in processes]
    widths = [max(len(head), *(len(row[i]) for row in rows)) for i, head in enumerate(_HEADS)]
    if not any(row[6] for row in rows):
        widths[6] = 0
    if width is not None:
        for column, least in _SHORTENED:
            excess = sum(widths) + 2 * (len(widths) - 1) - width
            if excess > 0 and widths[column] > least:
                widths[column] = max(least, widths[column] - excess)
    lines = [_line(_HEADS, widths)]
    for process, row in zip(processes, rows, strict=True):
        line = _line(row, widths)
        tint = _COLOURS.get(process["state"], "")
        if colour and tint:
            start = widths[0] + 2
            end = start + len(row[1])
            line = f"{line[:start]}{tint}{line[start:end]}\x1b[0m{line[end:]}"
        lines.append(line)
    return lines


def _row(process: Process) -> tuple[str, ...]:
    state = process["state"]
    if state == "running" and not process["ready"]:
        state = "running (not ready)"
    elif state == "running" and _is_reloading(process):
        state = "running (reloading)"
    why = process["reason"] or ""
    if process["nextStartIn"] is not None:
        why = why.partition("; starting again in ")[0]  # as it was decided; now it is less
        why = f"starts in {span(process['nextStartIn'])}" + (f"; {why}" if why else "")
    return (
        process["name"],
        state,
        str(process["pid"] or "-"),
        span(process["uptime"]) if process["uptime"] is not None else "-",
        str(process["restarts"]),
        _exit(process["lastExit"]),
        why.replace("\n", " "),
    )


def _is_reloading(process: Process) -> bool:
    notify = (process.get("health") or {}).get("notify")
    return notify is not None and notify["state"] == "reloading"


def _exit(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "-"
    if last["cause"] == "spawn-failed":
        return "spawn-failed"  # what was missing stands in the last column
    how = last["signal"] or (f"status {last['code']}" if last["code"] is not None else last["detail"] or "failed")
    return how if last["cause"] in ("exit", "signal") else f"{how} ({last['cause']})"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_fit(cell, width) for cell, width in zip(cells, widths, strict=True) if width).rstrip()


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def span(seconds: float) -> str:
    """A time in at most two units: ``850ms``, ``42s``, ``5m 12s``, ``3d 4h``."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    whole = int(seconds)
    for unit, size, below, small in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit}" + (f" {rest}{below}" if rest else "")
    return f"{whole}s"


def log_printer(*, plain: bool, only: str | None, colour: bool, raw: bool, tame: bool) -> Callable[[bytes], str]:
    """What turns one NDJSON line of the log into text: ``09:12:33.120 web | text``, with the date if it is not today's.

    The name is left out of lines of the process ``only``. In colours, the bar of standard error is red. ``tame``: what a process
    wrote goes to a terminal, of which it shall change nothing but, with ``colour``, the colours of that line. ``plain``: as it is.
    """
    if raw:
        return lambda line: line.decode("utf-8", "replace")
    import json
    from datetime import datetime

    seen: dict[str, str] = {}
    width = 0
    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)

    def show(line: bytes) -> str:
        nonlocal width
        entry = json.loads(line)
        text: str = entry["text"]
        if plain:
            return text
        if tame:
            text = _tamed(text, colour=colour)
        time = datetime.fromtimestamp(entry["at"])
        at = time.strftime("%H:%M:%S.%f" if time >= midnight else "%Y-%m-%d %H:%M:%S.%f")[:-3]
        name: str = entry["name"]
        width = max(width, min(len(name), 24))
        label, bar = name.ljust(width), "|"
        if colour:
            tint = seen.setdefault(name, _NAME_COLOURS[len(seen) % len(_NAME_COLOURS)])
            label, at = f"{tint}{label}\x1b[0m", f"\x1b[2m{at}\x1b[0m"
            if entry["stream"] == "stderr":
                bar = "\x1b[31m|\x1b[0m"
        if name != only:
            return f"{at} {label} {bar} {text}"
        return f"{at} {bar} {text}" if bar != "|" else f"{at} {text}"

    return show


def _tamed(text: str, *, colour: bool) -> str:
    """``text`` with its control characters in caret notation, ``^[`` for an escape. Of the sequences that come with colours (SGR, EL)
    nothing is shown; with ``colour`` the former stay.
    """
    import re

    def shown(found: re.Match[str]) -> str:
        sequence = found[0]
        if len(sequence) > 1:
            return sequence if colour and sequence.endswith("m") else ""
        return f"^{chr(ord(sequence) ^ 64)}" if sequence <= "\x7f" else f"\\x{ord(sequence):02x}"

    tamed = re.sub(r"\x1b\[[0-9;:]*[mK]|[\x00-\x08\x0a-\x1f\x7f-\x9f]", shown, text)
    return f"{tamed}\x1b[0m" if "\x1b" in tamed else tamed


def event_printer(*, colour: bool, raw: bool) -> Callable[[bytes], str]:
    """What turns one line of the events stream into text: ``09:12:33.120 web: starting -> running (why)``."""
    if raw:
        return lambda line: line.decode("utf-8", "replace")
    import json
    from datetime import datetime

    def show(line: bytes) -> str:
        event = json.loads(line)
        if event["kind"] == "gap":
            count = event["missed"]
            return f"[{'some' if count is None else count} events are missing here]"
        at = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S.%f")[:-3]
        state = event["state"]
        if event["before"] == state:  # readiness comes and goes while it runs
            state = f"{state} ({'not ready' if event['event'] == 'unready' else event['event']})"
        if colour:
            at, state = f"\x1b[2m{at}\x1b[0m", f"{_COLOURS.get(event['state'], '')}{state}\x1b[0m"
        return f"{at} {event['name']}: {state}" + (f", {event['reason']}" if event["reason"] else "")

    return show
