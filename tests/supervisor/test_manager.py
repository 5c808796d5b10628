"""The set of processes: when it is over, with which status, and how it is stopped."""

import signal

import pytest
import trio

from ocelot import log
from ocelot.config import structs
from ocelot.config.structs import RestartPolicy, RestartType
from ocelot.errors import ControlError
from ocelot.linux.inherited import Inherited
from ocelot.states import ExitStatus, LogLevel, State
from supervisor.manager import Supervisor
from tests.supervisor.fakes import FakeOutput, FakeSpawner, run


class Set:
    """A supervisor on fakes; processes by name, their children by name in ``child``."""

    def __init__(self, shutdown_timeout=None, **processes):
        self.spawner = FakeSpawner()
        self.supervisor = Supervisor(
            {name: structs.Process(program=name, **config) for name, config in processes.items()},
            reaper=self.spawner,
            inherited=Inherited({}, {}),
            environment={},
            stdout=None,
            stderr=None,
            make_output=FakeOutput,
            shutdown_timeout=shutdown_timeout,
        )
        self.ending = None

    def child(self, name):
        return [child for child in self.spawner.children if child.spec.argv[0] == name][-1]

    def exits(self, name, code):
        self.child(name).die(ExitStatus(code=code))

    async def over(self):
        self.ending = await self.supervisor.run()

    def states(self):
        return {status.name: status.state for status in self.supervisor.statuses()}


def scenario(story, **kwargs):
    """Run ``story(set)`` beside the set, and return the set with its ending, None if it still goes on."""
    processes = Set(**kwargs)

    async def test():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(processes.over)
            await trio.sleep(1)
            await story(processes)
            await trio.sleep(1000)
            nursery.cancel_scope.cancel()

    run(test)
    return processes


def test_everything_ended_well():
    async def story(it):
        it.exits("a", 0)
        await trio.sleep(1)
        assert it.ending is None
        it.exits("b", 0)

    assert scenario(story, a={}, b={}).ending.status == 0


def test_the_first_failure_decides():
    async def story(it):
        it.exits("a", 0)
        await trio.sleep(1)
        it.exits("b", 4)
        await trio.sleep(1)
        it.exits("c", 5)

    ending = scenario(story, a={}, b={}, c={}).ending
    assert (ending.status, ending.process) == (4, "b")


def test_a_signal_counts_as_128_and_its_number():
    async def story(it):
        it.child("a").die(ExitStatus(signal=signal.SIGSEGV))

    assert scenario(story, a={}).ending.status == 139


def test_a_configured_success_is_no_failure():
    async def story(it):
        it.exits("a", 3)
        it.exits("b", 0)

    assert scenario(story, a={"restart_policy": RestartPolicy(success_exit_codes=(3,))}, b={}).ending.status == 0


def test_an_essential_end_stops_the_rest_and_decides():
    async def story(it):
        it.exits("b", 9)
        await trio.sleep(1)
        it.exits("a", 2)

    it = scenario(story, a={"essential": True}, b={}, c={})
    assert (it.ending.status, it.ending.process) == (2, "a")
    assert it.states()["c"] == State.STOPPED


def test_an_essential_success_ends_it_too():
    async def story(it):
        it.exits("a", 0)

    it = scenario(story, a={"essential": True}, b={})
    assert (it.ending.status, it.ending.process) == (0, "a")


def test_an_essential_process_that_is_restarted_has_not_ended():
    async def story(it):
        it.exits("a", 1)
        await trio.sleep(100)
        assert it.states()["a"] == State.RUNNING

    policy = RestartPolicy(type=RestartType.ALWAYS)
    assert scenario(story, a={"essential": True, "restart_policy": policy}).ending is None


def test_an_operator_who_stops_the_last_one_ends_nothing():
    async def story(it):
        it.exits("a", 0)
        await it.supervisor.stop(["b"])

    it = scenario(story, a={}, b={})
    assert it.ending is None
    assert it.states() == {"a": State.EXITED, "b": State.STOPPED}


def test_an_operator_who_stops_an_essential_one_ends_nothing():
    async def story(it):
        await it.supervisor.stop(["a"])

    assert scenario(story, a={"essential": True}, b={}).ending is None


def test_what_was_started_again_has_to_end_again():
    async def story(it):
        it.exits("a", 0)
        await trio.sleep(1)
        await it.supervisor.start(["a"])
        it.exits("b", 0)
        await trio.sleep(100)
        assert it.ending is None
        it.exits("a", 0)

    assert scenario(story, a={}, b={}).ending is not None


def test_a_set_of_none_holds_until_it_is_told_to_stop():
    async def story(it):
        await trio.sleep(100)
        assert it.ending is None
        await it.supervisor.stop_all(reason="SIGTERM")

    ending = scenario(story).ending
    assert (ending.status, ending.process, ending.reason) == (0, None, "SIGTERM")


def test_a_program_that_never_ran_counts_as_a_shell_counts_it():
    it = Set(a={})
    it.spawner.refuse = 1
    run(it.over)
    assert (it.ending.status, it.ending.process) == (127, "a")


def test_stopping_goes_in_reverse_order():
    async def story(it):
        order = []
        it.supervisor.subscribe(lambda change: order.append(change.name) if change.after is State.STOPPING else None)
        await it.supervisor.stop_all()
        assert order == ["c", "b", "a"]

    scenario(story, a={}, b={}, c={})


def test_the_bound_is_the_longest_grace_and_ten_seconds_and_is_said_in_advance():
    log.recent.clear()

    async def story(it):
        it.spawner.children[0].fatal = it.spawner.children[1].fatal = set()
        began = trio.current_time()
        await it.supervisor.stop_all()
        assert trio.current_time() - began == pytest.approx(7)

    scenario(story, a={"termination_grace_period": 7}, b={"termination_grace_period": 3})
    assert (LogLevel.INFO, "stopping 2 processes, within 17s") in log.recent


def test_a_shorter_shutdown_timeout_holds():
    async def story(it):
        it.child("a").fatal = set()
        began = trio.current_time()
        await it.supervisor.stop_all()
        assert trio.current_time() - began <= 5
        assert it.states()["a"] == State.STOPPED

    scenario(story, shutdown_timeout=5, a={})


def test_what_not_even_sigkill_ends_is_named_and_left():
    log.recent.clear()

    async def story(it):
        it.child("a").signal_group = lambda number: None
        began = trio.current_time()
        await it.supervisor.stop_all()
        assert trio.current_time() - began == pytest.approx(15)

    scenario(story, a={"termination_grace_period": 5}, b={"termination_grace_period": 5})
    assert any(level is LogLevel.ERROR and line.startswith("cannot stop a:") for level, line in log.recent)


def test_a_second_request_shortens_nothing_but_hurry_does():
    async def story(it):
        it.child("a").fatal = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop_all)
            await trio.sleep(5)
            nursery.start_soon(it.supervisor.stop_all)
            await trio.sleep(5)
            assert it.states()["a"] == State.STOPPING
            it.supervisor.hurry()
            await trio.sleep(0.1)
            assert it.states()["a"] == State.STOPPED

    scenario(story, a={})


def test_nothing_is_started_while_everything_is_being_stopped():
    async def story(it):
        it.child("a").fatal = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.supervisor.stop_all)
            await trio.sleep(1)
            for ask in (it.supervisor.start, it.supervisor.restart):
                with pytest.raises(ControlError, match="everything is being stopped"):
                    await ask(["b"])
            nursery.cancel_scope.cancel()

    scenario(story, a={}, b={})


def test_after_a_request_the_status_shows_it():
    async def story(it):
        it.child("a").fatal = set()
        await it.supervisor.restart(["a"])
        assert it.states()["a"] == State.STOPPING
        it.exits("b", 0)
        await trio.sleep(1)
        await it.supervisor.start(["b"])
        assert it.states()["b"] in (State.STARTING, State.RUNNING)
        await it.supervisor.stop(["b"])
        assert it.states()["b"] in (State.STOPPING, State.STOPPED)

    scenario(story, a={}, b={})


def test_an_unknown_name_is_an_error_and_nothing_is_done():
    async def story(it):
        with pytest.raises(ControlError) as error:
            await it.supervisor.stop(["a", "nope"])
        assert (error.value.status, error.value.kind) == (404, "no-such-process")
        assert it.states()["a"] == State.RUNNING

    scenario(story, a={})


def test_a_listener_that_fails_is_left_out_and_the_set_goes_on():
    async def story(it):
        seen = []

        def broken(change):
            raise RuntimeError("oops")

        it.supervisor.subscribe(broken)
        it.supervisor.subscribe(seen.append)
        await it.supervisor.restart(["a"])
        await trio.sleep(1)
        assert it.states()["a"] == State.RUNNING
        assert len(seen) == 4

    scenario(story, a={})


def test_changed_is_set_by_the_next_change():
    async def story(it):
        event = it.supervisor.changed()
        assert not event.is_set()
        await it.supervisor.stop(["a"])
        assert event.is_set()
        assert not it.supervisor.changed().is_set()

    scenario(story, a={})


@pytest.mark.parametrize(
    ("processes", "reached"),
    [
        ({"a": {}}, "a"),
        ({"a": {}, "b": {"essential": True}}, "b"),
        ({"a": {}, "b": {}}, None),
        ({}, None),
    ],
)
def test_signals_are_forwarded_to_the_main_process(processes, reached):
    async def story(it):
        assert it.supervisor.forward(signal.SIGUSR1) == reached
        got = [child.spec.argv[0] for child in it.spawner.children if signal.SIGUSR1 in child.signals]
        assert got == ([reached] if reached else [])

    scenario(story, **processes)


@pytest.mark.parametrize("going_down", [False, True])
def test_nobody_waits_for_a_set_that_has_failed_itself(going_down):
    """Else the machine would not go down: nobody is left who could stop anything."""

    it = Set(a={}, b={})
    it.spawner.fatal = set()  # it takes its grace period to stop

    async def fail():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.over)
            await trio.sleep(1)
            if going_down:
                nursery.start_soon(it.supervisor.stop_all)
                await trio.sleep(1)
            it.child("a").status = "a bug of ours"
            it.child("a").on_exit()
            await trio.sleep(1)

    async def test():
        with pytest.raises(ExceptionGroup):
            await fail()
        with trio.fail_after(1):
            await it.supervisor.stop_all()

    run(test)
