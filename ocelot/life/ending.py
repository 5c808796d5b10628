"""How a life as PID 1 ends: what goes down after the processes, what the host is told, and what comes next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootstrap import host, shutdown
from ocelot import log
from ocelot.config import structs
from ocelot.errors import describe, refused
from ocelot.linux.identity import Identity
from ocelot.states import PowerVerb
from ocelot.wire.protocol import ExitReport

if TYPE_CHECKING:
    from ocelot.life.life import Life


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended and what comes next. ``status`` is reported to the host; ``verb`` is for machines.

    ``program`` set: the process is to become that program (the exec hand-off).
    """

    status: int
    reason: str
    process: str | None = None
    verb: PowerVerb = PowerVerb.POWEROFF
    phase: str = "running"
    hint: str = ""
    program: structs.Exec | None = None


async def go_down(life: Life, ending: Ending) -> None:
    """After the processes: everything else, the file systems, and the last words to the host and on the console."""
    failed = life.phase == "failed"
    if not failed or life.who is Identity.MACHINE:  # else it has just been told, and nothing else ends
        log.info(f"going down: {ending.reason}")
    life.phase = "shutdown"
    if life.who is Identity.MACHINE:
        shutdown.power_in_any_case(ending.verb, life.config.shutdown.timeout + shutdown.PATIENCE)
        await report(life, ending)
    try:
        await _end_others(life, failed)
    except Exception as error:
        if not refused(error):
            raise
        log.error(f"going down: {describe(error)}")  # and down it goes
    if life.who is Identity.MACHINE:
        if ending.verb is PowerVerb.REBOOT and life.verb is not PowerVerb.REBOOT and not shutdown.can_power_off():
            log.info(
                "this machine cannot cut its own power (it has no ACPI): it is reset instead, as shutdown.action says"
            )
        log.info(host.console_line(_report_of(life, ending)))
    life.stdout.flush(1.0)
    life.stderr.flush(1.0)


async def _end_others(life: Life, failed: bool) -> None:
    timeout = life.config.shutdown.timeout
    if life.who is Identity.MACHINE:
        await shutdown.go_down(timeout, hurried=life.hurried.is_set)
    elif life.who is Identity.CONTAINER:
        await shutdown.end_others(timeout, hurried=life.hurried.is_set)
    elif failed:  # perhaps the supervisor itself, and nobody else would; else only sessions are left, which end with us
        await life.reaper.end_all(timeout * shutdown.TERM_SHARE)


async def report(life: Life, ending: Ending) -> None:
    """Tell the host over the exit port, if the machine has one. Does not raise."""
    await host.send(_report_of(life, ending), life.config.host.exit_port)


def _report_of(life: Life, ending: Ending) -> ExitReport:
    return ExitReport(
        status=ending.status,
        reason=ending.reason,
        verb=ending.verb.value,
        process=ending.process,
        phase=ending.phase,
        hint=ending.hint,
        uptime=round(time.monotonic() - life.born, 3),
    )


def chosen_verb(life: Life) -> PowerVerb:
    """What the machine is to do: what somebody asked for, else ``shutdown.action``."""
    action = life.config.shutdown.action
    if action == "auto" and life.verb in (None, PowerVerb.POWEROFF):
        return shutdown.automatic_verb()
    return life.verb or PowerVerb(action)


def only_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in a group of one, else the group."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner
