"""Processes that come, change and go while the set lives."""

import pytest
import trio

from ocelot.config import structs
from ocelot.config.structs import Dependency, RestartPolicy, RestartType, Schedule
from ocelot.errors import ControlError
from ocelot.states import State
from tests.supervisor.test_manager import scenario

ALWAYS = RestartPolicy(type=RestartType.ALWAYS)


def entry(name, **config):
    return structs.Process(program=name, **config)


def test_what_is_added_starts_and_belongs_to_the_set():
    async def story(it):
        it.supervisor.add("b", entry("b"))
        assert it.supervisor.names == ("a", "b")
        await trio.sleep(1)
        assert it.states() == {"a": State.RUNNING, "b": State.RUNNING}
        it.exits("a", 0)
        await trio.sleep(1)
        assert it.ending is None
        it.exits("b", 5)

    assert scenario(story, a={}).ending.status == 5


def test_what_is_added_waits_for_what_it_needs():
    async def story(it):
        it.supervisor.add("web", entry("web", depends_on={"job": Dependency()}))
        await trio.sleep(1)
        assert it.states()["web"] == State.WAITING
        it.exits("job", 0)
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING

    scenario(story, job={"type": "oneshot"}, other={})


def test_a_name_is_added_once():
    async def story(it):
        with pytest.raises(ControlError, match='cannot add "a"'):
            it.supervisor.add("a", entry("a"))

    scenario(story, a={})


def test_what_is_removed_is_stopped_and_forgotten_and_ends_nothing():
    async def story(it):
        child = it.child("b")
        output = it.supervisor.outputs["b"]
        await it.supervisor.remove("b")
        assert child.status is not None
        assert it.supervisor.names == ("a",)
        assert output.closed == 2  # once for the child's ends, once for good
        with pytest.raises(ControlError, match='cannot find the process "b"'):
            it.supervisor.status("b")
        await trio.sleep(100)
        assert it.ending is None
        it.exits("a", 0)

    assert scenario(story, a={}, b={"restart_policy": ALWAYS}).ending.status == 0


def test_the_same_name_can_come_again():
    async def story(it):
        await it.supervisor.remove("b")
        it.supervisor.add("b", entry("b"))
        await trio.sleep(1)
        assert it.states()["b"] == State.RUNNING

    scenario(story, a={}, b={})


def test_rules_hold_at_once_and_the_rest_from_the_next_start_on():
    async def story(it):
        it.supervisor.replace("a", entry("a2", restart_policy=ALWAYS, environment_variables={"NEW": "1"}))
        await trio.sleep(1)
        assert len(it.spawner.children) == 2
        it.exits("a", 1)
        await trio.sleep(5)
        assert it.states()["a"] == State.RUNNING
        assert it.spawner.last.spec.argv == ("a2",)
        assert it.spawner.last.spec.environment["NEW"] == "1"

    scenario(story, a={}, b={})


def test_another_log_comes_with_the_next_start():
    async def story(it):
        before = it.supervisor.outputs["a"]
        log = structs.Log(stdout=structs.Stream(destination=structs.Null()))
        it.supervisor.replace("a", entry("a", log=log))
        assert it.supervisor.outputs["a"] is before
        await it.supervisor.restart(["a"])
        await trio.sleep(1)
        assert it.supervisor.outputs["a"] is not before
        assert it.supervisor.outputs["a"].predecessor is before
        assert before.closed == 2

    scenario(story, a={}, b={})


def test_two_replacements_before_a_start_are_one():
    async def story(it):
        await it.supervisor.stop(["a"])
        first = it.supervisor.outputs["a"]
        log = structs.Log(stdout=structs.Stream(destination=structs.Null()))
        it.supervisor.replace("a", entry("a", log=log))
        it.supervisor.replace("a", entry("a"))
        await trio.sleep(1)
        assert it.states()["a"] == State.STOPPED
        await it.supervisor.start(["a"])
        assert it.supervisor.outputs["a"] is first

    scenario(story, a={}, b={})


def test_dependencies_that_are_taken_away_hold_nobody_back():
    async def story(it):
        assert it.states()["web"] == State.WAITING
        it.supervisor.replace("web", entry("web"))
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING

    scenario(story, web={"depends_on": {"job": Dependency()}}, job={"type": "oneshot"})


def test_a_schedule_comes_and_goes():
    async def story(it):
        it.supervisor.replace("a", entry("a", schedule=Schedule(every=60.0)))
        it.exits("a", 0)
        await trio.sleep(61)
        assert it.states()["a"] == State.RUNNING
        it.supervisor.replace("a", entry("a"))
        it.exits("a", 0)
        await trio.sleep(600)
        assert it.states()["a"] == State.EXITED
        assert len(it.spawner.children) == 3

    scenario(story, a={}, b={})


@pytest.mark.parametrize(
    ("policy", "stays"),
    [
        (RestartType.ALWAYS, False),
        (RestartType.UNLESS_STOPPED, True),
        (RestartType.ON_FAILURE, True),
        (RestartType.NEVER, True),
    ],
)
def test_a_stop_by_an_operator_survives_a_reload_unless_the_policy_is_always(policy, stays):
    async def story(it):
        assert not it.supervisor.stays_down("a")
        await it.supervisor.stop(["a"])
        assert it.supervisor.stays_down("a") == stays

    scenario(story, a={"restart_policy": RestartPolicy(type=policy)}, b={})


@pytest.mark.parametrize("policy", [RestartType.NEVER, RestartType.ALWAYS])
def test_more_replicas_of_what_an_operator_has_stopped_come_with_a_scale_but_not_with_a_reload(policy):
    async def story(it):
        def count():
            return sum(state == State.RUNNING for name, state in it.states().items() if name != "b")

        up = policy is RestartType.ALWAYS
        await it.supervisor.stop(it.supervisor.names)
        await it.supervisor.start(["b"])
        for number in (3, None, 1):  # more of them, one without a number, one with a number
            it.supervisor.replace("web", entry("web", replicas=number, restart_policy=RestartPolicy(type=policy)))
            await trio.sleep(1)
            assert (count() > 0) == up
            await it.supervisor.stop([name for name in it.supervisor.names if name != "b"])
        await it.supervisor.scale("web", 3)
        await trio.sleep(1)
        assert count() == 2

    scenario(story, web={"replicas": 2, "restart_policy": RestartPolicy(type=policy)}, b={})


# -- replicas


def replicas(it):
    """The names of those that run, with the number that they were told."""
    return {
        process.name: it.supervisor._processes[process.name].config.environment_variables["OCELOT_REPLICA"]
        for process in it.supervisor.statuses()
        if process.group == "web" and process.state == State.RUNNING
    }


def test_replicas_have_names_and_numbers():
    async def story(it):
        assert it.supervisor.names == ("web[0]", "web[1]", "b")
        assert replicas(it) == {"web[0]": "0", "web[1]": "1"}
        assert it.supervisor.groups == {"web": ["web[0]", "web[1]"]}
        assert [child.spec.environment.get("OCELOT_REPLICA") for child in it.spawner.children] == ["0", "1", None]

    scenario(story, web={"replicas": 2}, b={})


def test_scaling_up_and_down():
    async def story(it):
        await it.supervisor.scale("web", 4)
        await trio.sleep(1)
        assert it.supervisor.names == ("web[0]", "web[1]", "web[2]", "web[3]", "b")
        assert len(replicas(it)) == 4
        first = it.supervisor.status("web[0]").pid
        await it.supervisor.scale("web", 1)
        await trio.sleep(1)
        assert replicas(it) == {"web[0]": "0"}
        assert it.supervisor.names == ("web[0]", "b")
        assert it.supervisor.status("web[0]").pid == first
        await it.supervisor.scale("web", 0)
        await trio.sleep(1)
        assert it.supervisor.names == ("b",)
        await it.supervisor.scale("web", 2)
        await trio.sleep(1)
        assert it.supervisor.names == ("web[0]", "web[1]", "b")

    scenario(story, web={"replicas": 2}, b={})


def test_an_entry_gets_replicas_and_loses_them():
    async def story(it):
        it.supervisor.replace("web", entry("web", replicas=2))
        await trio.sleep(1)
        assert it.supervisor.names == ("web[0]", "web[1]", "b")
        it.supervisor.replace("web", entry("web"))
        await trio.sleep(1)
        assert it.states() == {"web": State.RUNNING, "b": State.RUNNING}
        assert sum(child.status is None for child in it.spawner.children) == 2

    scenario(story, web={}, b={})


def test_scaling_up_while_the_last_one_still_stops():
    async def story(it):
        it.child("web").fatal = set()
        await it.supervisor.scale("web", 1)
        await trio.sleep(1)
        assert it.states()["web[1]"] == State.STOPPING
        await it.supervisor.scale("web", 2)
        await trio.sleep(1)
        it.child("web").die(_done())
        await trio.sleep(2)
        assert replicas(it) == {"web[0]": "0", "web[1]": "1"}

    scenario(story, web={"replicas": 2}, b={})


def test_what_still_stops_is_taken_away_once_however_often_that_is_asked_for():
    async def story(it):
        last = it.child("web")
        last.fatal = set()
        await it.supervisor.scale("web", 1)
        await it.supervisor.scale("web", 1)
        await trio.sleep(1)
        last.die(_done())
        await trio.sleep(1)
        assert it.supervisor.names == ("web[0]", "b")
        it.child("web").fatal = set()
        async with trio.open_nursery() as nursery:
            await it.supervisor.scale("web", 0)
            nursery.start_soon(it.supervisor.remove, "web")
        assert it.supervisor.names == ("b",)
        assert it.ending is None

    scenario(story, web={"replicas": 2}, b={})


def test_scaling_to_and_fro_while_all_of_them_stop():
    """Whoever is taken back starts again, whoever was waited for; and nobody comes back after the end."""

    async def story(it):
        for child in it.spawner.children:
            child.fatal = set()
        for count in (1, 0, 2):
            await it.supervisor.scale("web", count)
            await trio.sleep(1)
        assert it.supervisor.names == ("web[0]", "web[1]", "b")
        for child in it.spawner.children[:2]:
            child.die(_done())
        await trio.sleep(1)
        assert replicas(it) == {"web[0]": "0", "web[1]": "1"}
        assert it.supervisor._set.asking == 0  # nobody waits for them any more
        it.child("b").die(_done())
        await it.supervisor.stop_all()
        await trio.sleep(10)
        assert all(child.status is not None for child in it.spawner.children)

    scenario(story, web={"replicas": 2}, b={})


def test_what_is_to_go_is_not_started_again_by_anybody():
    async def story(it):
        last = it.child("web")
        last.fatal = set()
        await it.supervisor.scale("web", 1)
        await trio.sleep(0.1)
        await it.supervisor.start(["web[0]", "web[1]"])
        await it.supervisor.restart(["web[1]"])
        last.die(_done())
        await trio.sleep(1)
        assert it.supervisor.names == ("web[0]", "b")
        assert it.supervisor._set.asking == 0

    scenario(story, web={"replicas": 2}, b={})


def test_two_at_once_who_scale_differently():
    async def story(it):
        async with trio.open_nursery() as nursery:
            for count in (1, 3, 1, 3):
                nursery.start_soon(it.supervisor.scale, "web", count)
        await trio.sleep(100)
        count = it.supervisor.configs["web"].replicas
        assert len(replicas(it)) == count
        assert sum(child.status is None for child in it.spawner.children) == count + 1

    for _ in range(20):  # trio runs what is ready in any order
        scenario(story, web={"replicas": 3}, b={})


def test_a_stop_in_order_does_not_wait_for_one_that_is_started_meanwhile():
    async def story(it):
        it.child("web").fatal = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop, ["web", "db"])
            await trio.sleep(1)
            await it.supervisor.start(["web"])
            it.child("web").die(_done())
        assert it.supervisor._set.asking == 0

    scenario(story, web={"depends_on": {"db": Dependency()}, "termination_grace_period": 1000.0}, db={}, b={})


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("b", 2, 'cannot scale "b": it has no replicas'),
        ("web", -1, 'cannot scale "web" to -1 replicas'),
        ("web", 1001, 'cannot scale "web" to 1001 replicas'),
        ("wbe", 1, 'cannot find the process "wbe"'),
    ],
)
def test_what_cannot_be_scaled_says_so(name, count, message):
    async def story(it):
        with pytest.raises(ControlError, match=message):
            await it.supervisor.scale(name, count)

    scenario(story, web={"replicas": 2}, b={})


def test_whoever_depends_on_a_group_waits_for_new_members_too():
    async def story(it):
        await it.supervisor.scale("job", 2)
        await trio.sleep(1)
        it.spawner.children[0].die(_done())
        await trio.sleep(1)
        assert it.states()["web"] == State.WAITING
        it.child("job").die(_done())
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING

    scenario(story, job={"type": "oneshot", "replicas": 1}, web={"depends_on": {"job": Dependency()}}, b={})


def _done():
    from ocelot.states import ExitStatus

    return ExitStatus(code=0)
