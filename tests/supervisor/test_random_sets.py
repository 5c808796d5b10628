"""Random sets under random events: what must hold whatever depends on whatever, and whatever happens when.

The conditions are judged here a second time, from what the fake children did, not from the states that ocelot shows.
"""

from contextlib import closing

import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from ocelot.config import structs
from ocelot.config.structs import Condition, Dependency, RestartPolicy, RestartType
from ocelot.linux.inherited import Inherited
from ocelot.states import Cause, ExitStatus, State
from supervisor.manager import Supervisor
from supervisor.process.surroundings import Verdict
from supervisor.replicas import VARIABLE, base_of, instances
from tests.supervisor.fakes import FakeOutput, FakeSpawner
from tests.supervisor.test_process_health import FakeHealth

PROBE = structs.Probe(handler=structs.TcpSocket(port=1))
CONDITIONS = [Condition.STARTED, Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY]
READY_OR_OVER = {State.RUNNING, State.EXITED, State.FATAL, State.STOPPED}


@st.composite
def sets(draw):
    """Entries by name; each may depend on those before it. The file has them in another order."""
    names = [f"p{number}" for number in range(draw(st.integers(2, 6)))]
    entries = {}
    for place, name in enumerate(names):
        oneshot = draw(st.integers(0, 2)) > 0
        policy = RestartPolicy(
            type=draw(st.sampled_from([RestartType.NEVER, RestartType.ON_FAILURE]))
            if oneshot
            else draw(st.sampled_from(RestartType)),
            max_retries=draw(st.sampled_from([0, 1, 2])),
            backoff=draw(st.sampled_from([0.0, 1.0])),
        )
        needs = (
            draw(st.lists(st.sampled_from(names[:place]), unique=True, min_size=draw(st.integers(0, 1)), max_size=3))
            if place
            else []
        )
        depends_on = {
            need: Dependency(
                condition=draw(st.sampled_from(_conditions(entries[need]))),
                required=draw(st.integers(0, 3)) > 0,
                restart=draw(st.integers(0, 3)) == 0,
            )
            for need in needs
        }
        entries[name] = structs.Process(
            program=name,
            type="oneshot" if oneshot else "service",
            restart_policy=policy,
            depends_on=depends_on,
            readiness_probe=PROBE if draw(st.integers(0, 3)) == 0 else None,
            termination_grace_period=5.0,
        )
    return {name: entries[name] for name in draw(st.permutations(names))}


def _conditions(process):
    found = CONDITIONS if process.type == "oneshot" else [Condition.STARTED]
    return [*found, Condition.HEALTHY] if process.readiness_probe else found


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "exit",
                "exit",
                "exit",
                "fail",
                "fail",
                "stop",
                "start",
                "restart",
                "refuse",
                "flip",
                "flip",
                "pause",
                "pause",
            ]
        ),
        st.integers(0, 5),
        st.sampled_from([0.0, 0.0, 0.3, 2.0]),
    ),
    min_size=4,
    max_size=16,
)


class World:
    """The children that a set has started, and what it must not do with them. ``entries`` as they hold now."""

    health = FakeHealth

    def __init__(self, entries, spawner=None, make_output=FakeOutput):
        self.entries = dict(entries)
        self.ran = {}  # by name, the children in order
        self.spawner = spawner or FakeSpawner()
        self.healths = {}
        self.supervisor = self.supervise(entries, make_output)
        for name in self.supervisor.names:
            self.give_health(self.supervisor._processes[name])
        self.never = set()  # names that could not be started at some time
        self.touched = set()  # names that an operator has asked for something
        self._spawn = self.spawner.spawn
        self.spawner.spawn = self.spawn

    def supervise(self, entries, make_output):
        return Supervisor(
            entries,
            reaper=self.spawner,
            inherited=Inherited({}, {}),
            environment={},
            stdout=None,
            stderr=None,
            make_output=make_output,
        )

    def give_health(self, process):
        """Some are ready at once, some after a while, some never."""
        number = list(self.entries).index(base_of(process.name))
        if process.config.readiness_probe is not None:
            verdict = Verdict(Cause.STARTUP, "not ready in time") if number % 3 == 2 else None
            process.health = self.healths[process.name] = self.health(verdict, delay=float(number % 3))

    def spawn(self, spec, *, on_exit):
        base = spec.argv[0]
        replica = spec.environment.get(VARIABLE)
        name = base if replica is None else f"{base}[{replica}]"
        ran = self.ran.setdefault(name, [])
        assert all(child.status is not None for child in ran), f"{name} runs twice"
        for need, dependency in self.entries[base].depends_on.items():
            if dependency.required:
                assert self.holds(dependency.condition, need), f"{name} starts before {need} is {dependency.condition}"
        try:
            child = self._spawn(spec, on_exit=on_exit)
        except Exception:
            self.never.add(name)
            raise
        ran.append(child)
        return child

    def holds(self, condition, need):
        names = list(instances(need, self.entries[need]))
        return bool(names) and all(self.holds_of(condition, name) for name in names)

    def holds_of(self, condition, name):
        ran = self.ran.get(name, [])
        if condition is Condition.STARTED:
            return bool(ran)
        if condition is Condition.HEALTHY:
            return bool(ran) and ran[-1].status is None and self.healths[name].ready
        if self.entries[base_of(name)].schedule is not None:
            ran = [child for child in ran if child.status is not None]  # the last run that has ended counts
        if not ran or ran[-1].status is None:
            return False
        return condition is Condition.COMPLETED or ran[-1].status.code == 0

    async def do(self, what, which):
        names = self.supervisor.names
        if not names:
            return
        name = names[which % len(names)]
        alive = [child for child in self.spawner.children if child.status is None]
        if what in ("exit", "fail") and alive:
            alive[which % len(alive)].die(ExitStatus(code=0 if what == "exit" else 3))
        elif what == "flip":
            health = self.healths.get(name)
            process = self.supervisor._processes[name]
            if health is not None and process.state is State.RUNNING:
                health.ready = not health.ready
                process.readiness_changed()
                self.touched.add(name)
        elif what == "refuse":
            self.spawner.refuse = 1
        elif what in ("stop", "start", "restart") and not self.supervisor._set.stopping:
            self.touched.add(name)
            await getattr(self.supervisor, what)([name])

    def check_rest(self):
        """Nothing moves any more: who still waits has a reason that is true."""
        assert set(self.supervisor.names) == {
            each for base in self.entries for each in instances(base, self.entries[base])
        }
        for name in self.supervisor.names:
            process = self.supervisor._processes[name]
            if process.state is not State.WAITING:
                assert process.state in READY_OR_OVER, f"{name} is {process.state}"
                continue
            unmet = [
                each
                for need in self.entries[base_of(name)].depends_on
                for each in (need, *instances(need, self.entries[need]))
                if f'"{each}"' in process.reason
            ]
            assert unmet or self.comes_to_nothing(process), process.reason
            for need in unmet:
                other = self.supervisor._processes.get(need)
                # A run that nobody ends is waited for, and one that is to come; what is over is not, unless an operator has done it
                coming = other is None or other.state in (State.RUNNING, State.WAITING) or other.config.schedule
                assert coming or need in self.touched, (name, process.reason)
        self.check_followers()

    def comes_to_nothing(self, process):
        """A scheduled one that waits for its next time, since at the last one it could not run."""
        needs = self.entries[base_of(process.name)].depends_on.items()
        held = any(not self.holds(each.condition, need) for need, each in needs if each.required)
        return process.config.schedule is not None and held

    def check_followers(self):
        """Whoever follows the restarts of another is younger than its last one."""
        order = self.spawner.children.index
        for name, ran in self.ran.items():
            for need, dependency in (
                self.entries[base_of(name)].depends_on.items() if base_of(name) in self.entries else ()
            ):
                if dependency.restart and ran and ran[-1].status is None:
                    for other in instances(need, self.entries[need]):
                        again = self.ran.get(other, [])[1:]
                        assert not again or order(again[-1]) < order(ran[-1]), f"{name} has not followed {other}"


def simulate(entries, events):
    async def test():
        world = World(entries)
        with closing(
            world.supervisor._relay
        ):  # its descriptor would wait for the garbage collector, like a thousand others
            await live_through(world)

    async def live_through(world):
        async with trio.open_nursery() as nursery:
            ending = []

            async def live():
                ending.append(await world.supervisor.run())

            nursery.start_soon(live)
            for what, which, pause in events:
                await trio.testing.wait_all_tasks_blocked()
                if ending:
                    break
                with trio.fail_after(100):  # a request that nobody answers
                    await world.do(what, which)
                await trio.sleep(pause)
            await trio.sleep(500)
            if not ending:
                world.check_rest()
                with trio.fail_after(100):
                    await check_stop(world)
            else:
                event("it came to its end")
            nursery.cancel_scope.cancel()

    trio.run(test, clock=MockClock(autojump_threshold=0))


async def check_stop(world):
    """Children are told in an order in which nobody loses what it depends on."""
    order = []

    def note(child):
        told = child.signal_group

        def signal_group(number):
            if child.status is None and child not in order:
                order.append(child)
                above = {base for base, entry in world.entries.items() if child.spec.argv[0] in entry.depends_on}
                for name, ran in world.ran.items():
                    assert base_of(name) not in above or all(each.status is not None for each in ran), (
                        f"{name} still runs"
                    )
            told(number)

        child.signal_group = signal_group

    alive = [child for child in world.spawner.children if child.status is None]
    for child in alive:
        note(child)
    await world.supervisor.stop_all()
    assert order == [] if not alive else set(order) == set(alive)
    assert all(child.status is not None for child in world.spawner.children)
    assert all(process.state in READY_OR_OVER - {State.RUNNING} for process in world.supervisor._processes.values())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sets(), EVENTS)
def test_whatever_happens(entries, events):
    simulate(entries, events)
