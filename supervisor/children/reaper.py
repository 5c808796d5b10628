"""The one owner of every exit status.

A plain ``waitpid(-1)`` beside anybody else's wait loses statuses, so in PID 1 nothing else waits. One SIGCHLD may stand for
many deaths (signal(7): standard signals do not queue), so each one drains until nothing is left. SIGCHLD was chosen over a
pidfd a child: orphans have no pidfd, and an idle thousand costs no descriptors.

Before the leader of a process group is reaped its number cannot be used again: so the dead are first looked at
(waitid(2) with WNOWAIT), the last signal goes to the group, and only then are they reaped.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.errors import SpawnError, describe
from ocelot.linux import syscalls
from ocelot.linux.procstat import procstat
from ocelot.linux.threads import make_sure_of_room
from ocelot.states import ExitStatus
from supervisor.children.child import Child
from supervisor.children.leaderless import group_lives, kill_leftovers
from supervisor.children.spawn import ChildFailed, SpawnSpec, spawn
from supervisor.children.spawn_errors import explain

if TYPE_CHECKING:
    from supervisor.children.oom_shield import Shield
    from supervisor.snapshots import ChildSnapshot, ReaperSnapshot

_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT
_BATCH = 256  # deaths between two chances for other tasks: about a millisecond
_RETRY = 0.1  # seconds until deaths are looked at again after that has failed
_GONE = 5.0  # seconds for a child to be gone after SIGKILL; more means that a device holds it
_PARKED = 4096  # statuses kept while a spawn is under way in a thread; more are true orphans


class Reaper:
    """Reaps everything, spawns on behalf of everybody. One per process; ``run`` must be up before children end.

    ``children_reaped`` and ``orphans_reaped`` count; an orphan is a process that we did not start ourselves.
    """

    def __init__(self) -> None:
        self.children_reaped = 0
        self.orphans_reaped = 0
        self._children: dict[int, Child] = {}
        self._groups: dict[int, Callable[[], None]] = {}
        self._parked: dict[int, ExitStatus] = {}
        self._passing: list[int] = []  # children of the image before this one that are of no more use
        self._spawning = 0  # spawns under way in threads
        self._untold: Child | None = None  # reaped, but its owner may not have heard of it
        self._unsettled: list[int] = []  # what they have started that the loop has not heard of yet
        self._listening = False
        self._more = False  # the task has something to do ...
        self._wakeups = trio.lowlevel.ParkingLot()  # ... and is woken for that
        self._shield: Shield | None = None
        self._oom_score_adjust: int | None = None  # of the start, if an image before this one has changed it

    def spare_ourselves(self) -> None:
        """Where memory runs out, the kernel is to end children and not us. Nothing happens where that is not allowed."""
        from supervisor.children.oom_shield import Shield

        self._shield = Shield.take(self._oom_score_adjust)

    def no_longer_spare_ourselves(self) -> None:
        """Before we become another program."""
        if self._shield is not None:
            self._shield.drop()
            self._shield = None

    async def run(
        self, *, subreaper: bool = True, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Reap until cancelled. Main thread only. ``subreaper``: when not PID 1, descendants become ours (prctl(2))."""
        if subreaper and os.getpid() != 1:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        self._listening = True
        with _told_of(signal.SIGCHLD, trio.lowlevel.current_trio_token(), self._reap_now):
            try:
                task_status.started()
                for pid in self._passing:
                    self._children[pid] = Child(pid, kill_group=True, on_exit=None)
                    _kill_group(pid)
                self._more = True  # those that died before we listened
                while True:
                    while self._more:
                        self._more = False
                        await self._drain()
                    await self._wakeups.park()
            finally:
                self._listening = False

    def adopt(self, kept: ChildSnapshot, on_exit: Callable[[], None]) -> Child:
        """A child that the image before this one started. Call it before :meth:`run`, or its death is an orphan's."""
        child = Child.of(kept, on_exit)
        if kept.status is None:
            self._children[kept.pid] = child
        return child

    @property
    def unsettled(self) -> list[int]:
        """Children of threads that the loop has not heard of yet."""
        return list(self._unsettled)

    def snapshot(self) -> ReaperSnapshot:
        from supervisor.snapshots import ReaperSnapshot

        passing = [pid for pid, child in self._children.items() if child.passing]
        return ReaperSnapshot(
            passing=passing,
            children_reaped=self.children_reaped,
            orphans_reaped=self.orphans_reaped,
            oom_score_adjust=self._shield.inherited if self._shield is not None else None,
        )

    def restore(self, kept: ReaperSnapshot) -> None:
        self.children_reaped, self.orphans_reaped = kept.children_reaped, kept.orphans_reaped
        self._passing = kept.passing
        self._oom_score_adjust = kept.oom_score_adjust

    @property
    def pids(self) -> frozenset[int]:
        """The children that we started and that have not ended."""
        return frozenset(self._children)

    @property
    def spawning(self) -> int:
        """How many spawns are under way in threads."""
        return self._spawning

    @property
    def living(self) -> int:
        """How many children that we started have not ended."""
        return len(self._children)

    def spawn(self, spec: SpawnSpec, *, on_exit: Callable[[], None] | None = None) -> Child:
        """Start a program in this thread. ``on_exit`` is called in the reaper's task once ``status`` is set.

        Nothing else runs between the start and the registration, so no death can be missed. Raises SpawnError.
        """
        try:
            pid = spawn(spec if self._shield is None else replace(spec, shield=self._shield))
        except ChildFailed as failed:
            self._children[failed.pid] = Child(failed.pid, kill_group=False, on_exit=None)
            raise
        return self._register(pid, spec, on_exit)

    async def spawn_in_thread(
        self, spec: SpawnSpec, *, timeout: float, on_exit: Callable[[], None] | None = None
    ) -> Child:
        """As :meth:`spawn`, for a program whose file may never answer (a network root). ``timeout`` in seconds.

        A child that comes to life after the deadline is killed. Raises SpawnError.
        """
        token = trio.lowlevel.current_trio_token()
        spec = replace(spec, aside=True, shield=self._shield)
        born: list[Child] = []
        wanted = True
        began = False

        def start() -> None:
            nonlocal began
            began = True
            pid, dead = 0, False
            try:
                pid = spawn(spec)
            except ChildFailed as failed:
                pid, dead = failed.pid, True
                raise
            finally:
                if pid:
                    self._unsettled.append(pid)
                token.run_sync_soon(settle, pid, dead)

        def settle(pid: int, dead: bool) -> None:
            """In trio's thread, and before the result of ``start`` is seen there."""
            if pid:
                self._unsettled.remove(pid)
            if dead:
                self._claim(Child(pid, kill_group=False, on_exit=None))
            elif pid:
                born.append(self._register(pid, spec, on_exit if wanted else None))
                if not wanted:
                    born[0].signal_group(signal.SIGKILL)
            self._spawning -= 1
            if self._spawning == 0:
                self.orphans_reaped += len(self._parked)
                self._parked.clear()

        try:
            make_sure_of_room()
        except OSError as error:
            raise explain(spec.argv[0], "fork", error.errno or errno.ENOMEM, None) from error
        self._spawning += 1
        try:
            with trio.move_on_after(timeout):
                await trio.to_thread.run_sync(start, abandon_on_cancel=True)
        except RuntimeError as error:  # what threading makes of EAGAIN
            if began:
                raise
            settle(0, False)
            raise explain(spec.argv[0], "fork", errno.EAGAIN, None) from error
        finally:
            wanted = False
        if born:
            return born[0]
        raise SpawnError(
            f'cannot start "{spec.argv[0]}": its file system did not answer within {timeout:g}s',
            hint="check the server of the root file system",
            step="exec",
        )

    async def end_all(self, grace: float) -> None:
        """SIGTERM to the groups of all children that are left, and SIGKILL after ``grace`` seconds."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _GONE)):
            children = list(self._children.values())
            for child in children:
                with suppress(OSError):
                    child.signal_group(number)
            with trio.move_on_after(seconds):
                for child in children:
                    await child.wait()

    def watch_group(self, group: int, on_empty: Callable[[], None]) -> bool:
        """Call ``on_empty`` when the last member of ``group``, whose leader is gone, has been reaped here.

        False, and nothing is watched, if it has no members. Only members that become ours are noticed: have a deadline.
        """
        if not group_lives(group):
            return False
        self._groups[group] = on_empty
        return True

    def unwatch_group(self, group: int) -> None:
        self._groups.pop(group, None)

    def kill_leftovers(self, group: int) -> int:
        """See :func:`kill_leftovers`."""
        return kill_leftovers(group)

    def _register(self, pid: int, spec: SpawnSpec, on_exit: Callable[[], None] | None) -> Child:
        child = Child(pid, kill_group=spec.session or spec.group, on_exit=on_exit)
        self._claim(child)
        return child

    def _claim(self, child: Child) -> None:
        status = self._parked.pop(child.pid, None)
        if status is None:
            self._children[child.pid] = child
        else:
            self.children_reaped += 1
            child.ended(status)

    def _reap_now(self) -> None:
        """The loop calls this after SIGCHLD. To wake a task first would be another turn of the loop for every death.

        The task does what is too much for one turn, and what fails.
        """
        if not self._listening:
            return
        try:
            if self._untold is not None:
                self._tell_again(self._untold)
            more = self._reap_batch()
        except Exception:  # noqa: BLE001 (the task meets it again, and says so)
            more = True
        if more:
            self._more = True
            self._wakeups.unpark_all()

    async def _drain(self) -> None:
        more = True
        while more:
            try:
                if self._untold is not None:
                    self._tell_again(self._untold)
                more = self._reap_batch()
                await trio.lowlevel.checkpoint()
            except Exception as error:  # noqa: BLE001 (who reaps must not die of anything; the dead wait)
                log.error(f"cannot reap: {describe(error)}; trying again")
                await trio.sleep(_RETRY)

    def _reap_batch(self) -> bool:
        """Reap what is dead now, up to a bound; whether there may be more."""
        for _ in range(_BATCH):
            try:
                dead = os.waitid(os.P_ALL, 0, _PEEK)
            except ChildProcessError:
                return False
            if dead is None:
                return False
            pid = dead.si_pid
            child = self._children.get(pid)
            if child is None:
                self._reap_stranger(pid, dead)
                continue
            if child.heir and self._goes_on(child):
                os.waitpid(pid, 0)
                del self._children[pid]
                continue
            if child.kill_group:
                _kill_group(child.group)
            status = _exit_status(dead)
            os.waitpid(pid, 0)
            child.status, self._untold = status, child  # nothing in between can fail, and lose it
            del self._children[pid]  # only now: whatever fails before this is done again
            self.children_reaped += 1
            child.ended(status)
            self._untold = None
        return True

    def _tell_again(self, child: Child) -> None:
        """There was no memory to tell its owner."""
        assert child.status is not None
        self._children.pop(child.pid, None)
        child.ended(child.status)
        self._untold = None

    def _goes_on(self, child: Child) -> bool:
        """Whether ``child`` lives on in its heir, which has become a child of ours by the death of its parent."""
        heir = child.heir
        child.forget_heir()
        if heir in self._children or (found := procstat(heir)) is None or found.parent != os.getpid():
            return False
        child.pid = heir
        if os.getpgid(heir) != child.group:  # else the number stays taken, since the heir is still in it
            child.group = heir
        self._children[heir] = child
        return True

    def _reap_stranger(self, pid: int, dead: os.waitid_result) -> None:
        group = os.getpgid(pid) if self._groups else 0
        os.waitpid(pid, 0)
        if self._spawning and len(self._parked) < _PARKED:
            self._parked[pid] = _exit_status(dead)
        else:
            self.orphans_reaped += 1
        if group in self._groups and not group_lives(group):
            self._groups.pop(group)()


@contextmanager
def _told_of(number: int, token: trio.lowlevel.TrioToken, deed: Callable[[], None]) -> Iterator[None]:
    """Let the loop of ``token`` call ``deed`` soon after each signal ``number`` (several may be one). Main thread only."""

    def heard(_number: int, _frame: FrameType | None) -> None:
        token.run_sync_soon(deed, idempotent=True)

    before = signal.signal(number, heard)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL if before is None else before)


def _kill_group(group: int) -> None:
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)  # nobody is left, or all who are changed to another user and we are not root


def _exit_status(dead: os.waitid_result) -> ExitStatus:
    if dead.si_code == os.CLD_EXITED:
        return ExitStatus(code=dead.si_status)
    return ExitStatus(signal=dead.si_status, core_dumped=dead.si_code == os.CLD_DUMPED)
