"""A changed configuration takes effect: read anew, checked, compared with what runs, and only what is different is touched.

A file with errors changes nothing, nor does one whose listeners cannot be had. What cannot change while ocelot runs (the console,
what was done while booting) is told, and goes on being told until ocelot starts anew.

Entries that are gone are stopped first, dependants before what they depend on; then the new configuration holds; then
what is new is started, and what must be is started again, each when what it depends on has come as far as it needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from ocelot import log
from ocelot.config import structs
from ocelot.config.dependencies import edges
from ocelot.config.loading import Loaded, load_file
from ocelot.errors import ControlError, OcelotError, describe
from ocelot.life import doors
from ocelot.linux.identity import Identity
from ocelot.linux.threads import make_sure_of_room
from ocelot.states import Goal, State
from ocelot.wire.differences import told
from ocelot.wire.protocol import EntryChange, ReloadReply
from supervisor.manager import Supervisor
from supervisor.reload import (
    Processes,
    compare_processes,
    compare_sections,
    processes_of,
    ranks,
    shutdown_timeout_of,
    with_live_sections,
    with_scale,
)
from supervisor.replicas import base_of, instances

if TYPE_CHECKING:
    from ocelot.life.life import Life

READ_TIMEOUT = 30.0
"""Seconds for the file to be read and checked: it may lie on a network file system."""

_RUNS = (State.STARTING.value, State.RUNNING.value)


async def reload(life: Life, file: str | None, *, dry_run: bool = False, keep_scale: bool = False) -> ReloadReply:
    """Let what ``file`` says hold (None: the one that ocelot was started with). Raises ControlError if that cannot be tried.

    ``keep_scale``: entries that were scaled keep their number of replicas.
    """
    if life.supervisor is None or life.phase != "running":
        raise ControlError("cannot reload: nothing is supervised", status=503, kind="not-ready")
    if life.reloading or life.leaving:
        raise ControlError("cannot reload: another reload, or a reexec, is under way", status=409, kind="busy")
    if file is None:
        _refuse_lost(life)
    life.reloading = True
    try:
        return await _reload(life, life.supervisor, file or life.path, dry_run=dry_run, keep_scale=keep_scale)
    finally:
        life.reloading = False


def _refuse_lost(life: Life) -> None:
    if life.who is Identity.MACHINE and not os.path.exists(life.path):
        raise ControlError(
            f'cannot reload: there is no "{life.path}" in this root file system, the machine was booted with another one',
            hint="put the changed file there, or name it with ocelotctl reload --file",
            status=409,
            kind="no-file",
        )


async def reload_by_signal(life: Life) -> None:
    """As :meth:`reload`, and everything is told in the log."""
    try:
        reply = await reload(life, None)
    except ControlError as error:
        log.error(f"{error.message}")
        return
    for line in reply.problems:
        log.error(line)
    for line in told(msgspec.to_builtins(reply)):
        log.info(f"reload: {line}")


async def _reload(life: Life, supervisor: Supervisor, path: str, *, dry_run: bool, keep_scale: bool) -> ReloadReply:
    loaded = await _load(life, path)
    warnings = [finding.located(path) for finding in loaded.warnings]
    problems = [finding.located(path) for finding in loaded.errors]
    config = loaded.config
    if config is None:
        return ReloadReply(file=path, applied=False, problems=problems, warnings=warnings)
    wanted = processes_of(config)
    if wanted is None:
        problem = f"{path}: postSwitch.handoff.mode: it cannot change from supervise while processes run"
        return ReloadReply(file=path, applied=False, problems=[problem], warnings=warnings)
    if keep_scale:
        wanted = with_scale(supervisor.configs, wanted, supervisor.scaled)
    entries = compare_processes(supervisor.configs, wanted, supervisor.scaled)
    sections = compare_sections(life.config, config)
    chosen = _to_restart(supervisor, entries, wanted)
    reply = ReloadReply(
        file=path, applied=not dry_run, warnings=warnings, entries=entries, sections=sections, restarted=chosen
    )
    if not dry_run:
        held = with_live_sections(life.config, config)
        try:
            replacement = doors.prepare(life, held)
        except (ControlError, OSError) as error:
            return ReloadReply(file=path, applied=False, problems=[describe(error)], warnings=warnings)
        _hold(life, held)
        doors.begin(life, replacement)
        try:
            reply.failed = await _apply(supervisor, wanted, entries, chosen)
            if not keep_scale:
                supervisor.scaled.clear()  # all of them are as the file says
        finally:
            doors.finish(replacement)
        again = f", started again: {', '.join(chosen)}" if chosen else ""
        log.info(f"reloaded {path}: entries that differ: {len(entries)}{again}")
    return reply


async def _load(life: Life, path: str) -> Loaded:
    make_sure_of_room()
    with trio.move_on_after(READ_TIMEOUT):
        return await trio.to_thread.run_sync(load_file, path, life.kind, abandon_on_cancel=True)
    raise ControlError(f'cannot reload: "{path}" was not read within {READ_TIMEOUT:g}s', status=504, kind="timeout")


def _hold(life: Life, config: structs.Sections) -> None:
    """The sections beside the processes, of which ``config`` has those that take effect at once."""
    before, life.config = life.config, config
    log.configure(level=life.cmdline.log_level or life.config.log_level)
    assert life.supervisor is not None
    life.supervisor.shutdown_timeout = shutdown_timeout_of(life.config)
    if life.config.hostname not in (None, before.hostname) and life.who is not Identity.PROCESS:
        life.set_hostname()


def _to_restart(supervisor: Supervisor, entries: Sequence[EntryChange], wanted: Processes) -> list[str]:
    """The processes that must be started again: those that are wanted up and run, or have failed for good, and that will be there.

    One that an operator has stopped stays so, unless its policy is Always; that is what UnlessStopped is for.
    """
    changed = {each.name for each in entries if each.change == "changed" and each.effect == "restart"}
    there = {name for base in changed for name in instances(base, wanted[base])}
    found = []
    for name in supervisor.names:
        status = supervisor.status(name)
        base = base_of(name)
        stopped = status.goal != Goal.UP.value
        again = stopped or status.state in _RUNS or status.state == State.FATAL.value
        if name in there and again and not (stopped and supervisor.stays_down(base)):
            found.append(name)
    return found


async def _apply(
    supervisor: Supervisor, wanted: Processes, entries: Sequence[EntryChange], chosen: Sequence[str]
) -> list[str]:
    """Returns what could not be done, in words; everything else is done nevertheless."""
    failed: list[str] = []

    async def remove(name: str) -> None:
        try:
            await supervisor.remove(name)
        except (OcelotError, OSError) as error:
            failed.append(f"{name}: {describe(error)}")

    running = dict(supervisor.configs)
    for rank in ranks((each.name for each in entries if each.change == "removed"), edges(running)):
        async with trio.open_nursery() as nursery:
            for name in rank:
                nursery.start_soon(remove, name)
    for each in entries:
        if each.change == "changed":
            _try(failed, supervisor.replace, each.name, wanted)
    present = [name for name in chosen if name in supervisor.names]
    apart = _in_turn(entries, present, wanted)
    if apart:
        await _stop(supervisor, present)
    for each in entries:
        if each.change == "added":
            _try(failed, supervisor.add, each.name, wanted)
    try:
        await (supervisor.start(present) if apart else supervisor.restart(present))
    except OcelotError as error:
        failed.append(describe(error))
    return failed


def _try(failed: list[str], deed: Callable[[str, structs.Process], None], name: str, wanted: Processes) -> None:
    try:
        deed(name, wanted[name])
    except (OcelotError, OSError) as error:
        failed.append(f"{name}: {describe(error)}")


def _in_turn(entries: Sequence[EntryChange], names: Sequence[str], wanted: Processes) -> bool:
    """Whether all of ``names`` must be down before any of them starts again.

    Where some depend on others, those are stopped before what they depend on; and an address may go from one to another.
    """
    moved = any(field.path.partition(".")[0] == "sockets" for each in entries for field in each.fields)
    return moved or len(ranks({base_of(name) for name in names}, edges(wanted))) > 1


async def _stop(supervisor: Supervisor, names: Sequence[str]) -> None:
    await supervisor.stop(names)
    for name in names:
        await supervisor.down(name)
