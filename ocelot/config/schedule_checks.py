"""What the keys of a schedule mean together."""

from __future__ import annotations

from ocelot.config import structs
from ocelot.config.findings import Path, quoted
from ocelot.config.places import Places
from ocelot.config.program_checks import check_time

_FOR_EVER = (structs.RestartType.ALWAYS, structs.RestartType.UNLESS_STOPPED)


def check_schedule(process: structs.Process, path: Path, places: Places) -> None:
    schedule, here = process.schedule, (*path, "schedule")
    if schedule is None:
        return
    if schedule.every is not None and schedule.cron is not None:
        places.error((*here, "cron"), 'cannot be used together with "every"', "remove one of them")
    elif schedule.every is None and schedule.cron is None and not places.broken(here):
        places.error(here, "says nothing", 'write `every: 10m` or `cron: "*/5 * * * *"`')
    check_time(schedule.every, (*here, "every"), places)
    if schedule.cron is not None:
        _cron(schedule.cron, (*here, "cron"), places)
    if schedule.timezone is not None:
        if schedule.cron is None:
            places.warn((*here, "timezone"), "has no effect without `cron`", "remove it")
        _timezone(schedule.timezone, (*here, "timezone"), places)
    if process.essential:
        places.error(
            (*path, "essential"), "a scheduled process cannot be essential: it ends again and again", "remove it"
        )
    if process.restart_policy.type in _FOR_EVER and process.type == "service":
        message = f"a run that is restarted {process.restart_policy.type.value} never ends"
        places.warn((*path, "restartPolicy", "type"), message, "write OnFailure or Never, or `type: oneshot`")


def _cron(text: str, path: Path, places: Places) -> None:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        hint = "install it (the extra is `schedule`), or use `every`"
        places.error(path, "needs the package cronsim, which is not installed here", hint)
        return
    from datetime import UTC, datetime

    hint = 'write minute, hour, day of month, month, day of week: "30 4 * * MON"; seconds may stand before them'
    try:
        times = CronSim(text, datetime.now(UTC))
    except CronSimError as error:
        places.error(path, f"{quoted(text)} is not a cron expression: {str(error)[:1].lower()}{str(error)[1:]}", hint)
        return
    if next(times, None) is None:
        places.error(path, f"{quoted(text)} never comes", hint)


def _timezone(name: str, path: Path, places: Places) -> None:
    if name == "UTC":
        return
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        from ocelot.config.findings import suggest

        known = available_timezones()
        meant = suggest(name, sorted(known))
        if known:
            places.error(path, f"there is no time zone {quoted(name)}", f'did you mean "{meant}"?' if meant else "")
        else:
            hint = "the machine that runs it needs the package tzdata"
            places.warn(path, f"cannot tell whether {quoted(name)} is a time zone: there are none here", hint)
