"""The end of the boot: the boot script, then a shell, or another program in our place. (Supervising is PID 1's own life.)"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from typing import NoReturn

from bootstrap import executable
from bootstrap.console import terminal_type
from bootstrap.hooks import RunHook
from bootstrap.phases import with_policy
from bootstrap.steps import RUNTIME, Machine, Step
from ocelot import log
from ocelot.config.structs import BootScript, Exec, Handoff, Hook, OnFailure, Shell
from ocelot.errors import OcelotError, describe
from ocelot.linux import syscalls
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import DEFAULT_PATH, TOOLS, Inherited
from ocelot.states import ExitStatus


def plan_handoff(handoff: Handoff | None) -> tuple[Step, ...]:
    """The steps before the hand-off: the boot script, if there is one. Pure."""
    script = handoff.boot_script if handoff is not None else None
    return (_boot_script(script),) if script is not None else ()


def _boot_script(script: BootScript) -> Step:
    hook = Hook(
        name="boot script",
        command=script.path,
        arguments=script.arguments,
        environment=script.environment,
        working_directory=script.working_directory,
    )
    return RunHook(hook, script.on_failure or OnFailure.WARN, script.timeout)


async def shell(handoff: Shell, machine: Machine, tty: str | None) -> ExitStatus:
    """Run the shell on ``tty`` until it ends. Raises OcelotError (SpawnError among them) when it cannot be started."""
    return await run_shell(handoff.program, handoff.arguments, machine, tty)


async def run_shell(
    program: str, arguments: tuple[str, ...], machine: Machine, tty: str | None, *, timeout: float | None = None
) -> ExitStatus:
    """Run an interactive program with ``tty`` as its controlling terminal, for at most ``timeout`` seconds.

    Raises OcelotError (SpawnError among them) when it cannot be started, trio.TooSlowError after the timeout.
    """
    layers = [{"TERM": terminal_type(tty)}] if tty is not None else []
    environment = Inherited(environment=machine.environment).child_environment(*layers)
    executable.require(executable.find(program, environment))
    if tty is None:
        raise OcelotError(
            f'cannot run "{program}": there is no terminal behind the console',
            hint="give the machine a serial line or a screen, and name it with console= on the kernel command line",
        )
    return await machine.runner.run(
        (program, *arguments), name="shell", environment=environment, timeout=timeout, terminal=tty
    )


def plan_exec(handoff: Exec, machine: Machine, inherited: Inherited) -> tuple[str, dict[str, str]]:
    """The path of the program and its environment, checked. Raises OcelotError while everything still works."""
    environment = {**inherited.environment, **machine.environment}
    environment.setdefault("PATH", DEFAULT_PATH)
    path = ":".join(folder for folder in environment["PATH"].split(":") if folder != TOOLS)
    environment["PATH"] = path or DEFAULT_PATH
    program = executable.find(handoff.program, environment)
    executable.require(program)
    return program, environment


def execute(handoff: Exec, machine: Machine, inherited: Inherited) -> NoReturn:
    """Become the program, with signals, mask, limits and environment as we got them. Raises OcelotError.

    The runtime is unlinked first (on a machine that booted with one), so nothing may be imported afterwards: if execve(2)
    fails even so, what is already loaded has to do.
    """
    program, environment = plan_exec(handoff, machine, inherited)
    argv = (handoff.program, *handoff.arguments)
    encoded = {os.fsencode(key): os.fsencode(value) for key, value in environment.items()}
    release_runtime()
    _restore(inherited)
    try:
        os.execve(program, argv, encoded)
    except OSError as error:
        _let_ctrl_alt_del(syscalls.RB_DISABLE_CAD)  # we still are who it is for
        raise OcelotError(f'cannot execute "{program}": {os.strerror(error.errno or 0)}') from error


def release_runtime(path: str = RUNTIME) -> None:
    """Unlink the runtime that came with the initramfs and take its mount away. Only as the init of a machine."""
    if identity() is not Identity.MACHINE or not os.path.ismount(path):
        return
    _empty(path)
    try:
        syscalls.umount2(path, syscalls.MNT_DETACH)
        os.rmdir(path)
    except OSError as error:
        log.warn(f"cannot take the runtime away: {describe(error)}")
    _empty(TOOLS)
    for folder in (TOOLS, os.path.dirname(TOOLS)):
        with suppress(OSError):  # not empty: something of the root file system lives there
            os.rmdir(folder)


def _empty(folder: str) -> None:
    """Delete what ``folder`` holds, without following links or leaving its file system."""
    with suppress(OSError):
        device = os.lstat(folder).st_dev
        for entry in os.scandir(folder):
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                elif entry.stat(follow_symlinks=False).st_dev == device:
                    _empty(entry.path)
                    os.rmdir(entry.path)


def _restore(inherited: Inherited) -> None:
    """Undo what we changed for ourselves: handlers and ignored signals, limits, Ctrl-Alt-Del, then the mask."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            with suppress(OSError, ValueError):  # the C library keeps two for itself
                signal.signal(number, signal.SIG_DFL)
    for limit, values in inherited.limits.items():
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, values)
    _let_ctrl_alt_del(syscalls.RB_ENABLE_CAD)
    signal.pthread_sigmask(signal.SIG_SETMASK, inherited.mask)


def _let_ctrl_alt_del(command: int) -> None:
    """Let it reboot at once (RB_ENABLE_CAD) or come as SIGINT (RB_DISABLE_CAD), as the init of a machine: reboot(2)."""
    if identity() is Identity.MACHINE:
        with suppress(OSError):
            syscalls.reboot(command)


def describe_handoff(handoff: Handoff | None) -> tuple[str, ...]:
    """Lines for ``plan``: the boot script, if there is one, and what the boot ends in."""
    return (*map(with_policy, plan_handoff(handoff)), _end(handoff))


def _end(handoff: Handoff | None) -> str:
    match handoff:
        case None:
            return "nothing: no handoff is configured"
        case Shell():
            return f"run the shell {_words(handoff.program, handoff.arguments)} on the console, then go down"
        case Exec():
            return f"become {_words(handoff.program, handoff.arguments)}"
        case _:
            names = ", ".join(handoff.processes) or "no process"
            return f"supervise {names}"


def _words(program: str, arguments: tuple[str, ...]) -> str:
    return " ".join((program, *arguments))
