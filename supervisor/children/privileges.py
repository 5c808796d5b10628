"""What a child gives up and is given between fork and execve: user, limits, priorities, capabilities, its cgroup.

The order matters. Whatever needs root comes first, the cgroup before all, so that nothing is accounted elsewhere. The groups go before
the group and the group before the user, since each step takes away the right to the one before. PR_SET_KEEPCAPS keeps
the permitted set over the change of user, and only what is to stay is then put into it; the ambient set comes
last, since the kernel wants it within permitted and inheritable (capabilities(7)). PR_SET_NO_NEW_PRIVS takes nothing from
execve that was given before.

A change of user alone needs no code of ours in the child: fork_exec(3) itself does it, on fork instead of vfork. Setting the
credentials of the calling thread for the time of a vfork would be ten times as fast, and was rejected: meanwhile that thread is
the other user's, who may send it signals, and so end the machine.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ocelot.errors import OcelotError, SpawnError
from ocelot.linux import accounts, capabilities, syscalls
from ocelot.linux.accounts import Accounts, User
from ocelot.linux.inherited import set_limit

if TYPE_CHECKING:
    from ocelot.config import structs

Steps = list[tuple[str, Callable[[], object]]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a child runs as; ``uid`` -1 and ``gid`` -1 leave it (setresuid(2)). ``groups``: exactly these, and none else."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Privileges:
    """``limits``: (soft, hard) by resource number. ``ambient`` and ``bounding``: capability numbers; both None: untouched.

    ``io_priority``: class and level for ioprio_set(2). ``cgroup``: the folder of the cgroup that it lives in.
    """

    credentials: Credentials | None = None
    limits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    nice: int | None = None
    io_priority: tuple[int, int] | None = None
    oom_score_adjust: int | None = None
    no_new_privileges: bool = False
    bounding: frozenset[int] | None = None
    ambient: frozenset[int] | None = None
    cgroup: str | None = None

    @property
    def plain(self) -> bool:
        """Whether fork_exec(3) itself can do all of it."""
        return self == Privileges(credentials=self.credentials)


# -- from the configuration ------------------------------------------------------------------------


def of(config: structs.Process, *, cgroup: str | None = None) -> Privileges:
    """What ``config`` asks for, with names looked up in the root's own files. Raises SpawnError."""
    io_priority = None
    if config.ioprio is not None:
        kind = config.ioprio.scheduling_class
        io_priority = (syscalls.IOPRIO_CLASSES[kind], 0 if kind == "idle" else config.ioprio.level)
    bounding = ambient = None
    if config.capabilities is not None:
        ambient = _numbers(config.capabilities.ambient)
        if config.capabilities.bounding is not None:
            bounding = _numbers(config.capabilities.bounding)
    return Privileges(
        credentials=credentials(config),
        limits=_limits(config.limits) if config.limits is not None else {},
        nice=config.nice,
        io_priority=io_priority,
        oom_score_adjust=config.oom_score_adjust,
        no_new_privileges=config.no_new_privileges,
        bounding=bounding,
        ambient=ambient,
        cgroup=cgroup,
    )


def credentials(config: structs.Process) -> Credentials | None:
    """The user and groups of ``config``; None: ours. A user comes with its groups, as at a login. Raises SpawnError."""
    if config.user is None and config.group is None and not config.supplementary_groups:
        return None
    known = _known()
    try:
        uid, gid = -1, -1
        groups: list[int] = []
        if config.user is not None:
            entry = known.user(config.user)
            uid = known.uid(config.user)
            if entry is not None:
                gid = entry.gid
                groups = [gid, *known.supplementary(entry.name)]
            elif config.group is None:
                raise OcelotError(
                    f'the user "{config.user}" has no entry in /etc/passwd that would name its group', hint="set group"
                )
        if config.group is not None:
            gid = known.gid(config.group)
            groups = [gid, *groups[1:]]
        groups += [known.gid(name) for name in config.supplementary_groups]
    except OcelotError as error:
        message = f'cannot start "{config.program}": {error.message}'
        raise SpawnError(message, hint=error.hint, step="user", errno=errno.EINVAL) from error
    found = Credentials(uid, gid, tuple(dict.fromkeys(groups)))
    return None if _is_ours(found) else found


def _is_ours(found: Credentials) -> bool:
    """Whether we are that already, as another user than root, who could not set even that."""
    return (
        os.geteuid() != 0
        and found.uid in (-1, os.geteuid())
        and found.gid in (-1, os.getegid())
        and set(found.groups) <= {os.getegid(), *os.getgroups()}
    )


def login_environment(user: str) -> dict[str, str]:
    """HOME, USER, LOGNAME and SHELL of a user given by name or number; for one without an entry, what a login would take."""
    entry = _known().user(user) or User(user, -1, -1)
    return {"HOME": entry.home, "USER": entry.name, "LOGNAME": entry.name, "SHELL": entry.shell}


def _numbers(names: Iterable[str]) -> frozenset[int]:
    return frozenset(number for name in names if (number := capabilities.number(name)) is not None)


def _limits(limits: structs.Limits) -> dict[int, tuple[int, int]]:
    return {
        getattr(resource, f"RLIMIT_{name.upper()}"): (limit.soft, limit.soft if limit.hard is None else limit.hard)
        for name, limit in limits.given()
    }


def _known() -> Accounts:
    """The accounts of the root, read again only when a file has changed: a thousand starts read them once."""
    return _read(tuple(_stamp(path) for path in ("/etc/passwd", "/etc/group")))


@functools.lru_cache(maxsize=1)
def _read(stamps: tuple[object, ...]) -> Accounts:
    return accounts.read()


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


# -- in the child ----------------------------------------------------------------------------------


def steps(privileges: Privileges) -> Steps:
    """What the child does, in order, each with its name for the report. Made before the fork: nothing is looked up after it."""
    found: Steps = []
    if privileges.cgroup is not None:
        found.append(("cgroup", partial(_write, f"{privileges.cgroup}/cgroup.procs", b"0")))
    if privileges.nice is not None:
        found.append(("setpriority", partial(os.setpriority, os.PRIO_PROCESS, 0, privileges.nice)))
    if privileges.io_priority is not None:
        found.append(("ioprio_set", partial(syscalls.ioprio_set, *privileges.io_priority)))
    if privileges.oom_score_adjust is not None:
        score = b"%d" % privileges.oom_score_adjust
        found.append(("oom_score_adj", partial(_write, "/proc/self/oom_score_adj", score)))
    if privileges.bounding is not None:
        dropped = [number for number in range(capabilities.last() + 1) if number not in privileges.bounding]
        found.append(("capability bounding set", partial(_drop_bounding, dropped)))
    for number, pair in privileges.limits.items():
        found.append((_limit_name(number), partial(set_limit, number, pair)))
    found += _change_of_user(privileges.credentials, privileges.ambient)
    if privileges.no_new_privileges:
        found.append(("no_new_privs", partial(syscalls.prctl, syscalls.PR_SET_NO_NEW_PRIVS, 1)))
    return found


def _change_of_user(new: Credentials | None, ambient: frozenset[int] | None) -> Steps:
    found: Steps = []
    leaves_root = new is not None and new.uid > 0
    if ambient and leaves_root:
        found.append(("keepcaps", partial(syscalls.prctl, syscalls.PR_SET_KEEPCAPS, 1)))
    if new is not None:
        found.append(("setgroups", partial(os.setgroups, new.groups)))
        if new.gid != -1:
            found.append(("setgid", partial(os.setresgid, new.gid, new.gid, new.gid)))
        if new.uid != -1:
            found.append(("setuid", partial(os.setresuid, new.uid, new.uid, new.uid)))
    if ambient is not None:
        found.append(("capset", partial(_keep, ambient, only=leaves_root)))
        clear = partial(syscalls.prctl, syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        found.append(("ambient capabilities", clear))
        for number in sorted(ambient):
            add = partial(syscalls.prctl, syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)
            found.append((capabilities.NAMES[number], add))
    return found


def _drop_bounding(numbers: Iterable[int]) -> None:
    for number in numbers:
        if syscalls.prctl(syscalls.PR_CAPBSET_READ, number):
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)


def _keep(numbers: Iterable[int], *, only: bool) -> None:
    """Make ``numbers`` the inheritable set. ``only``: the permitted and effective ones too."""
    bits = sum(1 << number for number in numbers)
    if only:
        syscalls.capset(bits, bits, bits)
    else:
        effective, permitted, _ = syscalls.capget()
        syscalls.capset(effective, permitted, bits)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _limit_name(number: int) -> str:
    return next(name for name in dir(resource) if name.startswith("RLIMIT_") and getattr(resource, name) == number)
