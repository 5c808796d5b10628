"""One process and its life, on a clock that jumps."""

import errno
import signal

import pytest
import trio

from ocelot.config import structs
from ocelot.config.structs import RestartPolicy, RestartType
from ocelot.states import Cause, ExitStatus, Goal, State
from supervisor.lifecycle import Event
from supervisor.process.life import FINISH_TIMEOUT
from supervisor.process.supervised import Process
from tests.supervisor.fakes import FakeOutput, FakeSpawner, living, run, surroundings

ALWAYS = RestartPolicy(type=RestartType.ALWAYS)


class Bench:
    def __init__(self, **config):
        self.spawner = FakeSpawner()
        self.output = FakeOutput()
        self.changes = []
        slow = config.pop("slow", lambda spec: False)
        self.process = Process(
            "p",
            structs.Process(program="prog", **config),
            surroundings(self.spawner, slow=slow),
            self.output,
            self.changes.append,
        )

    async def start(self):
        self.process.start()
        await self.process.settled()

    @property
    def path(self):
        return [change.after for change in self.changes]


def test_it_starts_with_its_surroundings():
    async def test():
        bench = Bench(arguments=("-x",), working_directory="/w", environment_variables={"OWN": "2", "PHASE": "3"})
        async with living(bench.process):
            await bench.start()
            assert bench.process.state is State.RUNNING
            spec = bench.spawner.last.spec
            assert (spec.argv, spec.working_directory) == (("prog", "-x"), "/w")
            assert spec.environment["OWN"] == "2"
            assert spec.environment["PHASE"] == "3"
            assert spec.environment["PATH"] == "/bin:/run/ocelot/bin"
            assert (bench.output.opened, bench.output.closed) == (1, 1)

    run(test)


def test_each_state_is_published_once_and_in_order():
    async def test():
        bench = Bench(restart_policy=ALWAYS)
        async with living(bench.process):
            await bench.start()
            bench.spawner.last.die(ExitStatus(code=7))
            await trio.sleep(3)
            assert [(c.before, c.after, c.event) for c in bench.changes] == [
                (State.STOPPED, State.STARTING, Event.START),
                (State.STARTING, State.RUNNING, Event.READY),
                (State.RUNNING, State.BACKOFF, Event.RETRY),
                (State.BACKOFF, State.STARTING, Event.START),
                (State.STARTING, State.RUNNING, Event.READY),
            ]
            assert bench.changes[2].cause is Cause.EXIT
            assert "exited with status 7" in bench.changes[2].reason

    run(test)


def test_the_backoff_takes_its_time():
    async def test():
        bench = Bench(restart_policy=ALWAYS)
        async with living(bench.process):
            await bench.start()
            for delay in (2, 4, 8):
                bench.spawner.last.die(ExitStatus(signal=9))
                await trio.testing.wait_all_tasks_blocked()
                assert bench.process.status().next_start_in == pytest.approx(delay)
                count = len(bench.spawner.children)
                await trio.sleep(delay - 0.01)
                assert len(bench.spawner.children) == count
                await trio.sleep(0.02)
                assert len(bench.spawner.children) == count + 1
            assert bench.process.history.restarts == {"signal": 3}

    run(test)


def test_a_program_that_cannot_be_executed_goes_through_the_restart_policy():
    async def test():
        bench = Bench(restart_policy=RestartPolicy(type=RestartType.ON_FAILURE, max_retries=2))
        bench.spawner.refuse = 99
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(10)
            assert bench.process.state is State.FATAL
            assert bench.spawner.refuse == 99 - 3
            status = bench.process.status()
            assert (status.last_exit.status, status.last_exit.cause) == (127, "spawn-failed")
            assert "no such file" in status.reason
            assert bench.output.closed == 3

    run(test)


@pytest.mark.parametrize("then", [State.FATAL, State.STOPPED])
def test_one_that_is_started_by_hand_has_all_of_its_tries_again(then):
    async def test():
        bench = Bench(restart_policy=RestartPolicy(type=RestartType.ON_FAILURE, max_retries=2))
        bench.spawner.refuse = 99
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(10 if then is State.FATAL else 3)
            bench.process.stop(Cause.OPERATOR)
            await bench.process.settled()
            assert bench.process.state is then
            bench.spawner.refuse = 99
            bench.process.start()
            await trio.sleep(10)
            assert (bench.process.state, bench.spawner.refuse) == (State.FATAL, 99 - 3)
            assert bench.process.reason.endswith("gave up after 2 restarts in a row (maxRetries)")

    run(test)


def test_a_log_that_cannot_be_opened_is_such_a_failure_too():
    async def test():
        bench = Bench()
        bench.output.broken = OSError(24, "Too many open files")
        async with living(bench.process):
            await bench.start()
            assert bench.process.state is State.FATAL
            assert "cannot open its log: Too many open files" in bench.process.reason
            assert not bench.spawner.children

    run(test)


def test_a_spawn_that_always_fails_at_once_does_not_starve_the_others():
    async def test():
        bench = Bench(restart_policy=RestartPolicy(type=RestartType.ALWAYS, backoff=0.0))
        bench.spawner.refuse = 10**9
        async with living(bench.process):
            bench.process.start()
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            bench.process.stop(Cause.OPERATOR)
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            assert bench.process.state is State.STOPPED

    trio.run(test)


def test_a_stop_reaches_the_group_and_waits_for_its_end():
    async def test():
        bench = Bench(shutdown_signal=signal.SIGINT, termination_grace_period=5)
        bench.spawner.fatal = {signal.SIGINT}
        async with living(bench.process):
            await bench.start()
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert bench.spawner.last.signals[0] == signal.SIGINT
            assert signal.SIGKILL not in bench.spawner.last.signals
            assert (bench.process.state, bench.process.goal) == (State.STOPPED, Goal.DOWN)
            assert bench.process.status().last_exit.cause == "operator"
            assert bench.output.finished == 1

    run(test)


def test_who_ignores_the_signal_is_killed_after_the_grace_period():
    async def test():
        bench = Bench(termination_grace_period=5)
        bench.spawner.fatal = set()
        async with living(bench.process):
            await bench.start()
            began = trio.current_time()
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert trio.current_time() - began == pytest.approx(5)
            assert bench.spawner.last.signals == [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]
            assert bench.spawner.last.kill_group

    run(test)


def test_members_that_outlive_their_leader_keep_its_grace_and_no_more():
    async def test():
        bench = Bench(termination_grace_period=5)
        bench.spawner.members = 2
        async with living(bench.process):
            await bench.start()
            began = trio.current_time()
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert trio.current_time() - began == pytest.approx(5)
            assert bench.spawner.killed == [bench.spawner.last.pid]
            assert not bench.spawner.watched

    run(test)


def test_members_that_end_in_time_are_not_waited_for_longer():
    async def test():
        bench = Bench(termination_grace_period=5)
        bench.spawner.members = 2
        async with living(bench.process):
            await bench.start()
            began = trio.current_time()
            bench.process.stop(Cause.OPERATOR)
            await trio.sleep(1)
            assert bench.process.state is State.STOPPING
            bench.spawner.watched[bench.spawner.last.pid]()
            await bench.process.down()
            assert trio.current_time() - began == pytest.approx(1)
            assert not bench.spawner.killed

    run(test)


def test_a_kill_ends_the_grace_period():
    async def test():
        bench = Bench()
        bench.spawner.fatal = set()
        async with living(bench.process):
            await bench.start()
            bench.process.stop(Cause.SHUTDOWN)
            await trio.sleep(1)
            bench.process.kill()
            await bench.process.down()
            assert trio.current_time() < 10

    run(test)


def test_a_shutdown_may_leave_less_than_the_grace_period():
    async def test():
        bench = Bench()
        bench.spawner.fatal = set()
        async with living(bench.process):
            await bench.start()
            began = trio.current_time()
            bench.process.stop(Cause.OPERATOR)
            await trio.sleep(1)
            bench.process.stop(Cause.SHUTDOWN, limit=3)
            await bench.process.down()
            assert trio.current_time() - began == pytest.approx(3)

    run(test)


def test_a_restart_stops_and_starts_and_is_counted():
    async def test():
        bench = Bench()
        async with living(bench.process):
            await bench.start()
            bench.process.restart()
            await bench.process.settled()
            assert bench.process.state is State.RUNNING
            assert len(bench.spawner.children) == 2
            assert bench.process.history.restarts == {"operator": 1}

    run(test)


def test_a_stop_during_the_backoff_stays_stopped():
    async def test():
        bench = Bench(restart_policy=ALWAYS)
        async with living(bench.process):
            await bench.start()
            bench.spawner.last.die(ExitStatus(code=1))
            await trio.sleep(1)
            assert bench.process.state is State.BACKOFF
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            await trio.sleep(100)
            assert bench.process.state is State.STOPPED
            assert len(bench.spawner.children) == 1

    run(test)


def test_a_start_during_the_backoff_ends_it():
    async def test():
        bench = Bench(restart_policy=RestartPolicy(type=RestartType.ALWAYS, backoff=50.0))
        async with living(bench.process):
            await bench.start()
            bench.spawner.last.die(ExitStatus(code=1))
            await trio.sleep(1)
            began = trio.current_time()
            await bench.start()
            assert bench.process.state is State.RUNNING
            assert trio.current_time() == began

    run(test)


def test_a_start_during_a_stop_starts_again_after_it():
    async def test():
        bench = Bench(termination_grace_period=5)
        bench.spawner.fatal = set()
        async with living(bench.process):
            await bench.start()
            bench.process.stop(Cause.OPERATOR)
            await trio.sleep(1)
            bench.process.start()
            await bench.process.settled()
            assert bench.process.state is State.RUNNING
            assert len(bench.spawner.children) == 2

    run(test)


def test_a_start_and_a_stop_at_once_leave_nothing_running():
    async def test():
        bench = Bench()
        async with living(bench.process):
            bench.process.start()
            bench.process.stop(Cause.OPERATOR)
            await trio.sleep(1)
            assert bench.process.state is State.STOPPED
            assert not bench.spawner.children

    run(test)


def test_a_death_and_a_stop_at_once_do_not_restart():
    async def test():
        bench = Bench(restart_policy=RestartPolicy(type=RestartType.ALWAYS, backoff=0.0))
        async with living(bench.process):
            await bench.start()
            bench.spawner.last.die(ExitStatus(code=1))
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            await trio.sleep(10)
            assert bench.process.state is State.STOPPED
            assert len(bench.spawner.children) == 1

    run(test)


def test_what_has_ended_stays_visible_after_a_stop_and_can_be_started():
    async def test():
        bench = Bench()
        async with living(bench.process):
            await bench.start()
            bench.spawner.last.die(ExitStatus(code=3))
            await trio.sleep(1)
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert bench.process.state is State.EXITED
            await bench.start()
            assert bench.process.state is State.RUNNING

    run(test)


def test_a_program_on_a_slow_root_is_started_aside():
    async def test():
        bench = Bench(slow=lambda spec: spec.argv == ("prog",))
        async with living(bench.process):
            await bench.start()
            assert bench.process.state is State.RUNNING
            assert trio.current_time() > 1

    run(test)


def test_a_stop_does_not_wait_for_a_slow_root():
    async def test():
        bench = Bench(slow=lambda spec: True)
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(1)
            assert bench.process.state is State.STARTING
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert bench.process.state is State.STOPPED
            assert trio.current_time() < 10

    run(test)


def test_output_that_never_ends_holds_up_nothing_for_long():
    async def test():
        bench = Bench(restart_policy=RestartPolicy(type=RestartType.ALWAYS, backoff=0.0))
        bench.output.finish = trio.sleep  # as long as it may
        async with living(bench.process):
            await bench.start()
            bench.spawner.last.die(ExitStatus(code=1))
            await trio.sleep(FINISH_TIMEOUT + 1)
            assert len(bench.spawner.children) == 2

    run(test)


def test_the_status_tells_it_all():
    async def test():
        bench = Bench(restart_policy=ALWAYS, essential=True, type="oneshot")
        async with living(bench.process):
            before = bench.process.status()
            assert (before.state, before.goal, before.pid, before.uptime) == ("stopped", "down", None, None)
            await bench.start()
            await trio.sleep(5)
            status = bench.process.status()
            assert (status.pid, status.ready, status.essential, status.type) == (100, True, True, "oneshot")
            assert status.uptime == pytest.approx(5)
            bench.spawner.last.die(ExitStatus(signal=11, core_dumped=True))
            await trio.sleep(1)
            status = bench.process.status()
            assert (status.pid, status.ready, status.uptime) == (None, False, None)
            assert (status.last_exit.status, status.last_exit.signal) == (139, "SIGSEGV")
            assert status.last_exit.detail == "was killed by SIGSEGV (core dumped)"

    run(test)


NO_THREAD = RuntimeError("can't start new thread")


def test_what_the_kernel_refuses_a_start_goes_through_the_restart_policy():
    """A pids limit that is reached: no thread for the environment file."""

    async def test():
        bench = Bench(restart_policy=ALWAYS, slow=lambda spec: True)
        refusals = [NO_THREAD, OSError(errno.EMFILE, "x"), MemoryError(), ExceptionGroup("x", [NO_THREAD])]
        spawn = bench.spawner.spawn_in_thread

        async def spawn_in_thread(spec, **kwargs):
            if refusals:
                raise refusals.pop()
            return await spawn(spec, **kwargs)

        bench.spawner.spawn_in_thread = spawn_in_thread
        async with living(bench.process):
            bench.process.start()
            await trio.sleep(1000)
            assert bench.process.state is State.RUNNING
            assert bench.process.status().restarts_by_cause == {"spawn-failed": 4}

    run(test)


def test_what_the_kernel_refuses_in_the_middle_of_a_stop_is_tried_again():
    async def test():
        bench = Bench()
        async with living(bench.process):
            await bench.start()
            refusals = [OSError(errno.ENFILE, "x")] * 3
            finish = bench.output.finish

            async def refused(within):
                if refusals:
                    raise refusals.pop()
                await finish(within)

            bench.output.finish = refused
            bench.process.stop(Cause.OPERATOR)
            await bench.process.down()
            assert bench.process.state is State.STOPPED
            assert bench.spawner.last.signals == [signal.SIGTERM]  # once, not each time

    run(test)


def test_a_mistake_of_ours_is_not_hidden():
    async def test():
        bench = Bench()
        bench.output.broken = KeyError("a bug")
        bench.process.start()
        with pytest.raises(KeyError):
            await bench.process.run()

    run(test)
