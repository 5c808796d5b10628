"""How a life as PID 1 begins: who we are, whether a boot is meant here, and into the one ``trio.run``."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from ocelot.errors import OcelotError
from ocelot.life.ending import Ending
from ocelot.linux import syscalls
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import Inherited, keep_descriptors, raise_own_limits
from ocelot.pid1 import Pid1

_ATTEMPTS = 600
"""How often something is tried, ten times a second, for which there is no memory."""

CONTAINER_SIGNS = ("/.dockerenv", "/run/.containerenv")
"""Files by which container engines mark a root file system as a container's own."""


def import_boot() -> None:
    """Import what a boot needs and ``supervise`` does not (a sixth of its imports). Before the boot: the files may go away."""
    from bootstrap import rescue  # noqa: F401
    from ocelot.life import booting, failure  # noqa: F401


def boot(
    file: str | None,
    *,
    in_place: bool = False,
    called_by_kernel: bool = False,
    trial: bool = False,
    born: float | None = None,
) -> Ending:
    """Boot as PID 1, supervise, go down; returns when nothing is left to do but the power verb or to exit.

    ``born``: when our first instructions ran, in seconds of the monotonic clock.
    ``trial``: in the namespaces of ``ocelot bootstrap try``; what they do not contain is shown, not done.
    ``in_place``: in a PID namespace without the signs of a container, this root file system is meant nevertheless.
    """
    inherited = Inherited.capture()
    who = _identify(in_place=in_place)
    if called_by_kernel and who is Identity.MACHINE:
        os.chdir("/")
    life = Pid1("bootstrap", file, inherited=inherited, who=who, trial=trial, born=born)
    return _run(life)


def supervise(file: str, *, socket: str | None = None) -> Ending:
    """Supervise the processes of ``file``, as PID 1 of a container or as an ordinary process."""
    life = Pid1("supervise", file, inherited=Inherited.capture(), who=identity(), socket=socket)
    return _run(life)


def _run(life: Pid1) -> Ending:
    raise_own_limits()
    keep_descriptors()
    ending = run_to_the_end(life, life.run)
    if ending.program is not None:
        from bootstrap import handoff

        try:
            life.reaper.no_longer_spare_ourselves()
            handoff.execute(ending.program, life.machine, life.inherited)
        except OcelotError as error:
            return trio.run(life.run_after, error)
    return ending


def run_to_the_end(life: Pid1, story: Callable[..., Awaitable[Ending]], *arguments: Any) -> Ending:
    """``story`` in the one event loop. If that breaks under processes, all goes on in another image; this one is gone then."""
    try:
        return trio.run(story, *arguments)
    except BaseException as error:
        if life.phase != "running":
            raise
        _persist(life, error)
        raise


def _persist(life: Pid1, error: BaseException) -> None:
    """Go on in another image; return when there is nothing left to go on with."""
    for _ in range(_ATTEMPTS):
        with suppress(Exception):  # no memory, or a signal, whose handler does not find its loop any more
            from ocelot.life.recovery import end, go_on

            go_on(life, error)
            end(life)
            return
        time.sleep(0.1)


def _identify(*, in_place: bool) -> Identity:
    """Who we are, if a boot is meant here. Raises OcelotError where it may not be.

    ``in_place``: in a PID namespace without the signs of a container, this root file system is meant nevertheless.
    """
    own_proc = _find_proc()
    who = identity()
    if who is not Identity.MACHINE:
        if own_proc:
            syscalls.umount2("/proc")
        _refuse_foreign(who, in_place)
    return who


def _find_proc() -> bool:
    """Make sure that /proc is there, since it tells who we are; whether it had to be mounted."""
    if os.getpid() != 1 or os.path.exists("/proc/self"):
        return False
    try:
        os.mkdir("/proc", 0o555)
    except FileExistsError:
        pass
    except OSError as error:
        from bootstrap import mount_errors

        raise mount_errors.no_mount_point("/proc", error) from error
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    return True


def _refuse_foreign(who: Identity, in_place: bool) -> None:
    """A boot changes mounts, files and kernel settings: only where it is clear that these are meant. Raises OcelotError.

    In a container the mounts are made our own.
    """
    rehearse = "rehearse with ocelot bootstrap try, or show what would be done with ocelot bootstrap plan"
    if who is Identity.PROCESS:
        raise OcelotError("cannot boot: this process is not PID 1", hint=rehearse)
    marked = os.environ.get("container") or any(  # noqa: SIM112 (systemd.io/CONTAINER_INTERFACE)
        os.path.exists(sign) for sign in CONTAINER_SIGNS
    )
    if not marked and not in_place:
        raise OcelotError(
            "cannot boot: this PID namespace does not look like a container, its files may be those of the host",
            hint=f"{rehearse}; if this root file system is really meant, add --in-place",
        )
    from bootstrap import kernel_filesystems

    kernel_filesystems.own_mounts()
