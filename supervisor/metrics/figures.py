"""What a supervised process uses, with its children: processor time, memory, input and output, descriptors, threads.

Read when somebody asks, never on a timer. One reading of /proc says who belongs to whom (see ``proc_tree``); psutil, imported
at the first question, tells the rest. Where a process has a cgroup, the kernel has already added everything up, for
members that have ended too: then processor time, memory and pressure come from there.

Counters must not go back: when a descendant dies whose parent was dead, its time is gone from /proc. A :class:`Meter` remembers
what it said last, and adds only what came on top.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from supervisor.children import proc_tree
from supervisor.children.proc_tree import Entry
from supervisor.counted import Account, Counted
from supervisor.metrics import cgroup_figures

_AT_ONCE = 16
"""Processes asked about between two turns of the loop: about a millisecond on a desk."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and its children now. ``resident_memory`` counts shared pages once for each who maps them; ``pss`` shares them out.

    ``open_fds`` and ``pss`` None: not ours to see, or (``pss``) not asked for. ``cgroup`` None: it has none.
    """

    counted: Counted
    processes: int
    threads: int
    resident_memory: int
    virtual_memory: int
    open_fds: int | None = None
    pss: int | None = None
    cgroup: cgroup_figures.CgroupFigures | None = None


class Meter:
    """Usages over time. Its counters never go back while a name is measured, whatever dies in between.

    ``scan``: reads who there is, in place of ``proc_tree.scan``.
    """

    def __init__(self, scan: Callable[[], Awaitable[Mapping[int, Entry]]] = proc_tree.scan) -> None:
        self._accounts: dict[str, Account] = {}
        self._scan = scan
        self._reading = trio.Lock()  # an older reading that ends later would count what came between them twice

    async def read(
        self, processes: Mapping[str, int], *, pss: bool = False, cgroups: Mapping[str, str] | None = None
    ) -> dict[str, Usage]:
        """The usage of each process that lives, by name. ``processes``: main pid by name; ``cgroups``: directory by name.

        ``pss``: also the proportional set size, which makes the kernel walk every page table.
        """
        async with self._reading:
            return await self._read(processes, pss, cgroups or {})

    async def _read(self, processes: Mapping[str, int], pss: bool, cgroups: Mapping[str, str]) -> dict[str, Usage]:
        entries = await self._scan()
        families = proc_tree.members(entries, processes.values())
        found: dict[str, Usage] = {}
        count = 0
        for name, pid in processes.items():
            if pid not in families:
                continue
            parts = []
            for entry in families[pid]:
                count += 1
                if count % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                parts.append(_look(entry, pss))
            usage = _sum(families[pid], parts)
            if name in cgroups:
                usage = _with_cgroup(usage, cgroup_figures.read(cgroups[name]))
            found[name] = replace(usage, counted=self._account(name, pid, usage.counted))
        for gone in [name for name in self._accounts if name not in processes]:
            self._accounts[gone].pid = 0  # its next life starts at nothing, on top of what there was
        return found

    def forget(self, names: Iterable[str]) -> None:
        """Processes that are not supervised any more."""
        for name in names:
            self._accounts.pop(name, None)

    @property
    def known(self) -> tuple[str, ...]:
        return tuple(self._accounts)

    def snapshot(self) -> dict[str, Account]:
        """What was said so far, for another image."""
        return dict(self._accounts)

    def restore(self, kept: Mapping[str, Account]) -> None:
        self._accounts = dict(kept)

    def _account(self, name: str, pid: int, now: Counted) -> Counted:
        account = self._accounts.setdefault(name, Account(pid))
        if account.pid != pid:
            account.pid, account.last = pid, Counted()
        account.total = _grow(account.total, account.last, now)
        account.last = now
        return account.total


def _grow(total: Counted, last: Counted, now: Counted) -> Counted:
    def up(name: str) -> float | int | None:
        value = getattr(now, name)
        if value is None:
            return getattr(total, name)  # type: ignore[no-any-return]
        return (getattr(total, name) or 0) + max(0, value - (getattr(last, name) or 0))  # type: ignore[no-any-return]

    return Counted(**{name: up(name) for name in Counted.__slots__})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Look:
    """What psutil says about one member. None: it is gone, or not ours to see."""

    open_fds: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    voluntary: int = 0
    involuntary: int = 0
    pss: int | None = None


def _look(entry: Entry, pss: bool) -> _Look:
    import psutil

    try:
        process = psutil.Process(entry.pid)
        with process.oneshot():
            switches = process.num_ctx_switches()
            fds = io = None
            shared: int | None = None
            try:
                fds = process.num_fds()
                io = process.io_counters()
                shared = process.memory_full_info().pss if pss else None
            except psutil.AccessDenied:
                pass  # another user's process, and we are not root
    except (psutil.Error, OSError):
        return _Look()
    return _Look(
        open_fds=fds,
        read_bytes=io.read_bytes if io is not None else None,
        written_bytes=io.write_bytes if io is not None else None,
        voluntary=switches.voluntary,
        involuntary=switches.involuntary,
        pss=shared,
    )


def _sum(entries: Sequence[Entry], looks: Sequence[_Look]) -> Usage:
    return Usage(
        counted=Counted(
            user_seconds=sum(entry.user_seconds for entry in entries),
            system_seconds=sum(entry.system_seconds for entry in entries),
            read_bytes=_known(look.read_bytes for look in looks),
            written_bytes=_known(look.written_bytes for look in looks),
            voluntary_switches=sum(look.voluntary for look in looks),
            involuntary_switches=sum(look.involuntary for look in looks),
        ),
        processes=len(entries),
        threads=sum(entry.threads for entry in entries),
        resident_memory=sum(entry.resident_memory for entry in entries),
        virtual_memory=sum(entry.virtual_memory for entry in entries),
        open_fds=_known(look.open_fds for look in looks),
        pss=_known(look.pss for look in looks),
    )


def _known(values: Iterator[int | None]) -> int | None:
    """The sum of what is known, or None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _with_cgroup(usage: Usage, found: cgroup_figures.CgroupFigures | None) -> Usage:
    if found is None:
        return usage
    counted = usage.counted
    if found.user_seconds is not None and found.system_seconds is not None:
        counted = replace(counted, user_seconds=found.user_seconds, system_seconds=found.system_seconds)
    if found.read_bytes is not None and found.written_bytes is not None:
        counted = replace(counted, read_bytes=found.read_bytes, written_bytes=found.written_bytes)
    return replace(usage, counted=counted, processes=found.processes or usage.processes, cgroup=found)


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """Of ocelot itself. Seconds and bytes."""

    cpu_seconds: float
    resident_memory: int
    virtual_memory: int
    threads: int
    open_fds: int
    max_fds: int
    start_time: float


def own() -> OwnFigures:
    """The figures of this process, without its children. ``start_time``: seconds since the epoch."""
    import psutil

    me = psutil.Process(os.getpid())
    with me.oneshot():
        times, memory = me.cpu_times(), me.memory_info()
        return OwnFigures(
            cpu_seconds=times.user + times.system,
            resident_memory=memory.rss,
            virtual_memory=memory.vms,
            threads=me.num_threads(),
            open_fds=me.num_fds(),
            max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            start_time=float(me.create_time()),
        )
