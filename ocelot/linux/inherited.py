"""What the kernel (or whoever started us) gave us, kept so that children get exactly that and nothing of ours.

ocelot raises its own descriptor limit, Python ignores SIGPIPE and SIGXFSZ, and where no locale is set it sets LC_CTYPE in its
environment (PEP 538): none of this may leak into a service.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ocelot.linux.syscalls import CLOSE_RANGE_CLOEXEC, close_range

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = "/run/ocelot/bin"
"""Holds ``ocelot`` and ``ocelotctl`` and nothing else; last on the PATH of every child."""

_LIMITS = {
    name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}


@dataclass(frozen=True)
class Inherited:
    """Limits as (soft, hard) by resource number, the environment without what is our interpreter's, the blocked signals."""

    limits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    mask: frozenset[int] = frozenset()

    @classmethod
    def capture(cls) -> Inherited:
        """Ask the kernel. Call this once, first thing, before anything is changed."""
        limits = {}
        for number in _LIMITS.values():
            limits[number] = resource.getrlimit(number)
        environment = {k: v for k, v in os.environ.items() if _for_children(k)}
        if environment.get("LC_CTYPE") in _COERCED:
            del environment["LC_CTYPE"]
            environment.update(_given("LC_CTYPE"))
        return cls(limits, environment, frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    def child_environment(self, *layers: Mapping[str, str]) -> dict[str, str]:
        """The environment of a child: ours, then ``layers`` in order, with a PATH that ends with the tools folder."""
        merged = dict(self.environment)
        for layer in layers:
            merged.update(layer)
        path = merged.get("PATH") or DEFAULT_PATH
        if TOOLS not in path.split(":"):
            path = f"{path}:{TOOLS}"
        merged["PATH"] = path
        return merged


def _for_children(name: str) -> bool:
    """PYTHON* is ours if our interpreter heeds it. That of a runtime does not (``-I``): there, what a container sets is for its programs."""
    return not name.startswith("PYTHON") or bool(sys.flags.ignore_environment)


_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def _given(name: str) -> dict[str, str]:
    """A variable as it was when this process was started, if it was there: that memory stays (proc_pid_environ(5))."""
    try:
        with open("/proc/self/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return {}  # the kernel's own init: /proc comes later, and a locale on its command line is no custom
    values = [os.fsdecode(word.partition(b"=")[2]) for word in words if word.startswith(os.fsencode(f"{name}="))]
    return {name: values[-1]} if values else {}


def raise_own_limits() -> None:
    """Raise our own soft descriptor limit to the hard one: a supervisor of a thousand processes holds many pipes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_limit(number: int, pair: tuple[int, int]) -> None:
    """setrlimit(2), if it would change anything. Raises OSError."""
    if resource.getrlimit(number) != pair:
        try:
            resource.setrlimit(number, pair)
        except ValueError as error:  # what the resource module makes of EPERM
            raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from error


def keep_descriptors() -> None:
    """Mark every descriptor from 3 on close-on-exec: what our starter left open is not meant for our children.

    Call this once at the start. Descriptors that are opened later are close-on-exec anyway (PEP 446).
    """
    try:
        close_range(3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    except OSError:  # before Linux 5.11
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with suppress(OSError):
                    os.set_inheritable(int(name), False)
