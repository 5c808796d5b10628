"""A spawner without processes, and outputs without pipes."""

import signal
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from ocelot.errors import SpawnError
from ocelot.linux.inherited import Inherited
from ocelot.states import ExitStatus
from supervisor.process.surroundings import Surroundings
from supervisor.snapshots import ChildSnapshot


class FakeChild:
    """Dies when told, or of the signals in ``fatal``. ``members``: how many of its group outlive it."""

    def __init__(self, pid, spec, on_exit, fatal, members):
        self.pid, self.group, self.spec, self.on_exit = pid, pid, spec, on_exit
        self.fatal, self.members = fatal, members
        self.status = None
        self.kill_group = True
        self.signals = []
        self.dead = trio.Event()

    def signal(self, number):
        if self.status is None:
            self.signals.append(number)
            if number in self.fatal or number == signal.SIGKILL:
                self.die(ExitStatus(signal=number))

    signal_group = signal

    def snapshot(self):
        return ChildSnapshot(pid=self.pid, kill_group=self.kill_group, status=self.status)

    async def wait(self):
        await self.dead.wait()
        return self.status

    def die(self, status):
        if self.kill_group:
            self.members = 0
        self.status = status
        self.dead.set()
        self.on_exit()


class FakeSpawner:
    """``refuse``: how many spawns fail first."""

    def __init__(self):
        self.children = []
        self.fatal = {signal.SIGTERM}
        self.members = 0
        self.refuse = 0
        self.watched = {}
        self.killed = []

    def spawn(self, spec, *, on_exit):
        if self.refuse:
            self.refuse -= 1
            raise SpawnError(f'cannot start "{spec.argv[0]}": no such file', errno=2)
        child = FakeChild(100 + len(self.children), spec, on_exit, self.fatal, self.members)
        self.children.append(child)
        return child

    async def spawn_in_thread(self, spec, *, timeout, on_exit):
        await trio.sleep(timeout / 2)
        return self.spawn(spec, on_exit=on_exit)

    def watch_group(self, group, on_empty):
        if self.children[group - 100].members == 0:
            return False
        self.watched[group] = on_empty
        return True

    def unwatch_group(self, group):
        self.watched.pop(group, None)

    def kill_leftovers(self, group):
        self.killed.append(group)
        return self.children[group - 100].members

    @property
    def last(self):
        return self.children[-1]


class FakeOutput:
    def __init__(self, *_):
        self.stdout = self.stderr = -1
        self.opened = self.finished = self.closed = 0
        self.broken = self.predecessor = None
        self.counters = {}

    def open(self):
        if self.broken:
            raise self.broken
        self.opened += 1
        return self

    def close(self):
        self.closed += 1

    async def finish(self, within):
        self.finished += 1

    def finish_at_once(self):
        return False

    def succeed(self, before):
        self.predecessor = before


def surroundings(spawner, **kwargs):
    return Surroundings(spawner, Inherited({}, {"PATH": "/bin"}), {"PHASE": "1"}, jitter=lambda: 1.0, **kwargs)


@asynccontextmanager
async def living(process):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.run)
        yield process
        nursery.cancel_scope.cancel()


def run(test):
    """Run an async test function on a clock that jumps when everybody waits."""
    return trio.run(test, clock=MockClock(autojump_threshold=0))
