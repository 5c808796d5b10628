"""What is run before each start and after each end."""

import errno
import signal

import pytest
import trio

from ocelot.config.structs import Command, RestartPolicy, RestartType
from ocelot.states import Cause, ExitStatus, State
from tests.supervisor.fakes import FakeSpawner, living, run
from tests.supervisor.test_process import ALWAYS, Bench

ONCE = RestartPolicy(type=RestartType.ON_FAILURE, max_retries=1)


class Scripted(FakeSpawner):
    """Commands end by themselves after a second with the code in ``codes``; None: they hang."""

    def __init__(self, codes):
        super().__init__()
        self.codes = codes
        self.nursery = None

    def spawn(self, spec, *, on_exit):
        child = super().spawn(spec, on_exit=on_exit)
        code = self.codes.get(spec.argv[0])
        if spec.argv[0] in self.codes and code is not None:
            self.nursery.start_soon(self.end, child, code)
        return child

    async def end(self, child, code):
        await trio.sleep(1)
        if child.status is None:
            child.die(ExitStatus(code=code))

    @property
    def argvs(self):
        return [child.spec.argv[0] for child in self.children]


def scenario(story, codes, **config):
    async def test():
        bench = Bench(**config)
        bench.spawner = bench.process._around.spawner
        scripted = Scripted(codes)
        object.__setattr__(bench.process._around, "spawner", scripted)
        bench.spawner = scripted
        async with trio.open_nursery() as nursery:
            scripted.nursery = nursery
            async with living(bench.process):
                bench.process.start()
                await story(bench)
            nursery.cancel_scope.cancel()

    run(test)


def test_the_start_comes_after_all_that_is_run_before():
    async def story(it):
        await trio.sleep(1.5)
        assert (it.process.state, it.process.pid, it.process.reason) == (State.STARTING, None, "preStart runs")
        await trio.sleep(1)
        assert it.process.state is State.RUNNING
        assert it.spawner.argvs == ["one", "two", "prog"]
        assert it.spawner.children[0].spec.argv == ("one", "-x")
        assert it.spawner.children[0].spec.environment["OWN"] == "2"
        assert it.output.opened == it.output.closed == 3
        assert it.output.finished == 2

    commands = (Command(command="one", arguments=("-x",)), Command(command="two"))
    scenario(story, {"one": 0, "two": 0}, pre_start=commands, environment_variables={"OWN": "2"})


def test_a_failure_before_the_start_is_a_failed_start():
    async def story(it):
        await trio.sleep(20)
        assert it.process.state is State.FATAL
        assert it.spawner.argvs == ["one", "one"]
        last = it.process.history.last_exit
        assert (last.status, last.cause) == (3, Cause.SPAWN_FAILED)
        assert 'its preStart "one" exited with status 3' in it.process.reason
        assert it.process.history.restarts == {"spawn-failed": 1}

    commands = (Command(command="one"), Command(command="two"))
    scenario(story, {"one": 3, "two": 0}, pre_start=commands, restart_policy=ONCE)


def test_what_does_not_end_in_time_is_killed_with_its_group():
    async def story(it):
        await trio.sleep(6)
        assert it.process.state is State.FATAL
        assert it.spawner.children[0].signals == [signal.SIGKILL]
        assert it.spawner.children[0].kill_group
        assert 'cannot run "one" to its end within 5s' in it.process.reason

    scenario(story, {"one": None}, pre_start=(Command(command="one", timeout=5.0),))


def test_a_stop_ends_what_is_run_before():
    async def story(it):
        await trio.sleep(0.5)
        it.process.stop(Cause.OPERATOR)
        await it.process.down()
        assert trio.current_time() < 1
        assert it.process.state is State.STOPPED
        assert it.spawner.children[0].signals == [signal.SIGKILL]

    scenario(story, {"one": None}, pre_start=(Command(command="one"),))


@pytest.mark.parametrize("how", ["death", "stop"])
def test_after_each_end_all_is_run_whatever_becomes_of_it(how, capsys):
    async def story(it):
        await it.process.settled()
        if how == "death":
            it.spawner.children[0].die(ExitStatus(code=7))
        else:
            it.process.stop(Cause.OPERATOR)
        await trio.sleep(0.5)
        assert (it.process.state, it.process.pid) == (State.STOPPING, None)
        await trio.sleep(7)
        assert it.process.state is (State.EXITED if how == "death" else State.STOPPED)
        assert it.spawner.argvs == ["prog", "one", "two", "three"]
        assert it.spawner.children[3].signals == [signal.SIGKILL]
        variables = it.spawner.children[1].spec.environment
        status, cause = ("7", "exit") if how == "death" else ("143", "operator")
        assert (variables["OCELOT_EXIT_STATUS"], variables["OCELOT_EXIT_CAUSE"]) == (status, cause)

    commands = (Command(command="one"), Command(command="two"), Command(command="three", timeout=5.0))
    scenario(story, {"one": 5, "two": 0, "three": None}, post_stop=commands)
    said = capsys.readouterr().err
    assert 'its postStop "one" exited with status 5' in said
    assert 'postStop failed: cannot run "three" to its end within 5s' in said


def test_a_process_that_crashes_goes_on_when_what_follows_its_end_has_ended():
    async def story(it):
        await it.process.settled()
        it.spawner.children[0].die(ExitStatus(code=7))
        await trio.sleep(1.5)
        assert it.process.state is State.BACKOFF
        await trio.sleep(2)
        assert it.process.state is State.RUNNING
        assert it.spawner.argvs == ["prog", "one", "prog"]
        assert it.process.history.restarts == {"exit": 1}

    scenario(story, {"one": 0}, post_stop=(Command(command="one"),), restart_policy=ALWAYS)


def test_a_stop_while_that_runs_is_not_forgotten():
    async def story(it):
        await it.process.settled()
        it.spawner.children[0].die(ExitStatus(code=7))
        await trio.sleep(0.5)
        it.process.stop(Cause.OPERATOR)
        await it.process.down()
        await trio.sleep(50)
        assert it.process.state is State.STOPPED
        assert it.spawner.argvs == ["prog", "one"]

    scenario(story, {"one": 0}, post_stop=(Command(command="one"),), restart_policy=ALWAYS)


def test_a_restart_runs_both():
    async def story(it):
        await trio.sleep(2)
        it.process.restart()
        await trio.sleep(5)
        assert it.process.state is State.RUNNING
        assert it.spawner.argvs == ["pre", "prog", "post", "pre", "prog"]
        assert it.process.history.restarts == {"operator": 1}

    scenario(story, {"pre": 0, "post": 0}, pre_start=(Command(command="pre"),), post_stop=(Command(command="post"),))


def test_a_hurry_does_not_wait_for_what_follows():
    async def story(it):
        await it.process.settled()
        it.process.stop(Cause.SHUTDOWN)
        await trio.sleep(1)
        it.process.kill()
        await it.process.down()
        assert trio.current_time() < 3
        assert it.spawner.last.signals == [signal.SIGKILL]

    scenario(story, {"one": None}, post_stop=(Command(command="one"),))


def test_a_command_that_cannot_be_started_after_the_end_is_only_told(capsys):
    async def story(it):
        await it.process.settled()
        it.spawner.refuse = 1
        it.spawner.children[0].die(ExitStatus(code=0))
        await trio.sleep(3)
        assert it.process.state is State.EXITED
        assert it.spawner.argvs == ["prog", "two"]

    commands = (Command(command="one"), Command(command="two"))
    scenario(story, {"one": 0, "two": 0}, post_stop=commands)
    assert "postStop failed" in capsys.readouterr().err


@pytest.mark.parametrize("refusal", [MemoryError(), OSError(errno.ENFILE, "x")])
def test_what_the_kernel_refuses_after_the_end_does_not_count_for_the_next_stop(refusal):
    async def story(it):
        await it.process.settled()
        spawn = it.spawner.spawn

        def refused(spec, *, on_exit):
            it.spawner.spawn = spawn
            raise refusal

        it.spawner.spawn = refused
        it.process.stop(Cause.OPERATOR)
        await it.process.down()
        assert (it.process.state, it.spawner.argvs) == (State.STOPPED, ["prog", "two"])
        it.process.start()
        await it.process.settled()
        await trio.sleep(100)
        it.spawner.last.fatal = set()
        it.process.stop(Cause.OPERATOR)
        await trio.sleep(59)
        assert it.spawner.last.signals == [signal.SIGTERM, signal.SIGCONT]
        await it.process.down()

    commands = (Command(command="one"), Command(command="two"))
    scenario(story, {"one": 0, "two": 0}, post_stop=commands)


def test_after_a_failed_start_it_is_run_too():
    async def story(it):
        await trio.sleep(5)
        assert it.process.state is State.FATAL
        assert it.spawner.argvs == ["one", "after"]

    scenario(story, {"one": 1, "after": 0}, pre_start=(Command(command="one"),), post_stop=(Command(command="after"),))
