"""The phases of a boot: what is done in which order, and what a failure does.

``PHASES`` and ``KEYS`` are the order, read top to bottom. Planning is pure: it turns the configuration into frozen
steps that describe themselves, so that ``plan FILE`` prints exactly what ``run`` would do. Steps run one after the
other. Most of them wait for nothing but the kernel, and an order that never varies is worth more than what running
some of them side by side would save.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

import trio

from bootstrap import hooks, mount_errors, mounts, network, switch_root, symlinks, sysctl, tmpfiles, trial
from bootstrap.cmdline import Cmdline, parse
from bootstrap.environment import plan_environment
from bootstrap.guards import MACHINE, Check, Guards
from bootstrap.modules import SetModprobe, plan_modules
from bootstrap.steps import SYSROOT, Machine, Step
from bootstrap.timeline import Timeline
from ocelot import log
from ocelot.config.structs import Bootstrap, NfsMount, OnFailure, Phase
from ocelot.config.values import format_duration
from ocelot.errors import BootError, OcelotError, describe
from ocelot.linux import resolver
from ocelot.wire.protocol import Span

RETRY_FOR = 30.0
"""Seconds for which a step with ``Retry`` and no timeout is tried."""
FIRST_DELAY, LAST_DELAY = 0.25, 8.0
WAITED = "{:.3f} s of it waiting for the device"
"""What the timeline says of a step that had to wait."""
GRACE = 3.0
"""Seconds beyond its timeout that a step has for ending itself, with a better message than the runner could give."""


@dataclass(frozen=True, slots=True)
class Group:
    """The steps that one key of the file (or one part of the switch) stands for, in order."""

    key: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    name: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a boot will do before the hand-off."""

    pre_switch: PlannedPhase
    switch_root: PlannedPhase
    post_switch: PlannedPhase

    @property
    def phases(self) -> tuple[PlannedPhase, ...]:
        return (self.pre_switch, self.switch_root, self.post_switch)

    def describe(self) -> str:
        """The plan for people: one line a step, with what its failure does."""
        lines = []
        for phase in self.phases:
            lines.append(f"{phase.name}:" if any(group.steps for group in phase.groups) else f"{phase.name}: nothing")
            for group in phase.groups:
                if group.steps:
                    lines.append(f"  {group.key}:")
                lines += [f"    - {with_policy(step)}" for step in group.steps]
        return "\n".join(lines) + "\n"


Planner = Callable[[Bootstrap, Phase, Cmdline, bool], tuple[Step, ...]]
"""From the file, one of its phases, the kernel command line, and whether this is preSwitch, to steps."""


def _environment(_config: Bootstrap, phase: Phase, _cmdline: Cmdline, _first: bool) -> tuple[Step, ...]:
    return plan_environment(phase.environment)


def _modules(config: Bootstrap, phase: Phase, cmdline: Cmdline, first: bool) -> tuple[Step, ...]:
    root = config.switch_root.root_file_system if first and config.switch_root is not None else None
    return plan_modules(phase.modules, root=root, cmdline=cmdline.module_parameters(), after_switch=not first)


def _sysctl(_config: Bootstrap, phase: Phase, _cmdline: Cmdline, _first: bool) -> tuple[Step, ...]:
    return sysctl.plan_sysctl(phase.sysctl)


def _network(config: Bootstrap, phase: Phase, cmdline: Cmdline, first: bool) -> tuple[Step, ...]:
    if not first:
        return ()
    root = config.switch_root.root_file_system if config.switch_root is not None else None
    needed = isinstance(root, NfsMount) and not phase.hooks  # which can bring it up as well
    return network.plan_network(cmdline.value("ip"), set_hostname=config.hostname is None, needed=needed)


def _mounts(_config: Bootstrap, phase: Phase, _cmdline: Cmdline, _first: bool) -> tuple[Step, ...]:
    return mounts.plan_mounts(phase.mounts, resolve=resolver.resolve)


def _tmpfiles(_config: Bootstrap, phase: Phase, _cmdline: Cmdline, _first: bool) -> tuple[Step, ...]:
    return tmpfiles.plan_tmpfiles(phase.tmpfiles)


def _symlinks(_config: Bootstrap, phase: Phase, _cmdline: Cmdline, _first: bool) -> tuple[Step, ...]:
    return symlinks.plan_symlinks(phase.symlinks)


def _hooks(_config: Bootstrap, phase: Phase, _cmdline: Cmdline, _first: bool) -> tuple[Step, ...]:
    return hooks.plan_hooks(phase.hooks)


KEYS: tuple[tuple[str, Planner], ...] = (
    ("environment", _environment),
    ("modules", _modules),
    ("sysctl", _sysctl),
    ("network", _network),
    ("mounts", _mounts),
    ("tmpfiles", _tmpfiles),
    ("symlinks", _symlinks),
    ("hooks", _hooks),
)
"""The order inside preSwitch and postSwitch."""


def _pre_switch(config: Bootstrap, cmdline: Cmdline, guards: Guards) -> PlannedPhase:
    phase = config.pre_switch
    # What would refuse the switch refuses here, before anything is changed.
    check: tuple[Step, ...] = () if config.switch_root is None else (Check(guards),)
    groups = (Group(key, make(config, phase, cmdline, True)) for key, make in KEYS)
    return PlannedPhase("preSwitch", (Group("check", check), *groups))


def _switch_root(config: Bootstrap, _cmdline: Cmdline, guards: Guards) -> PlannedPhase:
    if config.switch_root is None:
        return PlannedPhase("switchRoot", (Group("switch", (switch_root.ShareRoot(),)),))
    root = config.switch_root.root_file_system
    keep_modules = config.post_switch.modules is not None or bool(config.post_switch.mounts)
    switch: Step = switch_root.Switch(SYSROOT, mounts.paths_in_use(root), keep_modules, guards)
    return PlannedPhase(
        "switchRoot",
        (
            Group("rootFileSystem", trial.plan_root(root, mounts.plan_root(root, SYSROOT, resolve=resolver.resolve))),
            Group("switch", (switch, SetModprobe())),
        ),
    )


def _post_switch(config: Bootstrap, cmdline: Cmdline, _guards: Guards) -> PlannedPhase:
    phase = config.post_switch
    return PlannedPhase("postSwitch", tuple(Group(key, make(config, phase, cmdline, False)) for key, make in KEYS))


PHASES = (_pre_switch, _switch_root, _post_switch)
"""A boot, read from top to bottom."""


def plan(config: Bootstrap, cmdline: Cmdline | str = "", *, guards: Guards = MACHINE) -> Plan:
    """What booting ``config`` means, with a kernel command line. Pure: the machine and its files are not looked at.

    ``guards``: what must hold before the root is switched; the default is right for every real boot.
    """
    words = parse(cmdline) if isinstance(cmdline, str) else cmdline
    return Plan(*(make(config, words, guards) for make in PHASES))


async def run_phase(phase: PlannedPhase, machine: Machine, timeline: Timeline) -> None:
    """Do the steps of a phase. Raises BootError, with the phase and the key, when a failure means Abort."""
    if not any(group.steps for group in phase.groups):
        return
    with timeline.span(phase.name):
        for group in phase.groups:
            if group.steps:
                await _run_group(group, phase.name, machine, timeline)


async def _run_group(group: Group, parent: str, machine: Machine, timeline: Timeline) -> None:
    path = f"{parent}.{group.key}"
    with timeline.span(group.key, phase=parent):
        for step in group.steps:
            with timeline.span(step.name, phase=path) as span:
                await _run_step(step, path, machine, span)


async def _run_step(step: Step, path: str, machine: Machine, span: Span) -> None:
    log.debug(f"{path}: {step.describe()}")
    before = machine.waited
    try:
        await (_retry(step, path, machine) if step.on_failure is OnFailure.RETRY else attempt(step, machine))
    except Exception as error:  # a mistake of ours in one step must not end what its policy lets go on
        told = explain(step, error)
        span.detail = describe(told)
        if step.on_failure is OnFailure.WARN:
            span.outcome = "warned"
            machine.warn(f"{path}: {span.detail}; going on, since its onFailure is Warn")
            return
        span.outcome = "failed"
        raise BootError(told.message, hint=told.hint, phase=path) from error
    if machine.waited > before:
        span.detail = WAITED.format(machine.waited - before)


def explain(step: Step, error: Exception) -> OcelotError:
    """What a step raised, in words that say which step it was: the kernel's own name some part of a path at best."""
    if isinstance(error, OcelotError):
        return error
    hint = mount_errors.TO_WRITE if isinstance(error, OSError) and error.errno == errno.EROFS else ""
    return OcelotError(f'cannot complete "{step.name}": {describe(error)}', hint=hint)


async def attempt(step: Step, machine: Machine, *, limit: float | None = None) -> None:
    """Do a step once, within its timeout. Raises OcelotError or OSError."""
    timeout = step.timeout if limit is None else limit
    if timeout is None:
        await step.apply(machine)
        return
    with trio.move_on_after(timeout + GRACE) as scope:
        await step.apply(machine)
    if scope.cancelled_caught:
        raise OcelotError(f'cannot complete "{step.name}": it is not done after {format_duration(timeout)}')


async def _retry(step: Step, path: str, machine: Machine) -> None:
    """Again and again with a growing delay, until it works or its time is over; then the last error goes up."""
    timeout = step.timeout if step.timeout is not None else RETRY_FOR
    end = trio.current_time() + timeout
    delay = FIRST_DELAY
    tries = 0
    while True:
        tries += 1
        try:
            await attempt(step, machine, limit=max(end - trio.current_time(), 0.0))
            return
        except (OcelotError, OSError) as error:
            if trio.current_time() + delay >= end:
                machine.warn(f"{path}: giving up on {step.name} after {tries} tries in {format_duration(timeout)}")
                raise
            machine.warn(f"{path}: {describe(explain(step, error))}; trying again in {format_duration(delay)}")
        await trio.sleep(delay)
        delay = min(delay * 2, LAST_DELAY)


def with_policy(step: Step) -> str:
    """One line for people: the step, and what its failure does."""
    return f"{step.describe()}  [{_policy(step)}]"


def _policy(step: Step) -> str:
    text = step.on_failure.value
    if step.on_failure is OnFailure.RETRY:
        limit = step.timeout if step.timeout is not None else RETRY_FOR
        return f"{text} for {format_duration(limit)}, then Abort"
    return text
