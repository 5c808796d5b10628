"""The first part of a life that was given a bootstrap file: from the first mount to the hand-off, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from bootstrap import cmdline, handoff, kernel_filesystems, modules, phases
from bootstrap.timeline import Timeline
from ocelot import __version__, log
from ocelot.config import structs
from ocelot.errors import BootError, OcelotError
from ocelot.life import configuration
from ocelot.life.ending import Ending, chosen_verb
from ocelot.linux import syscalls
from ocelot.linux.identity import Identity

if TYPE_CHECKING:
    from ocelot.life.life import Life

MARKER = "/etc/ocelot/initramfs"
"""Written by the image builder: this root is an initramfs of ours. JSON, with the modules to load first."""


Supervise = Callable[[Mapping[str, structs.Process], float | None], Awaitable[Ending]]
"""Supervises processes until it is over, with ``shutdownTimeout`` if there is one."""


async def boot(life: Life, supervise: Supervise) -> Ending:
    """Everything up to the hand-off, and what is handed off to, until it ends. Raises what goes wrong."""
    timeline = life.begin_timeline()
    life.machine.load_file_system = partial(_load_file_system, life)
    await _prepare_kernel(life, timeline)
    life.cmdline = cmdline.read() if life.who is Identity.MACHINE else cmdline.Cmdline()
    for warning in life.cmdline.warnings:
        log.warn(warning)
    # First of all: a broken file must still be told to the host, and the power button must end a machine that holds.
    await _carry_modules(life, timeline)
    if life.who is Identity.MACHINE:
        life.start_side("the power button", life.watch_power_button)
    with timeline.span("configuration"):
        config = configuration.load(life.path, life.kind)
    assert isinstance(config, structs.Bootstrap)
    life.config = config
    life.open_console(config.console)
    log.configure(level=life.cmdline.log_level or config.log_level)
    life.set_hostname()
    for phase in phases.plan(config, life.cmdline).phases:
        await phases.run_phase(phase, life.machine, timeline)
    return await _hand_off(life, supervise, config.post_switch.handoff, timeline)


async def _prepare_kernel(life: Life, timeline: Timeline) -> None:
    """The kernel's file systems, and the first words on the console and in the kernel log."""
    group = phases.Group("fileSystems", kernel_filesystems.steps())
    await phases.run_phase(phases.PlannedPhase("kernel", (group,)), life.machine, timeline)
    if life.who is Identity.MACHINE:
        with suppress(OSError):
            syscalls.reboot(syscalls.RB_DISABLE_CAD)  # Ctrl-Alt-Del becomes SIGINT for us
    life.open_console("console")
    log.info(f"ocelot {__version__} as {life.who.value}")


async def _carry_modules(life: Life, timeline: Timeline) -> None:
    """The modules that the image builder put in for ocelot's own needs."""
    marker = _read_marker()
    life.carried = marker.file_systems
    group = phases.Group("modules", modules.plan_carried(marker.modules, life.cmdline.module_parameters()))
    await phases.run_phase(phases.PlannedPhase("carried", (group,)), life.machine, timeline)


async def _load_file_system(life: Life, fstype: str) -> None:
    """Before ``fstype`` is first mounted: the modules that it needs, if the initramfs carries some."""
    for step in modules.plan_carried(life.carried.pop(fstype, ()), life.cmdline.module_parameters()):
        await step.apply(life.machine)


async def _hand_off(life: Life, supervise: Supervise, wanted: structs.Handoff | None, timeline: Timeline) -> Ending:
    if wanted is None:
        raise BootError(
            "cannot hand off: the file has no postSwitch.handoff",
            hint="add postSwitch.handoff with mode supervise, shell or exec",
            phase="postSwitch.handoff",
        )
    script = phases.Group("bootScript", handoff.plan_handoff(wanted))
    await phases.run_phase(phases.PlannedPhase("handoff", (script,)), life.machine, timeline)
    match wanted:
        case structs.Supervise():
            return await supervise(wanted.processes, wanted.shutdown_timeout)
        case structs.Shell():
            life.finish_boot()
            with _errors_of_the_hand_off():
                status = await handoff.shell(wanted, life.machine, life.tty())
            return Ending(status.shell_status, f"the shell {status}", verb=chosen_verb(life))
        case structs.Exec():
            with _errors_of_the_hand_off():
                handoff.plan_exec(wanted, life.machine, life.inherited)
            life.finish_boot()
            return Ending(0, f"became {wanted.program}", program=wanted)


@contextmanager
def _errors_of_the_hand_off() -> Iterator[None]:
    """Errors that do not know where in the boot they happened are told."""
    try:
        yield
    except BootError:
        raise
    except OcelotError as error:
        raise BootError(error.message, hint=error.hint, phase="postSwitch.handoff") from error


class _Marker(msgspec.Struct, rename="camel"):
    """What the image builder tells us: modules to load first, and for a file system's type the modules it needs."""

    modules: tuple[str, ...] = ()
    file_systems: dict[str, tuple[str, ...]] = {}


def _read_marker() -> _Marker:
    try:
        with open(MARKER, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Marker)
    except OSError:
        return _Marker()
