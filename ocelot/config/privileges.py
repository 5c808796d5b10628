"""The records of what a process may do and use: limits, scheduling, capabilities, and its share of the machine.

Annotations are real objects, not strings, since ``loading`` and ``schema`` read them.
"""

from typing import Literal

from msgspec import field

from ocelot.config.base import Base, Cpus, LimitValue, Size, Text


class Limit(Base, frozen=True, kw_only=True):
    """Of getrlimit(2); ``hard`` None: the same as ``soft``. A single value stands for both."""

    soft: LimitValue
    hard: LimitValue | None = None


class Limits(Base, frozen=True, kw_only=True):
    """Resource limits by their names in getrlimit(2); what is left out is as the kernel gave it to ocelot."""

    address_space: Limit | None = field(name="as", default=None)
    core: Limit | None = None
    cpu: Limit | None = None
    data: Limit | None = None
    fsize: Limit | None = None
    memlock: Limit | None = None
    msgqueue: Limit | None = None
    nice: Limit | None = None
    nofile: Limit | None = None
    nproc: Limit | None = None
    rss: Limit | None = None
    rtprio: Limit | None = None
    rttime: Limit | None = None
    sigpending: Limit | None = None
    stack: Limit | None = None

    def given(self) -> list[tuple[str, Limit]]:
        """The limits that are set, by name."""
        found = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [("as" if name == "address_space" else name, limit) for name, limit in found if limit is not None]


class IoPriority(Base, frozen=True, kw_only=True):
    """ioprio_set(2). ``level``: from 0, the highest, to 7; the class idle has none."""

    scheduling_class: Literal["realtime", "best-effort", "idle"] = field(name="class")
    level: int = 4


class Capabilities(Base, frozen=True, kw_only=True):
    """capabilities(7) by name. ``bounding``: what the process and its children can ever have; None: what ocelot has.

    ``ambient``: what it has although it runs as another user than root.
    """

    bounding: tuple[Text, ...] | None = None
    ambient: tuple[Text, ...] = ()


class IoMax(Base, frozen=True, kw_only=True):
    """Limits for one block device: bytes and operations a second, read and written."""

    device: Text
    rbps: Size | None = None
    wbps: Size | None = None
    riops: int | None = None
    wiops: int | None = None


class Resources(Base, frozen=True, kw_only=True):
    """What all processes of the entry may use together (cgroup v2); None: no limit.

    ``cpu_max``: how many processors' worth of time, 1.5 or 150%. With ``resources``, even with ``{}``, the process has a cgroup of its
    own, which is stopped and killed as a whole. Where the machine cannot enforce a limit, the process does not start.
    """

    memory_max: Size | None = None
    memory_high: Size | None = None
    cpu_max: Cpus | None = None
    pids_max: int | None = None
    io_max: tuple[IoMax, ...] = ()

    @property
    def controllers(self) -> list[str]:
        """The cgroup v2 controllers behind the limits that are set."""
        wanted = {
            "memory": self.memory_max is not None or self.memory_high is not None,
            "cpu": self.cpu_max is not None,
            "pids": self.pids_max is not None,
            "io": bool(self.io_max),
        }
        return [name for name, needed in wanted.items() if needed]
