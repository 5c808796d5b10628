"""The end of a machine or container, after the supervised processes were stopped in order.

What is left gets SIGTERM, then SIGKILL; file systems are left clean; the host is told; then reboot(2). Each part has its
share of ``shutdown.timeout``, and none can keep the last one from happening.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import trio

from bootstrap import file_systems, host
from ocelot import log
from ocelot.errors import describe
from ocelot.linux import syscalls
from ocelot.linux.descriptors import Writer
from ocelot.linux.identity import Identity, identity, proc_is_ours, require_machine, require_pid1
from ocelot.linux.threads import make_sure_of_room
from ocelot.states import PowerVerb
from ocelot.wire.protocol import ExitReport

TERM_SHARE, KILL_SHARE, FILES_SHARE = 0.3, 0.1, 0.6
"""The parts of ``shutdown.timeout`` for SIGTERM, SIGKILL and the file systems."""

COMMANDS = {
    PowerVerb.POWEROFF: syscalls.RB_POWER_OFF,
    PowerVerb.REBOOT: syscalls.RB_AUTOBOOT,
    PowerVerb.HALT: syscalls.RB_HALT_SYSTEM,
}

PATIENCE = 10.0
"""Seconds that a shutdown may take beyond ``shutdown.timeout``, to tell the host and the console, before it counts as hanging."""

_PF_KTHREAD = 0x00200000  # linux/sched.h
_EMERGENCY_FILES = 10.0


def _never() -> bool:
    return False


async def go_down(timeout: float, *, hurried: Callable[[], bool] = _never) -> None:
    """All that comes between the supervised processes and :func:`power`, within ``timeout`` seconds.

    Ends every other process, switches swap off, leaves file systems clean. Raises OcelotError unless this is the init of
    the machine. Somebody else must reap meanwhile. ``hurried``: see :func:`end_others`.
    """
    require_machine("go down")
    _bring_proc_back()
    await end_others(timeout, hurried=hurried)
    for target in await file_systems.settle(timeout * FILES_SHARE):
        log.warn(f"{target} could not be made read-only: its journal may need recovery")


def _bring_proc_back() -> None:
    """Whoever has unmounted or covered it: /proc tells which processes and which mounts are left."""
    if not os.path.exists("/proc/self"):
        try:
            syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        except OSError as error:
            log.error(f"cannot mount /proc, which is gone: {describe(error)}")


def automatic_verb() -> PowerVerb:
    """What ``shutdown.action: auto`` means here: a machine that would only halt on power-off is rebooted instead.

    (A virtual machine monitor ends then; on a halted machine it would wait for ever.)
    """
    return PowerVerb.POWEROFF if can_power_off() else PowerVerb.REBOOT


def can_power_off(*, sysfs: str = "/sys", machine: str | None = None) -> bool:
    """Whether the machine can cut its own power. A PC without ACPI cannot; other architectures ask their firmware.

    Where nothing tells, as without /sys, it is taken to be able to.
    """
    if (machine or os.uname().machine) not in ("x86_64", "i686", "i386"):
        return True
    return not os.path.isdir(f"{sysfs}/firmware") or os.path.isdir(f"{sysfs}/firmware/acpi")


def power(verb: PowerVerb) -> None:
    """reboot(2). Returns only if the kernel refuses. Raises OcelotError unless this is the init of the machine."""
    require_machine(verb.value)
    try:
        syscalls.reboot(COMMANDS[verb])
    except OSError as error:
        log.error(f"cannot {verb.value}: {describe(error)}")


def power_in_any_case(verb: PowerVerb, seconds: float, *, act: Callable[[PowerVerb], None] = power) -> None:
    """Do without the rest of a shutdown that is not over after ``seconds``. Raises OcelotError unless this is the init of the machine.

    From a thread, which asks for no path: where the server of the root file system is dead, each one hangs, also those below
    /proc and /sys, whose mount points lie there. Where there is no memory for a thread the shutdown goes without.
    """
    require_machine(verb.value)

    def wait() -> None:
        time.sleep(seconds)
        try:
            log.error(
                f"the shutdown hangs, as on a file system whose server is dead: {verb.value} without the rest of it"
            )
        finally:
            act(verb)

    try:
        make_sure_of_room()
        threading.Thread(target=wait, daemon=True).start()
    except (OSError, RuntimeError) as error:
        log.warn(f"nobody will end a shutdown that hangs: {describe(error)}")


async def end_others(timeout: float, *, hurried: Callable[[], bool] = _never) -> list[int]:
    """SIGTERM to every other process of our PID namespace, then SIGKILL. Returns those that outlived even that.

    ``hurried``: whether somebody wants it to be over at once, which may change meanwhile.
    Takes at most 40 % of ``timeout``, the seconds for the whole shutdown. Raises OcelotError unless we are PID 1, for whom kill(2) with -1 spares itself.
    """
    require_pid1("end every other process")
    others = other_processes if proc_is_ours() else _anybody
    if not others():
        return []
    _signal_all(signal.SIGTERM)
    _signal_all(signal.SIGCONT)  # a stopped process must run to receive it
    left = await _wait_gone(timeout * TERM_SHARE, others, hurried)
    if left:
        log.info(f"{len(left)} processes did not end on SIGTERM and are killed")
        _signal_all(signal.SIGKILL)
        left = await _wait_gone(timeout * KILL_SHARE, others)
    if left:
        log.warn(f"{len(left)} processes outlived SIGKILL (they wait for a device): {left[:10]}")
    return left


async def _wait_gone(
    timeout: float, others: Callable[[], list[int]], hurried: Callable[[], bool] = _never
) -> list[int]:
    """Wait until no other process is alive. Their ends are not all announced to us: an orphan's parent may still live."""
    pause = 0.005
    left = others()
    with trio.move_on_after(timeout):
        while left and not hurried():
            await trio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
            left = others()
    return left


def _signal_all(number: signal.Signals) -> None:
    require_pid1("signal every other process")
    with suppress(ProcessLookupError):
        os.kill(-1, number)


def _anybody() -> list[int]:
    """[-1] while there are other processes in our namespace, where /proc cannot tell which."""
    try:
        os.kill(-1, 0)
    except ProcessLookupError:
        return []
    return [-1]


def other_processes(proc: str = "/proc") -> list[int]:
    """The processes that are alive beside us: no kernel threads, no zombies (proc_pid_stat(5))."""
    found = []
    for name in os.listdir(proc):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"{proc}/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields and fields[0] not in (b"Z", b"X") and not int(fields[6]) & _PF_KTHREAD:
            found.append(int(name))
    return found


def emergency(report: ExitReport, *, port: str, verb: PowerVerb = PowerVerb.POWEROFF) -> int:
    """The end when trio itself is broken: plain code, bounded, never raises OSError.

    In a machine it does not return: a PID 1 that exits is a kernel panic. Elsewhere: the status to exit with.
    """
    line = f"ocelot: {host.console_line(report)}\n".encode("utf-8", "replace")
    who = identity()
    if who is Identity.PROCESS:
        _say(line)
        return report.status
    for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0)):
        _signal_all(number)
        _reap(seconds)
    if who is Identity.CONTAINER:
        _say(line)
        return report.status
    cleaning = threading.Thread(target=file_systems.make_everything_read_only, daemon=True)
    cleaning.start()
    cleaning.join(_EMERGENCY_FILES)
    host.send_now(report, port)
    _say(line)
    power(verb)
    while True:  # the kernel refused; there is nothing else to do that would be better than to go on reaping
        _reap(3600)


def _reap(seconds: float) -> None:
    """Reap for up to ``seconds``, less when no child is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            if seconds < 60:
                return
            pid = 0
        if pid == 0:
            time.sleep(0.02 if seconds < 60 else 1)


def _say(line: bytes) -> None:
    with suppress(OSError):
        writer = Writer.attach(2)
        writer.write_now(line)
        writer.flush(1.0)
