"""Schedules: intervals on a clock that jumps, calendars on a clock that is set."""

import errno
import math
import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import trio

from ocelot.config.structs import Command, RestartPolicy, RestartType, Schedule
from ocelot.errors import OcelotError
from ocelot.states import ExitStatus, Goal, State
from supervisor.schedule import Calendar, Interval, Scheduled
from supervisor.snapshots import ScheduleSnapshot
from tests.supervisor.fakes import run
from tests.supervisor.test_manager import Set, scenario
from tests.supervisor.test_process import Bench

MINUTE = 60.0


class Clock:
    """A real clock that goes with trio's, and can be set."""

    def __init__(self, now):
        self.ahead = now.timestamp()
        self.was_set = trio.Event()

    def now(self):
        return self.ahead + trio.current_time()

    def offset(self):
        return self.ahead

    def set(self, now):
        self.ahead = now.timestamp() - trio.current_time()
        self.was_set.set()
        self.was_set = trio.Event()

    async def sleep_until(self, at, offset):
        came = False
        if offset != self.ahead:
            return False

        async with trio.open_nursery() as nursery:

            async def wait():
                nonlocal came
                await trio.sleep(max(0.0, at - self.now()))
                came = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait)
            await self.was_set.wait()
            nursery.cancel_scope.cancel()
        return came


def utc(*when):
    return datetime(*when, tzinfo=UTC)


def calendar(story, cron, now, timezone="UTC"):
    """Run ``story(clock, met)`` beside a calendar; ``met`` lists the times as they came, as text."""

    async def test():
        clock = Clock(now)
        clock.ahead -= trio.current_time()
        times = Calendar(cron, timezone, clock)
        met = []

        async def follow():
            while True:
                await times.wait()
                met.append(datetime.fromtimestamp(clock.now(), ZoneInfo(timezone)).strftime("%d. %H:%M"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(0.5)
            await story(clock, met, times)
            nursery.cancel_scope.cancel()

    run(test)


def test_a_calendar_has_its_times_and_says_the_next_one():
    async def story(clock, met, times):
        assert times.next_run == utc(2026, 3, 1, 12, 5).timestamp()
        await trio.sleep(11 * MINUTE)
        assert met == ["01. 12:05", "01. 12:10"]
        assert times.next_run == utc(2026, 3, 1, 12, 15).timestamp()

    calendar(story, "*/5 * * * *", utc(2026, 3, 1, 12, 1))


def test_a_clock_that_is_set_forward_passes_times_over():
    async def story(clock, met, times):
        clock.set(utc(2026, 3, 1, 17, 33))
        await trio.sleep(1)
        assert met == []
        assert times.next_run == utc(2026, 3, 1, 18, 0).timestamp()
        await trio.sleep(30 * MINUTE)
        assert met == ["01. 18:00"]

    calendar(story, "0 * * * *", utc(2026, 3, 1, 12, 1))


def test_a_time_that_a_small_step_has_passed_over_is_met():
    async def story(clock, met, times):
        await trio.sleep(58 * MINUTE)
        clock.set(utc(2026, 3, 1, 13, 0, 20))
        await trio.sleep(1)
        assert met == ["01. 13:00"]
        assert times.next_run == utc(2026, 3, 1, 14, 0).timestamp()

    calendar(story, "0 * * * *", utc(2026, 3, 1, 12, 1))


def test_a_small_step_back_repeats_nothing_and_a_large_one_begins_anew():
    async def story(clock, met, times):
        await trio.sleep(60 * MINUTE)
        assert met == ["01. 13:00"]
        clock.set(utc(2026, 3, 1, 12, 30))
        await trio.sleep(40 * MINUTE)
        assert met == ["01. 13:00"]
        clock.set(utc(2026, 2, 27, 12, 30))
        await trio.sleep(40 * MINUTE)
        assert met == ["01. 13:00", "27. 13:00"]

    calendar(story, "0 * * * *", utc(2026, 3, 1, 12, 1))


def test_times_are_those_of_the_zone_in_summer_too():
    async def story(clock, met, times):
        await trio.sleep(48 * 60 * MINUTE)
        assert met == ["28. 04:30", "29. 04:30"]

    # The clocks go forward on the 29th: 04:30 is 03:30 UTC before, 02:30 UTC after
    calendar(story, "30 4 * * *", utc(2026, 3, 28, 1, 0), "Europe/Berlin")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_without_a_timer_the_clock_is_looked_at(number):
    """Every descriptor is taken over two full minutes: no time is missed, and none comes twice."""

    async def story(clock, met, times):
        sleep_until = clock.sleep_until

        async def refused(at, offset):
            raise OSError(number, os.strerror(number))

        clock.sleep_until = refused
        clock.set(utc(2026, 3, 1, 12, 0))  # so that the timer under way is given up
        await trio.sleep(2 * MINUTE + 20)
        clock.sleep_until = sleep_until
        await trio.sleep(MINUTE)
        assert met == ["01. 12:01", "01. 12:02", "01. 12:03"]

    calendar(story, "* * * * *", utc(2026, 3, 1, 11, 0, 30))


def test_what_cannot_be_scheduled_says_why():
    with pytest.raises(OcelotError, match=r'no time zone "Nowhere/Land"'):
        Calendar("* * * * *", "Nowhere/Land")
    with pytest.raises(OcelotError, match="Bad minute"):
        Calendar("61 * * * *", "UTC")


def test_intervals_keep_their_rhythm_and_leave_out_what_was_missed():
    async def test():
        times = Interval(10.0)
        began = trio.current_time()
        met = []
        for busy in (0.0, 3.0, 25.0, 0.0):
            await times.wait()
            met.append(trio.current_time() - began)
            await trio.sleep(busy)
        assert met == [pytest.approx(each) for each in (10, 20, 30, 60)]

    run(test)


def test_an_interval_goes_on_in_another_image():
    async def test():
        clock = Clock(utc(2026, 1, 1))
        first = Interval(600.0, clock)
        first.plan()
        await trio.sleep(100)
        second = Interval(600.0, clock)
        second.resume(first.next_run)
        began = trio.current_time()
        await second.wait()
        assert trio.current_time() - began == pytest.approx(500)

    run(test)


@pytest.mark.parametrize("schedule", [Schedule(cron="0 2 * * *", timezone="UTC"), Schedule(every=86400.0)])
@pytest.mark.parametrize(("late", "expected"), [(-0.5, False), (0.3, True), (3600.0, False)])
def test_a_time_that_comes_while_an_image_makes_way_for_another_is_met(schedule, late, expected):
    async def test():
        clock = Clock(utc(2026, 3, 1, 2) - timedelta(seconds=trio.current_time()))
        bench = Bench()
        scheduled = Scheduled(bench.process, schedule, clock)
        clock.ahead += late
        bench.process.goal = Goal.UP
        scheduled.restore(ScheduleSnapshot(next_run=utc(2026, 3, 1, 2).timestamp()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduled.run)
            await trio.sleep(0.1)
            assert scheduled.due is expected
            at = utc(2026, 3, 1, 2).timestamp() if late < 0 else utc(2026, 3, 2, 2).timestamp()
            assert scheduled.next_run == pytest.approx(at)
            nursery.cancel_scope.cancel()

    run(test)


# -- the process that is scheduled


def job(overlap="skip", every=60.0, **config):
    return {"schedule": Schedule(every=every, overlap=overlap), **config}


def runs(it):
    return len([child for child in it.spawner.children if child.spec.argv[0] == "job"])


def test_it_waits_for_its_time_and_for_the_next():
    async def story(it):
        status = it.supervisor.status("job")
        assert (status.state, status.goal, runs(it)) == (State.WAITING, "up", 0)
        assert status.reason.startswith("next run at 20")
        assert (status.schedule.when, status.schedule.overlap) == ("every 1m", "skip")
        for number in (1, 2, 3):
            await trio.sleep(60)
            assert (it.states()["job"], runs(it)) == (State.RUNNING, number)
            it.exits("job", number - 1)
            await trio.sleep(0.1)
            assert it.states()["job"] == State.EXITED
        assert it.supervisor.status("job").restarts == 0

    scenario(story, job=job(), other={})


def test_a_set_with_a_schedule_never_comes_to_its_end():
    async def story(it):
        it.exits("other", 3)
        await trio.sleep(61)
        it.exits("job", 1)

    it = scenario(story, job=job(every=61.0), other={})
    assert it.ending is None


@pytest.mark.parametrize(("overlap", "expected"), [("skip", 2), ("queue", 3), ("replace", 3)])
def test_overlaps(overlap, expected):
    async def story(it):
        await trio.sleep(60)
        assert runs(it) == 1
        await trio.sleep(60)  # a time comes while it runs
        status = it.supervisor.status("job").schedule
        if overlap == "replace":
            assert runs(it) == 2
            assert it.spawner.children[0].status == ExitStatus(signal=15)
        else:
            assert (runs(it), status.skipped, status.queued) == (1, overlap == "skip", overlap == "queue")
        it.exits("job", 0)
        await trio.sleep(1)
        assert runs(it) == (1 if overlap == "skip" else 2)
        if overlap == "queue":
            it.exits("job", 0)
        await trio.sleep(60)
        assert runs(it) == expected

    scenario(story, job=job(overlap))


@pytest.mark.parametrize("who", ["replace", "operator"])
def test_a_run_that_is_asked_for_while_the_one_before_is_tidied_up_is_not_lost(who):
    async def story(it):
        await trio.sleep(70)
        it.exits("job", 0)
        await trio.sleep(1)
        assert (it.states()["job"], runs(it)) == (State.STOPPING, 1)
        if who == "operator":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.supervisor.start, ["job"])
                await trio.sleep(1)
                it.exits("tidy", 0)
        else:
            await trio.sleep(60)
            it.exits("tidy", 0)
        await trio.sleep(1)
        assert (it.states()["job"], runs(it)) == (State.RUNNING, 2)
        it.exits("job", 0)
        await trio.sleep(1)
        it.exits("tidy", 0)
        await trio.sleep(1)
        assert (it.states()["job"], runs(it)) == (State.EXITED, 2)

    tidy = (Command(command="tidy"),)
    scenario(story, job=job("replace" if who == "replace" else "skip", post_stop=tidy), other={})


def test_an_operator_can_run_it_at_once_and_stop_it_for_good():
    async def story(it):
        await it.supervisor.start(["job"])
        assert (it.states()["job"], runs(it)) == (State.RUNNING, 1)
        it.exits("job", 0)
        await trio.sleep(1)
        await it.supervisor.start(["job"])
        assert runs(it) == 2
        it.exits("job", 0)
        await trio.sleep(60)
        assert runs(it) == 3
        await it.supervisor.stop(["job"])
        await trio.sleep(600)
        assert (it.states()["job"], runs(it)) == (State.STOPPED, 3)
        assert it.supervisor.status("job").schedule.next_run is None
        await it.supervisor.start(["job"])
        it.exits("job", 0)
        await trio.sleep(61)
        assert runs(it) == 5

    scenario(story, job=job())


def test_a_run_that_fails_is_tried_again_within_its_turn():
    async def story(it):
        await trio.sleep(60)
        it.exits("job", 1)
        await trio.sleep(5)
        assert runs(it) == 2
        it.exits("job", 1)
        await trio.sleep(1)
        assert it.states()["job"] == State.FATAL
        await trio.sleep(60)
        assert (it.states()["job"], runs(it)) == (State.RUNNING, 3)
        it.exits("job", 1)
        await trio.sleep(5)
        assert runs(it) == 4  # each turn has all of its tries

    policy = RestartPolicy(type=RestartType.ON_FAILURE, max_retries=1)
    scenario(story, job=job(restart_policy=policy))


def test_a_shutdown_while_it_waits_for_its_time():
    async def story(it):
        await it.supervisor.stop_all()

    it = scenario(story, job=job(), other={})
    assert it.states() == {"job": State.STOPPED, "other": State.STOPPED}
    assert runs(it) == 0


def test_its_time_comes_but_what_it_needs_does_not():
    from ocelot.config.structs import Dependency

    async def story(it):
        await it.supervisor.stop(["db"])
        await trio.sleep(60)
        assert it.supervisor.status("job").reason == 'waiting for "db" to be started (stopped, not wanted up)'
        await it.supervisor.start(["db"])
        await trio.sleep(1)
        assert runs(it) == 1

    scenario(story, job=job(depends_on={"db": Dependency()}), db={})


def test_one_that_cannot_be_scheduled_has_failed():
    async def story(it):
        status = it.supervisor.status("job")
        assert status.state == State.FATAL
        assert 'no time zone "No/Where"' in status.reason

    scenario(story, job={"schedule": Schedule(cron="* * * * *", timezone="No/Where")}, other={})


def test_one_that_cannot_be_scheduled_does_not_keep_the_set_alive():
    async def story(it):
        it.exits("other", 0)

    it = scenario(story, job={"schedule": Schedule(cron="* * * * *", timezone="No/Where")}, other={})
    assert (it.ending.status, it.ending.process) == (1, "job")


def test_a_time_that_never_comes_waits_for_ever():
    async def test():
        it = Set(job=job(), other={})
        scheduled = Scheduled(it.supervisor._processes["job"], Schedule(every=math.inf))
        assert scheduled.look() is not None

    run(test)
