"""What a process may say about itself, who may say it, and what becomes of nonsense."""

import time

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as some

from ocelot import log
from ocelot.config import structs
from supervisor.children.senders import Membership, may_speak_once_gone, membership
from supervisor.health.notify import Notifications
from supervisor.health.said import TEXT_MAX, parse
from tests.supervisor.fakes import run


class FakeRelay:
    def add(self, fd, ready):
        raise AssertionError("no socket here")

    remove = start_soon = add


def notifications(**config):
    """Of pid 7, to which every even pid belongs."""
    found = Notifications(
        "p",
        structs.Notify(type="systemd", **config),
        FakeRelay(),
        lambda: None,
        belongs=lambda pid, leader: Membership.STRANGER if pid % 2 and pid != leader else Membership.MEMBER,
    )
    found.begin(7)
    return found


@pytest.fixture
def said():
    """The lines of the log from now on."""
    log.recent.clear()
    return lambda: [line for _, line in log.recent]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"READY=1", {"READY": "1"}),
        (b"READY=1\nSTATUS=a=b\n\n", {"READY": "1", "STATUS": "a=b"}),
        (b"X=1\nX=2", {"X": "2"}),
        (b"", {}),
        (b"=1\nREADY\n\0\n", {}),
        (b"STATUS=\xff\xfe", {"STATUS": "��"}),
    ],
)
def test_a_message_is_lines_of_assignments(data, expected):
    assert parse(data) == expected


def test_what_it_says_is_kept():
    async def test():
        heard = notifications()
        heard.take({"READY": "0"})
        assert not heard.ready.is_set()
        heard.take({"READY": "1", "STATUS": "serving\x1b[2J 3 clients", "MAINPID": "8", "ERRNO": "2"})
        assert heard.ready.is_set()
        status = heard.status()
        assert (status.state, status.main_pid, status.errno) == ("ready", 8, 2)
        assert status.text == "serving [2J 3 clients"
        heard.take({"RELOADING": "1", "MONOTONIC_USEC": "12345"})
        assert heard.status().state == "reloading"
        heard.take({"READY": "1"})
        assert heard.status().state == "ready"
        heard.take({"STOPPING": "1"})
        assert heard.status().state == "stopping"

    run(test)


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("messages", "state"),
    [
        ([], "asked"),
        ([{"READY": "1"}], "asked"),
        ([{"RELOADING": "1", "MONOTONIC_USEC": "later"}], "reloading"),
        ([{"RELOADING": "1", "MONOTONIC_USEC": "later"}, {"STATUS": "x"}], "reloading"),
        ([{"RELOADING": "1", "MONOTONIC_USEC": "later"}, {"READY": "1"}], "done"),
        ([{"READY": "1", "RELOADING": "1", "MONOTONIC_USEC": "later"}], "done"),
        ([{"RELOADING": "1", "MONOTONIC_USEC": "before"}, {"READY": "1"}], "asked"),
        ([{"RELOADING": "1"}, {"READY": "1"}], "asked"),
        ([{"RELOADING": "1", "MONOTONIC_USEC": "-1"}, {"READY": "1"}], "asked"),
        ([{"RELOADING": "1", "MONOTONIC_USEC": "9" * 40}, {"READY": "1"}], "asked"),
        ([{"RELOADING": "0", "MONOTONIC_USEC": "later"}, {"READY": "1"}], "asked"),
    ],
)
def test_only_a_reload_that_began_after_it_was_asked_for_is_the_one(messages, state):
    async def test():
        heard = notifications()
        before = now() - 1
        assert heard.status().reload is None
        heard.expect_reload()
        times = {"before": str(before), "later": str(now())}
        for message in messages:
            heard.take({key: times.get(value, value) for key, value in message.items()})
        assert heard.status().reload == state

    run(test)


def test_the_next_request_is_not_content_with_the_reload_before():
    async def test():
        heard = notifications()
        heard.expect_reload()
        heard.take({"RELOADING": "1", "MONOTONIC_USEC": str(now())})
        heard.take({"READY": "1"})
        heard.expect_reload()
        heard.take({"READY": "1"})
        assert heard.status().reload == "asked"

    run(test)


def test_who_leaves_out_the_time_is_told_once(said):
    async def test():
        heard = notifications()
        heard.take({"RELOADING": "1"})
        assert said() == []
        heard.expect_reload()
        for _ in range(3):
            heard.take({"RELOADING": "1"})
        assert said() == ["p: notify: RELOADING=1 without MONOTONIC_USEC= is no answer to a reload"]

    run(test)


def test_nonsense_changes_nothing(said):
    async def test():
        heard = notifications()
        before = heard.status()
        for message in (
            {"WATCHDOG_USEC": "-5"},
            {"WATCHDOG_USEC": "9" * 400},
            {"EXTEND_TIMEOUT_USEC": "soon"},
            {"ERRNO": "99999999999"},
            {"MAINPID": "-1"},
            {"MAINPID": "9" * 4000},
            {"WATCHDOG": "maybe"},
            {"UNKNOWN": "x" * 4000},
        ):
            heard.take(message)
        assert heard.status() == before
        heard.take({"STATUS": "x" * 4000})
        assert len(heard.text) == TEXT_MAX

    run(test)
    assert len(said()) == 1


KEYS = [
    "READY",
    "STATUS",
    "RELOADING",
    "STOPPING",
    "MAINPID",
    "ERRNO",
    "WATCHDOG",
    "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC",
]
VALUES = some.one_of(
    some.text(), some.integers().map(str), some.sampled_from(["1", "0", "trigger", "00", "1" * 40, "٣"])
)


@given(some.lists(some.dictionaries(some.sampled_from([*KEYS, "FDSTORE", "BARRIER", "X"]), VALUES), max_size=6))
def test_nothing_that_can_be_said_breaks_it(messages):
    async def test():
        heard = notifications(watchdog=10.0)
        for message in messages:
            heard.take(message)
        status = heard.status()
        assert len(status.text) <= TEXT_MAX
        assert status.text.isprintable()
        assert status.watchdog is None or status.watchdog > 0
        assert status.main_pid is None or status.main_pid % 2 == 0 or status.main_pid == 7
        msgspec.json.encode(status)

    run(test)


def test_a_main_pid_belongs_to_the_process(said):
    async def test():
        heard = notifications()
        heard.take({"MAINPID": "9"})
        heard.take({"MAINPID": "9"})
        assert heard.main_pid is None

    run(test)
    assert said() == ["p: notify: MAINPID=9 is refused: it does not belong to it"]


def test_descriptors_are_not_kept_and_that_is_said_once(said):
    async def test():
        heard = notifications()
        for _ in range(100):
            heard.take({"FDSTORE": "1", "FDNAME": "x"}, descriptors=True)

    run(test)
    assert said() == [
        "p: notify: FDSTORE is refused: ocelot keeps no descriptors for it; `sockets` are kept over restarts"
    ]


@pytest.mark.parametrize(
    ("signs", "expected", "why"),
    [
        ([], 10, "it sent no WATCHDOG=1 for 10s"),
        ([(4, "WATCHDOG", "1"), (12, "WATCHDOG", "1")], 22, "it sent no WATCHDOG=1 for 10s"),
        ([(4, "WATCHDOG", "trigger")], 4, "it sent WATCHDOG=trigger"),
        ([(4, "WATCHDOG_USEC", "2000000")], 6, "it sent no WATCHDOG=1 for 2s"),
        ([(4, "WATCHDOG_USEC", "30000000")], 34, "it sent no WATCHDOG=1 for 30s"),
        ([(4, "WATCHDOG_USEC", "0"), (50, "WATCHDOG_USEC", "5000000")], 55, "it sent no WATCHDOG=1 for 5s"),
        ([(4, "STATUS", "busy"), (6, "READY", "1")], 10, "it sent no WATCHDOG=1 for 10s"),
    ],
)
def test_the_watchdog_bites_who_is_silent_too_long(signs, expected, why):
    async def test():
        heard = notifications(watchdog=10.0)

        async def speak():
            for at, key, value in signs:
                await trio.sleep_until(at)
                heard.take({key: value})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            assert await heard.until_silent_too_long() == why
            assert trio.current_time() == expected

    run(test)


def test_signs_of_life_wake_nobody():
    """One that pings a thousand times a second must not cost a thousand wake-ups."""

    async def test():
        heard = notifications(watchdog=10.0)
        steps = []

        class Count(trio.abc.Instrument):
            def before_task_step(self, task):
                if "until_silent" in task.name:
                    steps.append(trio.current_time())

        trio.lowlevel.add_instrument(Count())
        with trio.move_on_after(25):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(heard.until_silent_too_long)
                for _ in range(10_000):
                    heard.take({"WATCHDOG": "1"})
                    await trio.sleep(0.001)
        assert len(steps) <= 4

    run(test)


def test_each_life_begins_in_silence():
    async def test():
        heard = notifications(watchdog=10.0)
        first = heard.ready
        heard.take(
            {"READY": "1", "STATUS": "x", "MAINPID": "8", "WATCHDOG_USEC": "1", "EXTEND_TIMEOUT_USEC": "5000000"}
        )
        heard._forget()
        assert first.is_set()
        assert not heard.ready.is_set()
        status = heard.status()
        assert (status.state, status.text, status.main_pid, status.watchdog) == ("silent", "", None, 10.0)
        assert heard.extended_to == 0.0

    run(test)


# -- who


def process(proc, pid, *, parent=1, group=None, session=None, cgroup="/", name="sh"):
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} {group or pid} {session or pid} 0 -1 0\n")
    (folder / "cgroup").write_text(f"1:cpu:/x\n0::{cgroup}\n")


@pytest.fixture
def proc(tmp_path):
    process(tmp_path, "self")
    process(tmp_path, 100)
    process(tmp_path, 101, parent=100, group=100, session=100)
    process(tmp_path, 102, parent=1, group=102, session=100, name="a ) S 100 (b")  # orphaned, in its session
    process(tmp_path, 103, parent=101)  # in a session of its own, but a grandchild
    process(tmp_path, 200)
    process(tmp_path, 201, parent=200)
    return tmp_path


@pytest.mark.parametrize(
    ("pid", "expected"),
    [
        (100, Membership.MEMBER),
        (101, Membership.MEMBER),
        (102, Membership.MEMBER),
        (103, Membership.MEMBER),
        (200, Membership.STRANGER),
        (201, Membership.STRANGER),
        (0, Membership.STRANGER),  # from another PID namespace
        (300, Membership.GONE),
    ],
)
def test_descendants_and_members_of_the_session_belong_to_a_process(proc, pid, expected):
    assert membership(pid, 100, str(proc)) is expected


def test_members_of_its_own_cgroup_belong_to_it(proc):
    process(proc, 400, cgroup="/ocelot/p")
    process(proc, 401, cgroup="/ocelot/p")
    process(proc, 402, cgroup="/ocelot/q")
    assert membership(401, 400, str(proc)) is Membership.MEMBER
    assert membership(402, 400, str(proc)) is Membership.STRANGER
    # without cgroups of their own, all processes share ours
    assert membership(200, 100, str(proc)) is Membership.STRANGER


def test_a_loop_of_parents_comes_to_an_end(proc):
    process(proc, 500, parent=501)
    process(proc, 501, parent=500)
    assert membership(500, 100, str(proc)) is Membership.STRANGER


def test_who_has_gone_is_believed_by_uid(proc):
    mine = (proc / "100").stat().st_uid
    assert may_speak_once_gone(mine, 100, str(proc))
    assert may_speak_once_gone(0, 100, str(proc))
    assert not may_speak_once_gone(mine + 1, 100, str(proc))
    assert not may_speak_once_gone(mine + 1, 999, str(proc))
