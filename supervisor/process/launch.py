"""From a configured process to what is spawned: its environment, its streams, what it is handed, and who it runs as.

Everything that runs on behalf of a process goes through here, its probes and its commands before and after too, so that all of
them have the same environment, user and limits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.errors import OcelotError, SpawnError
from ocelot.linux.inherited import Inherited
from supervisor.children.spawn import SpawnSpec
from supervisor.output.process_output import ChildEnds
from supervisor.process.surroundings import Ends, Handed

if TYPE_CHECKING:
    from supervisor.children.cgroups import Leaf
    from supervisor.children.child import Child
    from supervisor.children.privileges import Credentials


def environment(
    config: structs.Process, inherited: Inherited, phase: Mapping[str, str], from_file: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the process: ours, ``phase``, HOME, USER, LOGNAME and SHELL of its user if it has one, then what
    ``environmentFile`` said, then its own variables. Raises SpawnError.
    """
    if config.user is None:
        return inherited.child_environment(phase, from_file, config.environment_variables)
    from supervisor.children.privileges import login_environment

    login = login_environment(config.user)
    return inherited.child_environment(phase, login, from_file, config.environment_variables)


def specification(
    config: structs.Process,
    environment: Mapping[str, str],
    ends: Ends,
    inherited: Inherited,
    *,
    handles: Sequence[Handed] = (),
    argv: Sequence[str] | None = None,
    cgroup: str | None = None,
    terminal: str | None = None,
) -> SpawnSpec:
    """What to spawn for ``config``.

    ``environment`` is that of :func:`environment`; the variables of ``handles`` are added. ``argv``: another command, to be
    run as the process would be. ``cgroup``: the folder of the cgroup that it lives in. ``terminal``: the path of the console, if
    it is ours to give away. The descriptors stay the caller's, who closes them once the child has them. Raises SpawnError: there
    is no such user, or no terminal.
    """
    descriptors: dict[int, int] = {}
    for each in handles:
        environment = {**environment, **each.environment}
        descriptors.update(each.descriptors)
    privileges = None
    if cgroup is not None or _is_privileged(config):
        from supervisor.children.privileges import of

        privileges = of(config, cgroup=cgroup)
        if privileges.credentials is not None:
            _give(ends, privileges.credentials, config.program)
    spec = SpawnSpec(
        argv=(config.program, *config.arguments) if argv is None else tuple(argv),
        environment=environment,
        working_directory=config.working_directory,
        stdout=ends.stdout,
        stderr=ends.stderr,
        limits=inherited.limits,
        descriptors=descriptors or None,
        listen_pid=bool(descriptors) and "LISTEN_FDS" in environment,
        umask=-1 if config.umask is None else config.umask,
        privileges=privileges,
    )
    if config.stdin == "null" or argv is not None:
        return spec
    return _on_terminal(spec, config, terminal) if config.stdin == "tty" else _on_its_own(spec, ends, inherited)


def _on_its_own(spec: SpawnSpec, ends: Ends, inherited: Inherited) -> SpawnSpec:
    """The same with the terminal that its output goes to as its input, and as its controlling terminal."""
    environment = spec.environment
    if environment.get("TERM") == inherited.environment.get("TERM"):  # of another terminal, or of none
        environment = {**environment, "TERM": "xterm"}
    stdin = ends.stdin if isinstance(ends, ChildEnds) else None
    return replace(spec, stdin=stdin, controlling=True, environment=environment)


def _on_terminal(spec: SpawnSpec, config: structs.Process, terminal: str | None) -> SpawnSpec:
    """The same with the console as its controlling terminal and input, and as its output where that is not led elsewhere.

    As the init of a machine we give the console to a new session. Elsewhere it belongs to whoever started us: there
    the child is the foreground group of our own session (as a shell runs a command), and we are in the background.
    """
    stdout, stderr = (
        -1 if isinstance(stream.destination, structs.Inherit) else fd
        for stream, fd in ((config.log.stdout, spec.stdout), (config.log.stderr, spec.stderr))
    )
    if terminal is not None:
        return replace(spec, terminal=terminal, stdout=stdout, stderr=stderr, environment=_with_term(spec, terminal))
    if os.isatty(0):
        return replace(spec, stdin=-1, stdout=stdout, stderr=stderr, session=False, group=True, foreground=True)
    raise SpawnError(
        f'cannot start "{config.program}": it is to have a terminal, and standard input is none',
        hint="give the container one (-t), or leave stdin out",
        step="stdin",
    )


def _with_term(spec: SpawnSpec, terminal: str) -> Mapping[str, str]:
    """The kernel starts init with TERM=linux, which is wrong on a serial line."""
    if spec.environment.get("TERM", "linux") != "linux" or terminal.removeprefix("/dev/tty").isdigit():
        return spec.environment
    return {**spec.environment, "TERM": "vt220"}


def give_up_terminal(config: structs.Process, child: Child | None) -> None:
    """``child`` is gone, which may have had ours. What is left on one of its own hears that it is gone, as when a person leaves."""
    if config.stdin == "tty":
        take_back_terminal()
    elif child is not None:
        from supervisor.children.members import signal_session

        for number in (signal.SIGHUP, signal.SIGCONT):
            signal_session(child.pid, number, reaped=True)


def take_back_terminal() -> None:
    """The child that had our terminal is gone: be its foreground group again, so that Ctrl-C reaches us."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        pass  # it is not the controlling terminal of our session
    finally:
        signal.signal(signal.SIGTTOU, before)


def leaf(name: str, config: structs.Process) -> Leaf | None:
    """The cgroup of a process that has ``resources``; always the same one for a name."""
    if config.resources is None:
        return None
    from supervisor.children.cgroups import Leaf

    return Leaf(name, config.resources)


def joined(name: str, config: structs.Process) -> str | None:
    """The folder of the cgroup that a process lives in now, for what runs beside it; None: it has none, or does not run."""
    cgroup = leaf(name, config)
    try:
        return cgroup.folder if cgroup is not None and cgroup.populated() else None
    except OcelotError:
        return None


def prepare(cgroup: Leaf, config: structs.Process) -> str:
    """Make the cgroup for the next start and return its folder. Raises SpawnError: no limit is silently left out."""
    try:
        return cgroup.prepare()
    except OcelotError as error:
        message = f'cannot start "{config.program}": {error.message}'
        raise SpawnError(message, hint=error.hint, step="resources") from error


def _give(ends: Ends, who: Credentials, program: str) -> None:
    """Pipes that were made for the child alone become its user's, so that it may open /dev/stdout."""
    try:
        if isinstance(ends, ChildEnds):
            ends.chown(who.uid, who.gid)
    except OSError as error:
        message = f'cannot start "{program}": cannot give its output pipes to uid {who.uid}: {error.strerror}'
        hint = "only root may start programs as another user"
        raise SpawnError(message, hint=hint, step="log", errno=error.errno or 0) from error


def _is_privileged(config: structs.Process) -> bool:
    """Whether it asks for anything that takes more than the plain path of spawn."""
    return (
        config.user is not None
        or config.group is not None
        or bool(config.supplementary_groups)
        or config.no_new_privileges
        or config.limits is not None
        or config.nice is not None
        or config.ioprio is not None
        or config.oom_score_adjust is not None
        or config.capabilities is not None
    )
