"""Dependencies: who waits for what, what becomes of those whose dependency failed, and the order of stopping."""

import signal

import pytest
import trio

from ocelot.config import structs
from ocelot.config.structs import Command, Condition, Dependency, RestartPolicy, RestartType, Schedule
from ocelot.states import Cause, ExitStatus, Goal, State
from tests.supervisor.fakes import run
from tests.supervisor.test_manager import Set, scenario
from tests.supervisor.test_process_health import FakeHealth

ALWAYS = RestartPolicy(type=RestartType.ALWAYS, backoff=1.0, multiplier=1.0)
PROBE = structs.Probe(handler=structs.TcpSocket(port=1))


def on(*names, **by_name):
    return {"depends_on": {name: Dependency() for name in names} | by_name}


def started(it):
    return [child.spec.argv[0] for child in it.spawner.children]


def reason(it, name):
    return it.supervisor.status(name).reason


def test_what_nobody_holds_back_starts_at_once_and_the_rest_in_order():
    async def story(it):
        assert started(it) == ["db", "api", "web"]
        assert set(it.states().values()) == {State.RUNNING}

    scenario(story, web=on("api", "db"), api=on("db"), db={})


def test_a_oneshot_is_awaited_to_its_end():
    async def story(it):
        assert it.states() == {"web": State.WAITING, "migrate": State.RUNNING}
        assert reason(it, "web") == 'waiting for "migrate" to complete successfully (running)'
        assert it.supervisor.status("web").goal == Goal.UP
        it.exits("migrate", 0)
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING
        status = it.supervisor.status("web").depends_on[0]
        assert (status.name, status.condition, status.met) == ("migrate", "CompletedSuccessfully", True)

    scenario(story, web=on("migrate"), migrate={"type": "oneshot"})


def test_a_failure_for_good_is_said_along_the_whole_chain():
    async def story(it):
        it.exits("disk", 7)
        await trio.sleep(1)
        assert it.states() == dict.fromkeys(("web", "db"), State.FATAL) | {"disk": State.EXITED}
        assert reason(it, "db") == 'its dependency "disk" failed: exited with status 7; restartPolicy is Never'
        assert "web -> db -> disk, and disk exited with status 7" in reason(it, "web")
        assert it.supervisor.status("web").last_exit.cause == Cause.DEPENDENCY
        assert started(it) == ["disk"]

    it = scenario(story, web=on("db"), db=on("disk"), disk={"type": "oneshot"})
    assert (it.ending.status, it.ending.process) == (7, "disk")


def test_what_fell_with_another_rises_with_it():
    async def story(it):
        it.exits("disk", 7)
        await trio.sleep(1)
        assert it.states() == {
            "web": State.FATAL,
            "db": State.FATAL,
            "no": State.FATAL,
            "disk": State.EXITED,
            "x": State.RUNNING,
        }
        await it.supervisor.stop(["no"])
        await it.supervisor.start(["disk"])
        await trio.sleep(1)
        assert it.states()["web"] == State.WAITING
        it.exits("disk", 0)
        await trio.sleep(1)
        assert (it.states()["db"], it.states()["web"], it.states()["no"]) == (State.RUNNING, State.RUNNING, State.FATAL)

    scenario(story, web=on("db"), db=on("disk"), no=on("disk"), disk={"type": "oneshot"}, x={})


def test_one_that_is_tried_again_is_waited_for():
    async def story(it):
        for _ in range(3):
            it.exits("migrate", 1)
            await trio.sleep(2)
            assert it.states()["web"] == State.WAITING
        it.exits("migrate", 0)
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING

    policy = RestartPolicy(type=RestartType.ON_FAILURE, backoff=1.0, multiplier=1.0)
    scenario(story, web=on("migrate"), migrate={"type": "oneshot", "restart_policy": policy})


@pytest.mark.parametrize(("code", "state"), [(0, State.RUNNING), (4, State.RUNNING)])
def test_completed_is_any_exit(code, state):
    async def story(it):
        it.exits("job", code)
        await trio.sleep(1)
        assert it.states()["web"] == state

    scenario(story, web=on(job=Dependency(condition=Condition.COMPLETED)), job={"type": "oneshot"})


def test_completed_needs_a_run():
    async def story(it):
        assert it.states() == {"web": State.FATAL, "job": State.FATAL}

    it = Set(web=on(job=Dependency(condition=Condition.COMPLETED)), job={"type": "oneshot"})
    it.spawner.refuse = 1

    async def test():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.over)
            await trio.sleep(1)
            await story(it)
            nursery.cancel_scope.cancel()

    run(test)


def test_a_soft_dependency_that_fails_is_done_without(capsys):
    async def story(it):
        assert it.states()["web"] == State.WAITING
        it.exits("cache", 1)
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING

    scenario(story, web=on(cache=Dependency(required=False)), cache={"type": "oneshot"})
    assert "web: starts without cache, which it does not require" in capsys.readouterr().err


@pytest.mark.parametrize("required", [True, False])
def test_a_scheduled_one_that_falls_with_another_is_not_waited_for(required):
    """Nor is one that has no time to come; but whoever has failed by itself has a next run."""

    async def story(it):
        it.exits("db", 1)
        await trio.sleep(61)
        assert it.states()["job"] == State.FATAL
        status = it.supervisor.status("web")
        if required:
            assert (status.state, status.last_exit.cause) == (State.FATAL, Cause.DEPENDENCY)
            assert "web -> job -> db" in status.reason
        else:
            assert status.state == State.RUNNING
        await it.supervisor.start(["db"])
        await trio.sleep(60)
        assert it.states() == {"db": State.RUNNING, "job": State.RUNNING, "web": State.RUNNING, "other": State.RUNNING}

    scenario(
        story,
        db={"restart_policy": RestartPolicy(type=RestartType.ON_FAILURE, max_retries=0)},
        job={"schedule": Schedule(every=60.0), **on(db=Dependency(condition=Condition.STARTED))},
        web=on(job=Dependency(condition=Condition.STARTED, required=required)),
        other={},
    )


def test_one_that_can_never_be_scheduled_is_not_waited_for():
    async def story(it):
        assert it.states()["web"] == State.FATAL
        assert "no time zone" in it.supervisor.status("web").reason

    job = {"schedule": Schedule(cron="* * * * *", timezone="No/Where")}
    scenario(story, job=job, web=on(job=Dependency()), other={})


def test_a_soft_dependency_that_nobody_wants_up_is_not_waited_for():
    async def story(it):
        await it.supervisor.stop(["web", "cache"])
        await trio.sleep(1)
        await it.supervisor.start(["web"])
        assert it.states() == {"web": State.RUNNING, "cache": State.STOPPED}

    scenario(story, web=on(cache=Dependency(required=False)), cache={})


def test_a_start_starts_what_is_required_first():
    async def story(it):
        await it.supervisor.stop(["web", "api", "db"])
        await trio.sleep(1)
        count = len(it.spawner.children)
        await it.supervisor.start(["web"])
        await trio.sleep(1)
        assert started(it)[count:] == ["db", "api", "web"]

    scenario(story, web=on("api"), api=on("db"), db={}, other={})


def test_a_start_of_all_that_failed_does_not_look_at_how_it_was():
    async def story(it):
        it.exits("db", 7)
        await trio.sleep(5)
        assert it.states() == {"web": State.FATAL, "api": State.FATAL, "db": State.FATAL, "other": State.RUNNING}
        it.exits("other", 0)
        seen = []
        it.supervisor.subscribe(lambda change: seen.append(change.after))
        await it.supervisor.start(["web"])  # the last one ends while this is under way
        await trio.sleep(1)
        assert State.FATAL not in seen
        assert it.states() == {"web": State.RUNNING, "api": State.RUNNING, "db": State.RUNNING, "other": State.EXITED}
        assert it.ending is None

    health = {"readiness_probe": PROBE, "restart_policy": RestartPolicy(type=RestartType.ALWAYS, max_retries=0)}

    async def test():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.over)
            await trio.sleep(0.1)
            await story(it)
            nursery.cancel_scope.cancel()

    for _ in range(10):  # whose task comes first is a matter of chance
        it = Set(web=on("api"), api=on("db"), db=health, other={})
        it.supervisor._processes["db"].health = FakeHealth(delay=0.5)
        run(test)


def test_a_start_does_not_repeat_what_is_done():
    async def story(it):
        it.exits("migrate", 0)
        await trio.sleep(1)
        await it.supervisor.restart(["web"])
        await trio.sleep(1)
        assert started(it).count("migrate") == 1
        assert started(it).count("web") == 2

    scenario(story, web=on("migrate"), migrate={"type": "oneshot"})


def test_a_stop_of_a_dependency_leaves_those_that_run_alone():
    async def story(it):
        await it.supervisor.stop(["db"])
        await trio.sleep(1)
        assert it.states() == {"web": State.RUNNING, "db": State.STOPPED}
        it.exits("web", 1)
        await trio.sleep(5)
        assert reason(it, "web") == 'waiting for "db" to be started (stopped, not wanted up)'
        await it.supervisor.start(["db"])
        await trio.sleep(1)
        assert it.states() == {"web": State.RUNNING, "db": State.RUNNING}
        assert it.supervisor.status("web").restarts == 1

    scenario(story, web={"restart_policy": ALWAYS, **on("db")}, db={})


def test_a_stop_while_waiting_ends_the_wait():
    async def story(it):
        await it.supervisor.stop(["web"])
        assert it.states()["web"] == State.STOPPED
        it.exits("job", 0)
        await trio.sleep(5)
        assert it.states()["web"] == State.STOPPED
        assert it.ending is None

    scenario(story, web=on("job"), job={"type": "oneshot"})


def test_restarts_are_followed_where_that_is_wanted():
    async def story(it):
        it.exits("db", 1)
        await trio.sleep(5)
        assert it.supervisor.status("follower").restarts_by_cause == {"dependency": 1}
        assert it.supervisor.status("second").restarts_by_cause == {"dependency": 1}
        assert it.supervisor.status("other").restarts == 0
        assert set(it.states().values()) == {State.RUNNING}
        await it.supervisor.restart(["db"])
        await trio.sleep(5)
        assert it.supervisor.status("follower").restarts_by_cause == {"dependency": 2}

    follow = Dependency(restart=True)
    scenario(
        story,
        db={"restart_policy": ALWAYS},
        follower=on(db=follow),
        second=on(follower=follow),
        other=on("db"),
    )


def test_nobody_is_restarted_by_a_shutdown_in_progress():
    async def story(it):
        await it.supervisor.stop_all()
        assert len(it.spawner.children) == 2

    it = scenario(story, db={"restart_policy": ALWAYS}, web=on(db=Dependency(restart=True)))
    assert it.states() == {"db": State.STOPPED, "web": State.STOPPED}


def test_everything_stops_in_reverse_and_waits_for_it():
    async def story(it):
        it.spawner.fatal = set()
        for child in it.spawner.children:
            child.fatal = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop_all)
            for expected in (["web", "other"], ["api"], ["db"]):
                await trio.sleep(1)
                told = [c for c in it.spawner.children if signal.SIGTERM in c.signals and c.status is None]
                assert sorted(c.spec.argv[0] for c in told) == sorted(expected)
                for child in told:
                    child.die(ExitStatus(code=0))

    it = scenario(story, web=on("api", "db"), api=on("db"), db={}, other={})
    assert set(it.states().values()) == {State.STOPPED}


def test_a_dependency_that_dies_during_the_shutdown_stays_down():
    async def story(it):
        it.child("web").fatal = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop_all)
            await trio.sleep(1)
            it.exits("db", 1)
            await trio.sleep(5)
            assert len(it.spawner.children) == 2
            it.exits("web", 0)

    it = scenario(story, web=on("db"), db={"restart_policy": ALWAYS})
    assert set(it.states().values()) == {State.STOPPED}


def test_the_bound_is_the_longest_chain_of_graces(capsys):
    async def story(it):
        for child in it.spawner.children:
            child.fatal = set()
        began = trio.current_time()
        await it.supervisor.stop_all()
        assert trio.current_time() - began == pytest.approx(7 + 11)

    scenario(
        story,
        web={"termination_grace_period": 7.0, **on("db")},
        db={"termination_grace_period": 11.0},
        other={"termination_grace_period": 13.0},
    )
    assert "stopping 3 processes, within 28s" in capsys.readouterr().err


def test_a_short_shutdown_is_shared_out_along_the_chain():
    async def story(it):
        for child in it.spawner.children:
            child.fatal = set()
        began = trio.current_time()
        ends = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop_all)
            for name in ("web", "db", "other"):

                async def watch(name=name):
                    await it.child(name).dead.wait()
                    ends[name] = trio.current_time() - began

                nursery.start_soon(watch)
        assert ends == {"web": pytest.approx(6), "db": pytest.approx(18), "other": pytest.approx(18)}

    scenario(
        story,
        shutdown_timeout=20.0,
        web={"termination_grace_period": 20.0, **on("db")},
        db={"termination_grace_period": 40.0},
        other={"termination_grace_period": 60.0},
    )


def test_hurrying_ends_every_grace_in_the_chain():
    async def story(it):
        for child in it.spawner.children:
            child.fatal = set()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop_all)
            await trio.sleep(1)
            it.supervisor.hurry()
        assert trio.current_time() - began < 2

    scenario(story, web=on("api"), api=on("db"), db={})


def test_several_are_stopped_in_order_when_an_operator_asks():
    async def story(it):
        it.child("web").fatal = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop, ["db", "web"])
            await trio.sleep(1)
            assert it.states() == {"web": State.STOPPING, "api": State.RUNNING, "db": State.RUNNING}
            it.exits("web", 0)
        await trio.sleep(1)
        assert it.states() == {"web": State.STOPPED, "api": State.RUNNING, "db": State.STOPPED}

    scenario(story, web=on("api"), api=on("db"), db={})


def test_healthy_waits_for_readiness_and_started_does_not():
    it = Set(
        web=on(db=Dependency(condition=Condition.HEALTHY)),
        agent=on(db=Dependency(condition=Condition.STARTED)),
        log=on("db"),
        db={"readiness_probe": PROBE},
    )
    health = FakeHealth(delay=10)
    it.supervisor._processes["db"].health = health

    async def test():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.over)
            await trio.sleep(1)
            expected = {"web": State.WAITING, "agent": State.RUNNING, "log": State.WAITING, "db": State.STARTING}
            assert it.states() == expected
            assert reason(it, "web") == 'waiting for "db" to be healthy (starting)'
            await trio.sleep(10)
            assert set(it.states().values()) == {State.RUNNING}
            # What runs goes on when readiness goes; what starts then waits
            health.ready = False
            it.supervisor._processes["db"].readiness_changed()
            await it.supervisor.restart(["web"])
            await trio.sleep(1)
            assert it.states()["web"] == State.WAITING
            assert it.states()["log"] == State.RUNNING
            health.ready = True
            it.supervisor._processes["db"].readiness_changed()
            await trio.sleep(1)
            assert it.states()["web"] == State.RUNNING
            nursery.cancel_scope.cancel()

    run(test)


def test_a_health_that_ended_is_a_failure_for_good():
    it = Set(web=on("db"), db={"readiness_probe": PROBE})
    it.supervisor._processes["db"].health = FakeHealth(delay=10)

    async def test():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.over)
            await trio.sleep(1)
            it.exits("db", 0)
            await trio.sleep(1)
            assert it.states()["web"] == State.FATAL
            assert "has ended, so it cannot be ready: exited with status 0" in reason(it, "web")
            nursery.cancel_scope.cancel()

    run(test)


def test_all_replicas_are_waited_for():
    async def story(it):
        it.child("job").die(ExitStatus(code=0))
        await trio.sleep(1)
        assert it.states()["web"] == State.WAITING
        for child in it.spawner.children:
            if child.status is None:
                child.die(ExitStatus(code=0))
        await trio.sleep(1)
        assert it.states()["web"] == State.RUNNING

    scenario(story, web=on("job"), job={"type": "oneshot", "replicas": 3})


def test_what_comes_after_the_end_counts_for_the_bound(capsys):
    async def story(it):
        await it.supervisor.stop_all()

    scenario(story, a={"termination_grace_period": 3.0, "post_stop": (Command(command="x", timeout=4.0),)})
    assert "within 17s" in capsys.readouterr().err
