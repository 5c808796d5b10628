"""Kernel settings below /proc/sys.

Names follow sysctl.d(5): the first separator decides. ``net.ipv4.conf.eth0/1.forwarding`` and
``net/ipv4/conf/eth0.1/forwarding`` are the same setting of the interface ``eth0.1``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from bootstrap.steps import Machine, Step
from ocelot.config.structs import OnFailure
from ocelot.errors import OcelotError

PROC_SYS = "/proc/sys"

_MODULES = {
    "net.bridge": "br_netfilter",
    "net.netfilter": "nf_conntrack",
    "net.nf_conntrack_max": "nf_conntrack",
    "net.ipv6": "ipv6",
    "net.sctp": "sctp",
    "net.mptcp": "mptcp",
    "net.vsock": "vsock",
    "net.ipv4.vs": "ip_vs",
    "net.rds": "rds",
    "fs.nfs": "nfs",
    "fs.lockd": "lockd",
    "sunrpc": "sunrpc",
    "dev.raid": "md_mod",
    "dev.cdrom": "cdrom",
    "fs.fuse": "fuse",
    "fs.xfs": "xfs",
    "fs.quota": "quota_tree",
    "kernel.yama": "yama (built into the kernel)",
}
"""Settings that a module brings, by the beginning of their name."""

NAMESPACED_FOLDERS = ("net", "fs/mqueue")
NAMESPACED_KEYS = frozenset(
    {"kernel/hostname", "kernel/domainname", "kernel/sem", "kernel/auto_msgmni"}
    | {f"kernel/shm{key}" for key in ("all", "max", "mni", "_rmid_forced", "_next_id")}
    | {f"kernel/msg{key}" for key in ("max", "mnb", "mni", "_next_id")}
)
"""What belongs to the namespaces of a trial: below /proc/sys, everything else is the host's."""


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Write ``value`` to the setting ``key``, which is as the file spells it."""

    key: str
    value: str
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None
    proc_sys: str = PROC_SYS

    @property
    def name(self) -> str:
        return f"sysctl {self.key}"

    def describe(self) -> str:
        return f"write {self.value!r} to {self.proc_sys}/{relative_path(self.key)}"

    async def apply(self, machine: Machine) -> None:
        """Set it in one write, as sysctl(8) does. Raises OcelotError that names what is missing or refused."""
        relative = relative_path(self.key)
        if machine.trial and not namespaced(relative):
            machine.info(f"not done in a trial, it is the host's: {self.describe()}")
            return
        try:
            # Never O_CREAT: on a folder that only looks like /proc/sys a typo would become a file.
            fd = os.open(f"{self.proc_sys}/{relative}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                os.write(fd, self.value.encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            raise explain(self.key, self.value, error, self.proc_sys) from error


def plan_sysctl(settings: Mapping[str, str]) -> tuple[Step, ...]:
    """One step a setting, in the order of the file; ``true`` and ``false`` become 1 and 0."""
    return tuple(SetSysctl(key, number(value)) for key, value in settings.items())


def number(value: str) -> str:
    """What is written for a value of the file."""
    return {"true": "1", "false": "0"}.get(value.lower(), value)


def relative_path(key: str) -> str:
    """The path of a setting below /proc/sys."""
    key = key.removeprefix("/proc/sys/").strip("/")
    first = next((char for char in key if char in "./"), ".")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))


def namespaced(relative: str) -> bool:
    """Whether a setting belongs to a namespace (network, IPC, UTS), given its path below /proc/sys."""
    return relative.startswith(tuple(f"{folder}/" for folder in NAMESPACED_FOLDERS)) or relative in NAMESPACED_KEYS


def explain(key: str, value: str, error: OSError, proc_sys: str = PROC_SYS) -> OcelotError:
    """The failure to set ``key``, in words: what is missing, what brings it, what was refused."""
    relative = relative_path(key)
    problem = f'cannot set sysctl "{key}" to "{value}"'
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        parent, missing, siblings = _missing(relative, proc_sys)
        hint = _brings(relative) or _similar(missing, siblings)
        return OcelotError(f'{problem}: {parent} has no "{missing}"', hint=hint)
    if error.errno == errno.EISDIR:
        return OcelotError(f"{problem}: it is a folder of settings", hint="name one of the settings in it")
    if error.errno == errno.EROFS:
        return OcelotError(f"{problem}: {proc_sys} is mounted read-only", hint="a container is given it read-only")
    if error.errno in (errno.EACCES, errno.EPERM):
        return OcelotError(f"{problem}: the kernel does not allow it to be written", hint="it may be read-only")
    if error.errno in (errno.EINVAL, errno.ERANGE):
        return OcelotError(f"{problem}: the kernel does not accept the value")
    return OcelotError(f"{problem}: {os.strerror(error.errno or 0)}")


def _missing(relative: str, proc_sys: str) -> tuple[str, str, list[str]]:
    parent = proc_sys
    for part in relative.split("/"):
        try:
            siblings = sorted(os.listdir(parent))
        except OSError:
            siblings = []
        if part not in siblings:
            return parent, part, siblings
        parent = f"{parent}/{part}"
    return os.path.dirname(parent), os.path.basename(parent), []


def _brings(relative: str) -> str:
    dotted = relative.replace("/", ".")
    for prefix, module in _MODULES.items():
        if dotted == prefix or dotted.startswith(prefix + "."):
            return f"it comes with the kernel module {module}: load it before, under modules"
    return ""


def _similar(missing: str, siblings: list[str]) -> str:
    import difflib  # costly to import, and only ever needed after a mistake

    close = difflib.get_close_matches(missing, siblings, n=1)
    return f'did you mean "{close[0]}"?' if close else ""
