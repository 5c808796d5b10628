"""What probes and notifications add up to: when a process is ready, when it is not any more, and when it has to go."""

import errno
import itertools
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from ocelot import log
from ocelot.config import structs
from ocelot.errors import SpawnError
from ocelot.states import Cause
from supervisor.health import process_health as health_module
from supervisor.health.probes import OUTPUT_MAX, Failed, Probe
from supervisor.health.process_health import Health, attend
from tests.supervisor.fakes import FakeSpawner, run, surroundings

HANDLER = structs.TcpSocket(port=80)
HORIZON = 100.0


class Scripted:
    """A check by a script, one letter a run: ``+`` good, ``-`` bad, ``.`` hangs; the last one goes on for ever."""

    def __init__(self, script):
        self.script = script
        self.began = []

    async def __call__(self):
        letter = self.script[min(len(self.began), len(self.script) - 1)]
        self.began.append(trio.current_time())
        if letter == ".":
            await trio.sleep_forever()
        if letter == "-":
            raise Failed("no answer")
        return "fine"


def probe(role, script, **config):
    return Probe(role, structs.Probe(handler=HANDLER, **config), Scripted(script))


async def life(probes, notify=None, said=None):
    """What happens to a process within HORIZON seconds, as (second, what)."""
    happened = []

    def note(what):
        happened.append((round(trio.current_time() - began, 3), what))

    config = structs.Process(program="p", notify=notify)
    health = Health(
        "p", config, {each.role: each for each in probes}, [], lambda _: note("ready" if health.ready else "unready")
    )
    health.said = said
    child = SimpleNamespace(pid=7)
    health.handles()
    began = trio.current_time()
    with trio.move_on_after(HORIZON):
        verdict = await health.until_ready(child)
        if verdict is None:
            assert health.ready
            note("ready")
            verdict = await health.watch(child)
        note(verdict.cause.value)
    return happened


SLOW = {"period": 10.0, "timeout": 5.0}

TABLE = [
    ("ready with the first success", [("readiness", "-+", {})], [(0.1, "ready")]),
    ("asked again no later than a period after", [("readiness", "-+", {"period": 0.05})], [(0.05, "ready")]),
    ("not before the initial delay", [("readiness", "+", {"initial_delay": 7.0})], [(7, "ready")]),
    ("never ready, never killed", [("readiness", "-", {})], []),
    ("a probe that hangs is a failure at its timeout", [("readiness", ".+", SLOW)], [(5, "ready")]),
    ("as many successes as asked for", [("readiness", "+-++", {"success_threshold": 2})], [(30, "ready")]),
    (
        "readiness is lost at the threshold",
        [("readiness", "+---+", {})],
        [(0, "ready"), (30, "unready"), (40, "ready")],
    ),
    ("two misses are not three", [("readiness", "+--+--+", {})], [(0, "ready")]),
    (
        "and comes back at its own threshold",
        [("readiness", "++--+-++", {"success_threshold": 2, "failure_threshold": 2})],
        [(10, "ready"), (30, "unready"), (70, "ready")],
    ),
    ("alive as long as the misses are not in a row", [("liveness", "--+--+--+", {})], [(0, "ready")]),
    ("dead at the threshold", [("liveness", "+---", {})], [(0, "ready"), (30, "liveness")]),
    (
        "the first miss kills only if that is asked for",
        [("liveness", "+-", {"failure_threshold": 1})],
        [(0, "ready"), (10, "liveness")],
    ),
    ("hanging is dying", [("liveness", "...", SLOW)], [(0, "ready"), (25, "liveness")]),
    (
        "liveness is looked after before it is ready",
        [("readiness", "-", {}), ("liveness", "+---", {})],
        [(30, "liveness")],
    ),
    ("up when the startup probe says so", [("startup", "--+", {"period": 5.0})], [(10, "ready")]),
    ("not up in time", [("startup", "---", {"period": 5.0})], [(10, "startup")]),
    (
        "the startup probe holds liveness back",
        [("startup", "----+", {"failure_threshold": 9}), ("liveness", "-", {})],
        [(40, "ready"), (60, "liveness")],
    ),
    (
        "and readiness, whose delay counts from there",
        [("startup", "-+", {}), ("readiness", "+", {"initial_delay": 5.0})],
        [(15, "ready")],
    ),
    (
        "a short period shortens the timeout",
        [("readiness", ".+", {"period": 0.5})],
        [(0.5, "ready")],
    ),
]


@pytest.mark.parametrize(("probes", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(probes, expected):
    async def test():
        assert await life([probe(role, script, **config) for role, script, config in probes]) == expected

    run(test)


def test_checks_begin_a_period_apart_however_long_they_take():
    async def test():
        check = Scripted("+")

        async def slow():
            await check()
            await trio.sleep(3)
            return ""

        await life([Probe("liveness", structs.Probe(handler=HANDLER, period=10.0, timeout=5.0), slow)])
        assert check.began[:4] == [0, 10, 20, 30]

    run(test)


def test_nothing_is_made_up_for_after_a_pause():
    async def test():
        mine = probe("liveness", "+")
        mine.begin()
        await trio.sleep(35)
        await mine.step()
        assert trio.current_time() == 35
        await mine.step()
        assert trio.current_time() == 45

    run(test)


@pytest.mark.parametrize(("late", "misses"), [([5], 0), ([5, 5], 1), ([1.5], 1)])
def test_a_check_is_made_again_when_we_had_no_time_ourselves(late, misses):
    """A machine that was paused must not condemn everything that runs on it; but this is no excuse for ever."""

    async def test():
        pauses = list(late)

        async def check():
            if pauses:
                clock.jump(pauses.pop(0))
                await trio.sleep_forever()
            return "fine"

        mine = Probe("liveness", structs.Probe(handler=HANDLER), check)
        mine.begin()
        assert await mine.step() is (misses == 0)
        assert (mine.misses, mine.runs) == (misses, 1)

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(test, clock=clock)


def test_a_verdict_and_a_status_say_what_was_found():
    async def test():
        async def check():
            raise Failed("x" * 5000 + "\n\x1b[31m")

        mine = Probe("liveness", structs.Probe(handler=HANDLER, failure_threshold=2), check)
        mine.begin()
        await mine.step()
        assert not mine.missed
        await mine.step()
        status = mine.status()
        assert mine.missed
        assert mine.verdict().startswith("its liveness probe failed 2 times in a row: xxx")
        assert len(status.output) == OUTPUT_MAX
        assert (status.role, status.type, status.ok, status.failures, status.runs) == (
            "liveness",
            "tcpSocket",
            False,
            2,
            2,
        )
        assert (status.misses, status.latency) == (2, 0.0)
        mine.forget()
        status = mine.status()
        assert (status.ok, status.failures, status.runs) == (None, 0, 2)

    run(test)


def test_what_breaks_in_a_check_is_a_miss_and_what_is_a_bug_is_not():
    async def test():
        async def refused():
            raise ConnectionRefusedError(111, "Connection refused")

        mine = Probe("readiness", structs.Probe(handler=HANDLER), refused)
        mine.begin()
        assert not await mine.step()
        assert mine.last.output == "Connection refused"

        async def bug():
            raise KeyError("x")

        mine = Probe("readiness", structs.Probe(handler=HANDLER), bug)
        mine.begin()
        with pytest.raises(KeyError):
            await mine.step()

    run(test)


@pytest.mark.parametrize(
    "shortage",
    [
        OSError(errno.EMFILE, "too many open files"),
        OSError(errno.ENOMEM, "no memory"),
        MemoryError(),
        SpawnError("no process", step="fork", errno=errno.EAGAIN),
        SpawnError("no pipe", step="pipe", errno=errno.ENFILE),
    ],
)
def test_what_ocelot_lacks_itself_is_held_against_nobody(shortage):
    """Else a full table of descriptors would have every healthy process killed by its liveness probe."""

    async def test():
        async def check():
            if 10.0 <= trio.current_time() - began < 60.0:
                raise shortage
            return "fine"

        log.recent.clear()
        config = structs.Probe(handler=HANDLER, failure_threshold=2)
        probe = Probe("liveness", config, check, name="web")
        began = trio.current_time()
        probe.begin()
        with trio.move_on_after(HORIZON):
            while True:
                await probe.step()
        assert (probe.misses, probe.failures, probe.runs) == (0, 0, 5)
        told = [line for _, line in log.recent]
        assert len(told) == 1
        assert told[0].startswith("web: its liveness probe cannot be made")

    run(test)


def test_what_the_process_itself_lacks_is_a_miss():
    async def test():
        async def check():
            raise SpawnError("its user has as many processes as it may have", step="exec", errno=errno.EAGAIN)

        probe = Probe("liveness", structs.Probe(handler=HANDLER), check)
        probe.begin()
        assert not await probe.step()
        assert probe.misses == 1

    run(test)


def test_escapes_do_not_reach_the_terminal():
    async def test():
        async def check():
            return "a\x1b[2J\tb\nc"

        mine = Probe("readiness", structs.Probe(handler=HANDLER), check)
        mine.begin()
        await mine.step()
        assert mine.last.output == "a?[2J b c"

    run(test)


def test_it_says_what_it_waits_for():
    async def test():
        startup, readiness = probe("startup", "-+"), probe("readiness", "-------+")
        config = structs.Process(program="p", notify=structs.Notify(type="systemd"))
        health = Health("p", config, {"startup": startup, "readiness": readiness}, [], lambda _: None)
        health.said = FakeSaid(15)
        said = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.until_ready, SimpleNamespace(pid=7))
            for second in (-1, 5, 12, 20, 40):
                await trio.sleep_until(second)
                said[second] = health.waits_for()
        assert said == {
            -1: "waits for its startup probe",
            5: "waits for its startup probe: no answer",
            12: "waits for a word",
            20: "waits for its readiness probe: no answer",
            40: "",
        }

    run(test)


class FakeSaid:
    """Says that it is ready after ``delay`` seconds; asks for time until ``extended_to``."""

    def __init__(self, delay, extended_to=0.0):
        self.ready = trio.Event()
        self.delay = delay
        self.extended_to = extended_to
        self.leader = None

    word = "a word"

    def handles(self):
        return None

    def catch_up(self):
        pass

    def begin(self, leader):
        self.leader = leader
        trio.lowlevel.spawn_system_task(self._say)

    async def _say(self):
        await trio.sleep(self.delay)
        self.ready.set()


@pytest.mark.parametrize(
    ("delay", "extended_to", "expected"),
    [
        (5, 0, [(5, "ready")]),
        (50, 0, [(20, "startup")]),
        (50, 60, [(50, "ready")]),
        (50, 40, [(40, "startup")]),
    ],
)
def test_a_process_says_itself_that_it_is_ready_within_its_time(delay, extended_to, expected):
    async def test():
        notify = structs.Notify(type="systemd", timeout=20.0)
        assert await life([], notify, FakeSaid(delay, extended_to)) == expected

    run(test)


def test_it_is_probed_for_readiness_once_it_has_said_so():
    async def test():
        mine = probe("readiness", "-+")
        assert await life([mine], structs.Notify(type="systemd"), FakeSaid(5)) == [(5.1, "ready")]
        assert mine._check.began[:2] == [5, 5.1]

    run(test)


def test_until_it_is_ready_for_the_first_time_it_is_asked_soon_and_then_ever_more_rarely():
    async def test():
        mine = probe("readiness", "--------+--+", failure_threshold=1)
        await life([mine])
        waits = [later - before for before, later in itertools.pairwise(mine._check.began)]
        first = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10]
        assert waits[: len(first) + 5] == pytest.approx([*first, 10, 10, 10, 10, 10])  # lost, it is asked as always

    run(test)


def test_in_its_next_life_it_is_asked_soon_again():
    async def test():
        mine = probe("readiness", "-+--+")
        for _ in range(2):
            mine.forget()
            mine.begin()
            while not await mine.step():
                pass
        assert mine._check.began == pytest.approx([0, 0.1, 0.1, 0.2, 0.4])

    run(test)


def test_a_ready_process_is_watched_again_by_an_image_that_did_not_start_it():
    async def test():
        mine = probe("liveness", "+---")
        health = Health("p", structs.Process(program="p"), {"liveness": mine}, [], lambda _: None)
        verdict = await health.watch(SimpleNamespace(pid=7))
        assert health.ready
        assert (verdict.cause, trio.current_time()) == (Cause.LIVENESS, 30)

    run(test)


def test_a_process_without_any_of_it_has_no_health():
    def make(**config):
        around = surroundings(FakeSpawner())
        return attend("p", structs.Process(program="p", **config), around, output=None, relay=None, changed=None)

    assert make() is None
    assert make(notify=structs.Notify(type="none")) is None
    assert make(liveness_probe=structs.Probe(handler=HANDLER)) is not None


def test_a_command_is_started_as_the_process_is():
    async def test():
        spawner = FakeSpawner()
        config = structs.Process(program="p", working_directory="/w", environment_variables={"OWN": "1"})
        ends = SimpleNamespace(stdout=11, stderr=11)
        await health_module._start_command(("check", "-x"), "p", config, surroundings(spawner), ends)
        spec = spawner.last.spec
        assert (spec.argv, spec.working_directory, spec.stdout) == (("check", "-x"), "/w", 11)
        assert (spec.environment["OWN"], spec.environment["PHASE"]) == ("1", "1")

    run(test)
