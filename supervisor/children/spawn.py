"""Starting a program: one function, two paths.

Designs that were rejected: ``subprocess.Popen`` reaps behind the reaper's back (a plain ``waitpid(-1)`` next to it turns an
exit status of 7 into 0), ``os.posix_spawn`` knows neither a working directory nor a controlling terminal, and ``os.fork``
copies the page tables of the whole interpreter (1-2 ms). What remains is what ``subprocess`` itself is built on: one C function that runs the
child on vfork(2), or on fork(2) when Python code has to run in it, and reports the errno over a close-on-exec pipe.

The plain path is vfork: the calling thread stands still until the child has called execve(2). All descriptors of ocelot are
close-on-exec (those it was given too, see ``linux.inherited``), so nothing has to be closed in the child (closing a thousand one by one costs more than the spawn).
The fork path is for children that need more: a controlling terminal, numbered descriptors, limits of their own, another user
(``privileges``). A change of user alone takes the C function's own fork, which needs no Python in the child.

The only module that starts processes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import sys
import termios
import time
import warnings
from _posixsubprocess import fork_exec
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ocelot.errors import SpawnError, describe
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import DEFAULT_PATH, set_limit
from supervisor.children.spawn_errors import explain

if TYPE_CHECKING:
    from supervisor.children.oom_shield import Shield
    from supervisor.children.privileges import Privileges

LOOK = 0.02
"""Seconds between two looks whether a child was stopped that does not become the program."""

LONGEST = 30.0
"""Seconds for a child to become the program, all of which nothing else happens in PID 1. What is known to be slow is started aside."""

_NO_VFORK_SWITCH = sys.version_info >= (3, 14)  # CPython 3.14 took the last parameter, allow_vfork, away


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """What to start and how.

    ``argv[0]`` without a slash is looked up on PATH of ``environment``, which is the child's whole environment.
    ``stdin`` None is an empty input; -1 for any of the three streams is ours. ``session``: a new session, and so a new process group,
    led by the child (setsid(2)). ``group``: only a new process group, ``foreground``: which becomes that of our terminal. ``terminal``:
    the path of a tty that becomes the controlling terminal, the input, and those outputs that are -1. ``limits``: (soft, hard) by resource number, getrlimit(2); only
    RLIMIT_NOFILE is looked at on the plain path, since it is the only one that ocelot changes for itself.
    ``descriptors``: our descriptors by the number that they get in the child, from 3 on. ``listen_pid``: LISTEN_PID becomes the
    pid of the child (sd_listen_fds(3)).
    ``controlling``: the tty that is ``stdin`` becomes the controlling terminal of the new session.
    ``umask``: -1 is ours. ``privileges``: its user, limits, priorities, capabilities and cgroup, where they differ from ours.
    ``aside``: for a worker thread. vfork holds the whole interpreter until execve, so it is no use there: the fork path is taken,
    and the limits are set in the child alone.
    ``shield``: what keeps the OOM killer from us, and is not meant for the child.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str | None = None
    stdin: int | None = None
    stdout: int = -1
    stderr: int = -1
    session: bool = True
    group: bool = False
    foreground: bool = False
    terminal: str | None = None
    limits: Mapping[int, tuple[int, int]] | None = None
    descriptors: Mapping[int, int] | None = None
    listen_pid: bool = False
    controlling: bool = False
    umask: int = -1
    privileges: Privileges | None = None
    aside: bool = False
    shield: Shield | None = None


class ChildFailed(SpawnError):
    """The child was made but never became the program. ``pid`` is to be reaped by whoever reaps."""

    pid = 0


def spawn(spec: SpawnSpec) -> int:
    """Start ``spec`` and return its pid; by then the child has called execve(2) with success.

    Raises :class:`SpawnError`; when that is a :class:`ChildFailed`, there is a dead child to reap. Blocks as long
    as execve takes, which is without end for a program on a network file system that does not answer.
    """
    opened: list[int] = []
    try:
        streams = _streams(spec, opened)
        sources = _out_of_the_way(spec.descriptors, opened) if spec.descriptors else {}
        report, child_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        opened.append(report)
        try:
            if sources:
                child_end = _moved(child_end, max(sources))
            pid, suspended = _fork_exec(spec, streams, sources, report, child_end)
        finally:
            os.close(child_end)
        cgroup = spec.privileges.cgroup if spec.privileges is not None else None
        data = await_report(pid, report, suspended=suspended and (spec.session or spec.group), cgroup=cgroup)
    except OSError as error:
        # EAGAIN, ENOMEM: no process; EMFILE, ENFILE: no descriptors; ENOENT, EIO: no such terminal
        raise explain(spec.argv[0], _step_of(error), error.errno or 0, spec.working_directory) from error
    except ValueError as error:
        raise SpawnError(
            f'cannot start "{spec.argv[0]}": {error}', hint="remove the NUL byte", step="arguments", errno=errno.EINVAL
        ) from error
    finally:
        for fd in opened:
            os.close(fd)
    if data:
        step, number = _parse_report(data, spec)
        candidates = [os.fsdecode(c) for c in executable_candidates(spec.argv[0], spec.environment)]
        reason = explain(spec.argv[0], step, number, spec.working_directory, candidates=candidates)
        failed = ChildFailed(reason.message, hint=reason.hint, step=step, errno=number)
        failed.pid = pid
        raise failed
    return pid


def executable_candidates(program: str, environment: Mapping[str, str]) -> list[bytes]:
    """The paths that are tried in order, as execvp(3) does; an empty element of PATH is the working directory."""
    name = os.fsencode(program)
    if b"/" in name:
        return [name]
    path = environment.get("PATH") or DEFAULT_PATH
    return [os.path.join(os.fsencode(folder), name) for folder in path.split(":")]


def _fork_exec(
    spec: SpawnSpec, streams: tuple[int, int, int], sources: Mapping[int, int], parent_end: int, report: int
) -> tuple[int, bool]:
    """The pid, and whether it was vfork(2), which returns when the child has called execve(2) or has ended."""
    environment = _encoded(spec.environment)
    in_child = _in_child(spec, sources, report)
    who = spec.privileges.credentials if spec.privileges is not None and in_child is None else None
    stdin, stdout, stderr = streams
    arguments: list[Any] = [
        [os.fsencode(argument) for argument in spec.argv],
        executable_candidates(spec.argv[0], spec.environment),
        # A child that may hang before execve must not hold the ends of other children's pipes meanwhile
        spec.aside,  # close_fds
        (report,) if spec.aside else (),  # fds_to_keep
        None if spec.working_directory is None else os.fsencode(spec.working_directory),
        environment,
        *(stdin, -1, -1, stdout, -1, stderr),  # p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
        *(parent_end, report),  # errpipe_read, which the child closes, and errpipe_write
        True,  # restore_signals: SIGPIPE and SIGXFSZ, which Python ignores
        spec.session,
        0 if spec.group and not spec.session else -1,  # pgid_to_set
        None if who is None or who.gid == -1 else who.gid,
        None if who is None else list(who.groups),
        None if who is None or who.uid == -1 else who.uid,
        spec.umask,
        in_child,
    ]
    if not _NO_VFORK_SWITCH:
        arguments.append(True)
    if in_child is not None:
        with warnings.catch_warnings():
            # Since 3.12 a fork beside threads warns; in this child no lock is ever taken before execve.
            warnings.simplefilter("ignore", DeprecationWarning)
            return fork_exec(*arguments), False
    with nullcontext() if spec.shield is None else spec.shield.down():
        if spec.limits is None or resource.RLIMIT_NOFILE not in spec.limits:
            pid = fork_exec(*arguments)
        else:
            pid = _with_limit(spec.limits[resource.RLIMIT_NOFILE], lambda: fork_exec(*arguments))
    return pid, who is None


def _encoded(environment: Mapping[str, str]) -> list[bytes]:
    """Each variable as execve(2) takes it. All are encoded in one go: one by one they were a tenth of what a spawn costs us."""
    if not environment:
        return []
    found = os.fsencode("\0".join([f"{key}={value}" for key, value in environment.items()])).split(b"\0")
    if len(found) != len(environment):
        raise ValueError("embedded null byte")  # as fork_exec says of arguments
    return found


def _with_limit(wanted: tuple[int, int], call: Callable[[], int]) -> int:
    """Run ``call`` under the child's descriptor limit. vfork leaves no other moment: the child runs no code of ours.

    Descriptors above the limit stay usable; only new ones are limited, and nobody opens any meanwhile.
    """
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = (min(wanted[0], ours[1]), ours[1])
    if lowered == ours:
        return call()
    resource.setrlimit(resource.RLIMIT_NOFILE, lowered)
    try:
        return call()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)


def _in_child(spec: SpawnSpec, sources: Mapping[int, int], report: int) -> Callable[[], None] | None:
    """What the forked child does between fork and execve, or None when there is nothing: then vfork serves."""
    steps: list[tuple[str, Callable[[], object]]] = []
    if spec.terminal is not None or spec.controlling:
        steps.append(("controlling terminal", partial(_take_terminal, force=identity() is Identity.MACHINE)))
    if spec.foreground:
        steps.append(("foreground", _take_foreground))
    if spec.privileges is not None and (steps or sources or spec.listen_pid or spec.aside or not spec.privileges.plain):
        from supervisor.children.privileges import steps as taken

        steps += taken(spec.privileges)
    if sources or spec.listen_pid:
        highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        steps.append(("exec", partial(_execute, spec, sources, report, highest)))
    if not steps and not spec.aside:
        return None
    if spec.shield is not None:
        steps.insert(0, ("oom_score_adj", spec.shield.leave))
    if spec.limits:
        steps[:0] = [("setrlimit", partial(set_limit, number, pair)) for number, pair in spec.limits.items()]

    def prepare() -> None:
        for name, step in steps:
            try:
                step()
            except OSError as error:
                where = "" if name == "exec" else f"step:{name}"
                os.write(report, f"OSError:{error.errno or 0:x}:{where}".encode())
                os._exit(255)

    return prepare


def _execute(spec: SpawnSpec, sources: Mapping[int, int], report: int, highest: int) -> None:
    """Become the program from here, since fork_exec can neither number descriptors nor know the child's pid beforehand."""
    for target, source in sources.items():
        os.dup2(source, target)
    if spec.aside:
        # What the siblings' pipes lead to must not stay open while a file system does not answer
        edges = [2, *sorted({*sources, report}), highest]
        for low, high in zip(edges, edges[1:], strict=False):  # noqa: RUF007 (a boot would pay for itertools)
            os.closerange(low + 1, high)
    environment = dict(spec.environment)
    if spec.listen_pid:
        environment["LISTEN_PID"] = str(os.getpid())
    numbers = []
    for candidate in executable_candidates(spec.argv[0], environment):
        try:
            os.execve(candidate, spec.argv, environment)
        except OSError as error:
            numbers.append(error.errno or 0)
    number = next((each for each in numbers if each not in (errno.ENOENT, errno.ENOTDIR)), numbers[-1])
    raise OSError(number, os.strerror(number))


def _take_terminal(*, force: bool) -> None:
    """ioctl_tty(2): the session leader takes the tty on 0, which makes its group the foreground one.

    ``force``: also from another session, with CAP_SYS_ADMIN. Without it the program has to do without job control.
    """
    try:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    except PermissionError:
        if force:
            fcntl.ioctl(0, termios.TIOCSCTTY, 1)


def _take_foreground() -> None:
    """tcsetpgrp(3) from a background group raises SIGTTOU, which would stop us: ignore it for the moment."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.ENXIO, errno.EBADF):
            raise
    finally:
        signal.signal(signal.SIGTTOU, before)


def _streams(spec: SpawnSpec, opened: list[int]) -> tuple[int, int, int]:
    """The descriptors that become 0, 1 and 2; what is opened here is added to ``opened``."""
    if spec.terminal is not None:
        tty = open_terminal(spec.terminal)
        opened.append(tty)
        return tty, tty if spec.stdout == -1 else spec.stdout, tty if spec.stderr == -1 else spec.stderr
    if spec.stdin is not None:
        return spec.stdin, spec.stdout, spec.stderr
    try:
        stdin = _null()
    except OSError:
        stdin, writer = os.pipe()  # no /dev yet: a pipe that nobody writes to is as empty
        os.close(writer)
        opened.append(stdin)
    return stdin, spec.stdout, spec.stderr


@cache
def _null() -> int:
    """/dev/null, open for good: to open it was 3 % of a restart. Raises OSError."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _out_of_the_way(descriptors: Mapping[int, int], opened: list[int]) -> dict[int, int]:
    """Copies of ``descriptors`` above all numbers that the child will use, added to ``opened``: dup2 then hits none of them."""
    highest = max(descriptors)
    sources = {}
    for target, fd in descriptors.items():
        sources[target] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, highest + 1)
        opened.append(sources[target])
    return sources


def _moved(fd: int, above: int) -> int:
    """``fd`` under a number above ``above``; the old one is closed if it was another."""
    if fd > above:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above + 1)
    os.close(fd)
    return moved


def open_terminal(path: str) -> int:
    """Open a tty for reading and writing without waiting for a carrier and without making it ours. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    return fd


def await_report(
    pid: int, report: int, *, suspended: bool, cgroup: str | None = None, longest: float = LONGEST
) -> bytes:
    """What the child has written before it became the program. A child that nobody would know of is not left behind.

    ``suspended``: until now we were, by vfork(2), so all is there; but the kernel closes the child's end a little later, and to
    wait for that was a fifth of what a spawn takes. An emulator's vfork may be a mere fork: there the child, which begins
    by leaving our process group, has not got far yet.

    From the change of user on, all that its user runs may send it signals, ``cgroup``, which it has entered, may be frozen, and the
    program may be a link to a FUSE file system of its user: one that is stopped, or takes more than ``longest`` seconds, would
    hold us for ever, and is ended.
    """
    try:
        if not suspended or os.getpgid(pid) != pid:
            return _read_all(pid, report, cgroup, longest)
        try:
            return os.read(report, 4096)
        except BlockingIOError:
            return b""
    except BaseException as error:
        os.kill(pid, signal.SIGKILL)
        failed = ChildFailed(f"cannot hear from the new process: {describe(error)}", step="pipe")
        failed.pid = pid
        raise failed from error


def _read_all(pid: int, fd: int, cgroup: str | None, longest: float) -> bytes:
    """Until the child ``pid`` has closed its end. Raises SpawnError: it was stopped, ``cgroup`` is frozen, it takes too long."""
    news = select.poll()
    news.register(fd, select.POLLIN)
    data = b""
    deadline = time.monotonic() + longest
    while True:
        if not news.poll(LOOK * 1000):
            if time.monotonic() > deadline:
                raise SpawnError(
                    f"it did not become the program within {longest:g}s", hint="check the file system that it lies on"
                )
            _refuse_stopped(pid)
            if cgroup is not None:
                _refuse_frozen(cgroup)
        elif chunk := os.read(fd, 4096):
            data += chunk
        else:
            return data


def _refuse_stopped(pid: int) -> None:
    with suppress(ChildProcessError):  # it has ended, as its end of the pipe will tell
        if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT):
            raise SpawnError("it was stopped before it became the program", hint="see what sends SIGSTOP to it")


def _refuse_frozen(cgroup: str) -> None:
    with suppress(OSError), open(f"{cgroup}/cgroup.events", "rb") as file:
        if b"frozen 1" in file.read():
            raise SpawnError("its cgroup is frozen", hint=f"thaw it: echo 0 > {cgroup}/cgroup.freeze")


def _parse_report(data: bytes, spec: SpawnSpec) -> tuple[str, int]:
    """What the child wrote: ``OSError:<hex errno>:<where>``, where is empty for execve itself."""
    _, number, where = [*data.split(b":", 2), b"", b""][:3]
    code = int(number, 16) if number else 0
    text = where.decode("ascii", "replace")
    if text.startswith("step:"):
        return text[5:], code
    if text.startswith("noexec"):
        # All that can fail before execve; from Python 3.12 on chdir is named, before it has errors of its own
        if spec.privileges is not None and text == "noexec" and code in (errno.EPERM, errno.EINVAL, errno.ENOMEM):
            return "change of user", code
        return "chdir", code
    return ("exec", code) if data.startswith(b"OSError") else ("set-up", code)


def _step_of(error: OSError) -> str:
    if error.filename is not None:
        return f"open {error.filename}"
    return "pipe" if error.errno in (errno.EMFILE, errno.ENFILE) else "fork"


def shown(argv: Iterable[str]) -> str:
    """The command line for messages: quoted where a shell would need it."""
    plain = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
    return " ".join(
        word if word and plain.issuperset(word) else "'" + word.replace("'", "'\"'\"'") + "'" for word in argv
    )


def fork_exiting(count: int, *, before: Callable[[], object] = lambda: None) -> list[int]:
    """Fork ``count`` children that call ``before`` and exit with 0, and return their pids: makes zombies, for tests."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                before()
            finally:
                os._exit(0)
        pids.append(pid)
    return pids
