"""The arithmetic of figures: who belongs to whom, counters that never go back, a cgroup's files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from supervisor.children import proc_tree
from supervisor.children.proc_tree import Entry
from supervisor.counted import Account, Counted
from supervisor.metrics import cgroup_figures
from supervisor.metrics.figures import Meter
from supervisor.metrics.loop_lag import BOUNDS, LoopLag


def entry(pid: int, parent: int = 1, session: int = 0, user: float = 0.0) -> Entry:
    return Entry(pid, parent, session or pid, user, 0.0, 1, 0, 0)


def families(*entries: Entry, leaders: tuple[int, ...]) -> dict[int, list[int]]:
    found = proc_tree.members({each.pid: each for each in entries}, leaders)
    return {leader: [member.pid for member in family] for leader, family in found.items()}


def test_the_session_and_all_descendants_are_members() -> None:
    tree = (entry(10), entry(11, 10, 10), entry(12, 11), entry(13, 1, 10), entry(20), entry(21, 1))
    assert families(*tree, leaders=(10, 20)) == {10: [10, 11, 12, 13], 20: [20]}


def test_a_supervised_process_below_another_counts_for_itself() -> None:
    assert families(entry(10), entry(20, 10), entry(21, 20), leaders=(10, 20)) == {10: [10], 20: [20, 21]}


def test_a_leader_that_is_gone_has_no_family_but_its_session_is_not_lost_to_another() -> None:
    assert families(entry(11, 1, 10), entry(20), leaders=(10, 20)) == {20: [20]}


def test_a_loop_of_parents_ends() -> None:
    assert families(entry(5, 6), entry(6, 5), entry(10), leaders=(10,)) == {10: [10]}


def test_a_line_of_stat_with_a_nasty_name() -> None:
    rest = "S 7 8 9 0 -1 4194304 1 2 3 4 200 100 50 25 20 0 3 0 5 4096 2 184"
    found = proc_tree.parse(f"42 (a) b (c) {rest}".encode())
    assert (found.pid, found.parent, found.session, found.threads) == (42, 7, 9, 3)
    assert found.user_seconds == pytest.approx(250 / proc_tree._TICK)
    assert found.system_seconds == pytest.approx(125 / proc_tree._TICK)
    assert (found.virtual_memory, found.resident_memory) == (4096, 2 * proc_tree._PAGE)


def test_what_is_no_stat_is_passed_over(tmp_path: Path) -> None:
    for name, text in (("12", "12 (x"), ("13", ""), ("self", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stat").write_text(text)
    assert trio.run(proc_tree.scan, str(tmp_path)) == {}


def account(meter: Meter, pid: int, seconds: float) -> float:
    return meter._account("web", pid, Counted(user_seconds=seconds)).user_seconds


def test_counters_never_go_back() -> None:
    meter = Meter()
    assert account(meter, 10, 5.0) == 5.0
    assert account(meter, 10, 3.0) == 5.0  # a child of 2 s died, and nobody had waited for it
    assert account(meter, 10, 4.0) == 6.0
    assert account(meter, 11, 1.0) == 7.0  # another life
    meter.forget(["web"])
    assert account(meter, 11, 1.0) == 1.0


def test_counters_go_on_in_another_image() -> None:
    before, after = Meter(), Meter()
    account(before, 10, 5.0)
    account(before, 11, 2.0)
    after.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(before.snapshot()), type=dict[str, Account]))
    assert account(after, 11, 2.5) == 7.5
    assert account(after, 12, 1.0) == 8.5
    assert after.known == ("web",)


def test_readings_at_the_same_time_count_nothing_twice() -> None:
    """Of a process that takes 1 s of processor time a second: one reading takes 5 s, and another one begins meanwhile."""

    async def scan() -> dict[int, Entry]:
        found = {10: entry(10, user=trio.current_time() - began)}
        await trio.sleep(pauses.pop(0))
        return found

    async def read() -> float:
        return (await meter.read({"web": 10}))["web"].counted.user_seconds

    async def main() -> None:
        nonlocal began
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await trio.sleep(10)
            nursery.start_soon(read)
            await trio.sleep(2)
            nursery.start_soon(read)
        await trio.sleep_until(began + 20)
        assert await read() == 20.0

    began, pauses, meter = 0.0, [5, 0, 0], Meter(scan)
    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_what_cannot_be_seen_for_a_while_keeps_its_value() -> None:
    meter = Meter()
    assert meter._account("web", 10, Counted(read_bytes=7)).read_bytes == 7
    assert meter._account("web", 10, Counted(read_bytes=None)).read_bytes == 7


def test_a_cgroup_says_what_its_controllers_know(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text(
        "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\nthrottled_usec 500000\n"
    )
    (tmp_path / "memory.current").write_text("4096\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "io.stat").write_text("8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n")
    (tmp_path / "memory.pressure").write_text(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=250000\n"
    )
    (tmp_path / "cpu.pressure").write_text("some avg10=0.00 total=1000000\n")
    found = cgroup_figures.read(str(tmp_path))
    assert found is not None
    assert (found.user_seconds, found.system_seconds, found.throttled_seconds) == (2.5, 1.0, 0.5)
    assert (found.memory, found.memory_max, found.memory_peak, found.oom_kills) == (4096, None, None, 2)
    assert (found.read_bytes, found.written_bytes) == (11, 22)
    assert found.pressure == {"cpu": (1.0, None), "memory": (1.5, 0.25)}
    assert cgroup_figures.read(str(tmp_path / "gone")) is None


def test_the_buckets_of_the_loop_are_cumulative() -> None:
    lag = LoopLag()
    lag.counts[0], lag.counts[3], lag.counts[-1] = 5, 2, 1
    buckets = lag.buckets()
    assert [end for end, _ in buckets] == [*map(repr, BOUNDS), "+Inf"]
    assert [count for _, count in buckets] == [5, 5, 5, *[7.0] * 8, 8]


def test_the_measure_of_the_loop_goes_on_in_another_image() -> None:
    lag = LoopLag()
    lag.restore([1] * (len(BOUNDS) + 1), 3.5, 2.0)
    assert (lag.buckets()[-1], lag.total, lag.longest) == (("+Inf", len(BOUNDS) + 1), 3.5, 2.0)
    lag.restore([1, 2], 9.0, 9.0)  # of one that had other buckets
    assert (len(lag.counts), lag.total) == (len(BOUNDS) + 1, 3.5)


def test_what_counts_is_the_time_between_two_looks() -> None:
    now = iter((10.0, 10.03, 20.0, 20.0))
    lag = LoopLag(lambda: next(now))
    lag.before_io_wait(0)  # installed in the middle of a stretch: nobody knows when it began
    for _ in range(2):
        lag.after_io_wait(0)
        lag.before_io_wait(0)
    assert lag.longest == pytest.approx(0.03)
    assert (sum(lag.counts), lag.counts[0], lag.counts[BOUNDS.index(0.05)]) == (2, 1, 1)
