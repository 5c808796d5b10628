"""Random sets that are scaled, reloaded, scheduled and handed to another image while they live.

What must hold is what ``test_random_sets`` says, and: nothing is left of what is gone, nothing runs before its time, and
another image goes on as if nothing had happened.
"""

from contextlib import closing

import msgspec
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from ocelot.config import structs
from ocelot.config.structs import RestartType
from ocelot.states import Goal, State
from supervisor.replicas import base_of, instances, scaled
from supervisor.snapshots import HealthSnapshot, NotNow, SupervisorSnapshot
from tests.supervisor.test_process_health import FakeHealth
from tests.supervisor.test_process_snapshot import Output, Spawner
from tests.supervisor.test_random_sets import READY_OR_OVER, World, check_stop, sets

INTERVAL = 60.0
FOR_EVER = (RestartType.ALWAYS, RestartType.UNLESS_STOPPED)


@st.composite
def changing_sets(draw):
    return {
        name: msgspec.structs.replace(
            entry,
            **draw(
                st.one_of(
                    st.just({}),
                    st.builds(dict, replicas=st.integers(0, 3)),
                    st.builds(
                        dict, schedule=st.sampled_from([_schedule(each) for each in ("skip", "queue", "replace")])
                    ),
                )
            ),
        )
        for name, entry in draw(sets()).items()
    }


def _schedule(overlap):
    return structs.Schedule(every=INTERVAL, overlap=overlap)


DEEDS = ["exit", "exit", "fail", "stop", "start", "restart", "refuse", "flip", "deaf", "pause"]
CHANGES = ["scale", "scale", "remove", "add", "replace", "replace", "hand over", "hand over", "tick", "end"]
EVENTS = st.lists(
    st.tuples(st.sampled_from(DEEDS + CHANGES), st.integers(0, 11), st.sampled_from([0.0, 0.0, 0.3, 2.0])),
    min_size=4,
    max_size=20,
)


class Health(FakeHealth):
    def snapshot(self):
        return HealthSnapshot(ready=self.ready)

    def restore(self, kept):
        self.ready = kept.ready


class Changing(World):
    """``removed``: entries that are gone, and may come again. ``turns``: when each scheduled process began its runs."""

    health = Health

    def __init__(self, entries):
        self.removed = {}
        self.born = {}
        self.turns = {}
        self.asked = set()  # scheduled ones that somebody wants to run out of turn
        self.moved = set()  # those whose times are not those that they were born with
        super().__init__(entries, Spawner(), Output)
        self.born = dict.fromkeys(self.supervisor.names, trio.current_time())

    def supervise(self, entries, make_output):
        supervisor = super().supervise(entries, make_output)
        supervisor._assembly._look_after = self.look_after  # no real probe of what is made later
        return supervisor

    def look_after(self, process):
        if process.name not in self.supervisor._processes:  # it is new: what bore its name is gone
            assert all(child.status is not None for child in self.ran.pop(process.name, []))
            self.born[process.name] = trio.current_time()
            self.turns.pop(process.name, None)
            self.moved.discard(process.name)
        self.give_health(process)

    def spawn(self, spec, *, on_exit):
        before = {name: len(ran) for name, ran in self.ran.items()}
        child = super().spawn(spec, on_exit=on_exit)
        name = next(name for name, ran in self.ran.items() if len(ran) > before.get(name, 0))
        self.check_time(name)
        before = self.ran[name][:-1]
        # A run that somebody asked for is no turn, though it may have waited until one began; nor is one after a failure
        if name not in self.asked and (not before or before[-1].status.code == 0):
            self.turns.setdefault(name, []).append(trio.current_time())
        self.asked.discard(name)
        return child

    def check_time(self, name):
        """A scheduled process starts at its times, when it is asked to, and again after a failure."""
        entry = self.entries[base_of(name)]
        if entry.schedule is None or name in self.asked | self.moved:
            return
        *before, _ = self.ran[name]
        now = trio.current_time() - self.born[name] + 1e-6
        if not before:
            assert now >= INTERVAL, f"{name} runs {INTERVAL - now:.3g}s too early"
        elif before[-1].status.code == 0 and entry.restart_policy.type not in FOR_EVER:
            turns = self.turns.get(name, [self.born[name] - INTERVAL])
            last = turns[-1] - self.born[name] + 1e-6
            # A run that had to wait for others may begin when the next one is due, which is queued behind it
            waited = entry.schedule.overlap == "queue" and len(turns) < now // INTERVAL
            assert now // INTERVAL > last // INTERVAL or waited, f"{name} runs twice in its turn"

    async def do(self, what, which):
        bases = list(self.entries)
        base = bases[which % len(bases)] if bases else None
        if what == "deaf":
            self.spawner.fatal = set() if self.spawner.fatal else {15}
        elif what == "tick":
            await trio.sleep(INTERVAL)
        elif what == "add" and self.removed and not self.supervisor._set.stopping:
            self.add(*self.removed.popitem())
        elif what in ("scale", "remove", "replace") and base is not None and not self.supervisor._set.stopping:
            await getattr(self, what)(base, which)
        else:
            if what in ("start", "restart") and self.supervisor.names:
                self.asked.add(self.supervisor.names[which % len(self.supervisor.names)])
            await super().do(what, which)

    def add(self, base, entry):
        needs = {need: each for need, each in entry.depends_on.items() if need in self.entries}
        self.entries[base] = msgspec.structs.replace(entry, depends_on=needs)
        self.supervisor.add(base, self.entries[base])

    async def remove(self, base, _which):
        for name in [name for name, entry in self.entries.items() if base in entry.depends_on]:
            self.without(name, base)
        self.removed[base] = self.entries.pop(base)
        await self.supervisor.remove(base)
        assert not any(base_of(name) == base for name in self.supervisor.names)
        assert all(child.status is not None for name, ran in self.ran.items() if base_of(name) == base for child in ran)

    def without(self, base, need):
        entry = self.entries[base]
        self.change(base, depends_on={name: each for name, each in entry.depends_on.items() if name != need})

    def change(self, base, **fields):
        self.entries[base] = msgspec.structs.replace(self.entries[base], **fields)
        self.supervisor.replace(base, self.entries[base])

    async def replace(self, base, which):
        entry = self.entries[base]
        if which % 3 == 0 and entry.depends_on:
            self.without(base, next(iter(entry.depends_on)))
        elif which % 3 == 1 and entry.replicas is None:
            self.moved.add(base)
            self.change(base, schedule=None if entry.schedule else _schedule("skip"))
        else:
            self.change(base, environment_variables={"CHANGED": str(which)})

    async def scale(self, base, which):
        entry = self.entries[base]
        if entry.replicas is not None:
            self.touched.update(instances(base, entry))
            self.entries[base] = scaled(base, entry, which % 4)
            await self.supervisor.scale(base, which % 4)

    def hand_over(self):
        """What another image is given, through bytes; None if it cannot be now."""
        try:
            kept = self.supervisor.snapshot()
        except NotNow as reason:
            event(f"not handed over: {str(reason).partition(' ')[2]}")
            return None
        event("handed over")
        return msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=SupervisorSnapshot)

    def take_over(self, kept):
        before = self.supervisor.statuses()
        self.supervisor = self.supervise(kept.configs, Output)
        for name in self.supervisor.names:
            self.give_health(self.supervisor._processes[name])
        self.supervisor.restore(kept)
        self.moved.update(self.supervisor.names)  # intervals of the fake clock are not those of the real one
        after = self.supervisor.statuses()
        for key in ("name", "state", "goal", "reason", "pid", "ready", "restarts_by_cause", "last_exit"):
            assert [getattr(each, key) for each in before] == [getattr(each, key) for each in after], key

    def check_rest(self):
        super().check_rest()
        assert not self.supervisor._set.asking, "somebody still waits"
        for name, ran in self.ran.items():
            assert name in self.supervisor.names or all(child.status is not None for child in ran), f"{name} is left"
        for name in self.supervisor.names:
            process = self.supervisor._processes[name]
            if process.config.schedule is not None and process.goal is Goal.UP and process.health is None:
                idle = process.state not in (State.RUNNING, State.WAITING)
                assert not idle or "its dependency" in process.reason, f"{name} has had its time: {process.reason}"

    async def rest(self):
        """Until nobody is on the way to anywhere, after so long that everything had its time."""
        self.spawner.fatal = {15}
        for child in self.spawner.children:
            child.fatal = self.spawner.fatal
        await trio.sleep(500)
        for _ in range(100):
            if all(process.state in READY_OR_OVER | {State.WAITING} for process in self.supervisor._processes.values()):
                break
            await trio.sleep(0.7)


async def live_through(world, events):
    """``world`` with ``events``, from image to image."""
    ending = []
    kept = None
    while True:
        async with trio.open_nursery() as nursery:

            async def live():
                ending.append(await world.supervisor.run())

            nursery.start_soon(live)
            with closing(world.supervisor._relay):
                kept = await _go_through(world, events, ending)
                nursery.cancel_scope.cancel()
        if kept is None:
            return
        world.take_over(kept)


async def _go_through(world, events, ending):
    """Returns what the next image is given, if there is to be one."""
    while events and not ending:
        what, which, pause = events.pop(0)
        await trio.testing.wait_all_tasks_blocked()
        if what == "hand over":
            kept = world.hand_over()
            if kept is not None:
                return kept
        elif what == "end":
            return await _end(world)
        else:
            with trio.fail_after(200):  # a request that nobody answers
                await world.do(what, which)
        await trio.sleep(pause)
    if not ending:
        await world.rest()
    if ending:
        event("it came to its end")
        assert all(child.status is not None for child in world.spawner.children)
    else:
        world.check_rest()
        with trio.fail_after(200):
            await check_stop(world)
    return None


async def _end(world):
    """In the middle of whatever goes on: everybody is stopped, and nobody comes back."""
    with trio.fail_after(200):
        await world.supervisor.stop_all()
    assert all(child.status is not None for child in world.spawner.children)
    count = len(world.spawner.children)
    await trio.sleep(200)
    assert len(world.spawner.children) == count


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changing_sets(), EVENTS)
def test_whatever_changes(entries, events):
    async def test():
        await live_through(Changing(entries), list(events))

    trio.run(test, clock=MockClock(autojump_threshold=0))
