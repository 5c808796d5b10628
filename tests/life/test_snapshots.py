"""The records of a reexec: nothing gets lost on the way, times stay what they are, and unknown versions are refused."""

from __future__ import annotations

import os
import time

import msgspec
import pytest
import trio

from ocelot.config import structs
from ocelot.errors import OcelotError
from ocelot.life.statefile import State, read, write
from ocelot.states import Cause, ExitStatus, Goal
from ocelot.states import State as ProcessState
from ocelot.wire.protocol import BootTimeline, ExitInfo, Span
from supervisor import snapshots
from supervisor.output.ring import Ring
from supervisor.restart import End
from supervisor.snapshots import (
    ChildSnapshot,
    HistorySnapshot,
    InheritedSnapshot,
    LifeSnapshot,
    ProcessSnapshot,
    ReaperSnapshot,
    RingSnapshot,
    StreamSnapshot,
    SupervisorSnapshot,
)

WEB = structs.Process(
    program="/bin/web",
    arguments=("a", "-1"),
    environment_variables={"ü": "ö"},
    restart_policy=structs.RestartPolicy(type=structs.RestartType.ALWAYS, max_retries=7),
    log=structs.Log(stdout=structs.Stream(destination=structs.File(path="/var/log/web"))),
)

LIFE = LifeSnapshot(
    pid=1,
    kind="bootstrap",
    file=b"/etc/\xff.yaml",
    born=12.5,
    inherited=InheritedSnapshot(limits={7: (1024, 4096)}, environment=[b"A=\xff=\xfe"], mask=[1, 17]),
    environment=[b"PHASE=1"],
    supervisor=SupervisorSnapshot(
        configs={"web": WEB},
        processes=[
            ProcessSnapshot(
                name="web",
                config=WEB,
                state=ProcessState.RUNNING,
                goal=Goal.UP,
                reason="started with pid 7",
                history=HistorySnapshot(
                    last_end=End(ExitStatus(signal=9), Cause.OOM_KILLED, 3.5),
                    last_exit=ExitInfo(status=137, signal="SIGKILL", cause="oom-killed", at=1.0),
                    restarts={"oom-killed": 3},
                    in_a_row=2,
                ),
                child=ChildSnapshot(pid=7, kill_group=True, status=ExitStatus(code=4)),
                verdict=(Cause.LIVENESS, "it hangs"),
                grace_limit=3.0,
                streams={
                    "stdout": StreamSnapshot(
                        fd=9, ring=RingSnapshot(data=b"a\nb", start=7, positions=[7], times=[1.5]), rest=b"b", gap=3
                    ),
                    "stderr": StreamSnapshot(fd=-1, ring=RingSnapshot(data=b"")),
                },
            )
        ],
        going_on=["web"],
    ),
    reaper=ReaperSnapshot(children_reaped=3, orphans_reaped=20_000),
    timeline=BootTimeline(spans=[Span(name="imports", phase="", start=0.0, end=1.0, outcome="ok")], finished=True),
    bootstrap=structs.Bootstrap(
        switch_root=structs.SwitchRoot(root_file_system=structs.VirtiofsMount(tag="root", read_only=True)),
        post_switch=structs.PostSwitch(handoff=structs.Supervise(processes={"web": WEB})),
    ),
    sockets={"control": 5},
    answer=11,
    stdout=b"half a li",
)


def test_a_round_trip() -> None:
    again = snapshots.understand(snapshots.VERSION, snapshots.encode(LIFE))
    assert again == LIFE
    assert snapshots.unpack_environment(again.inherited.environment) == {"A": os.fsdecode(b"\xff=\xfe")}


def test_the_descriptors_that_must_stay_open() -> None:
    assert LIFE.descriptors() == [5, 9, 11]


def handed_over(version: int, body: bytes) -> LifeSnapshot:
    fd = write(State(version, ("ocelot",), body))
    try:
        state = read(fd)
        return snapshots.understand(state.version, state.body)
    finally:
        os.close(fd)


def test_what_is_understood() -> None:
    assert handed_over(snapshots.VERSION, snapshots.encode(LIFE)) == LIFE


@pytest.mark.parametrize("version", [snapshots.VERSION - 1, snapshots.VERSION + 1, 10**9])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(OcelotError, match=f"the state has version {version}, ocelot .* reads {snapshots.VERSION}"):
        handed_over(version, snapshots.encode(LIFE))


def test_a_key_of_the_configuration_that_is_unknown_here_is_refused() -> None:
    plain = msgspec.msgpack.decode(snapshots.encode(LIFE))
    plain["supervisor"]["processes"][0]["config"]["fromTheFuture"] = True
    with pytest.raises(OcelotError, match="fromTheFuture"):
        handed_over(snapshots.VERSION, msgspec.msgpack.encode(plain))


def test_a_field_that_only_another_image_knows_is_left_out() -> None:
    plain = msgspec.msgpack.decode(snapshots.encode(LIFE))
    plain["news"] = {"of": "tomorrow"}
    assert handed_over(snapshots.VERSION, msgspec.msgpack.encode(plain)) == LIFE


@pytest.mark.parametrize("body", [b"", b"\xc1", snapshots.encode(LIFE)[:-7]])
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(OcelotError, match="is not understood"):
        handed_over(snapshots.VERSION, body)


def test_times_survive_another_clock() -> None:
    async def there() -> tuple[float, float]:
        return snapshots.monotonic(trio.current_time() - 100.0), time.monotonic()

    async def here(kept: float) -> float:
        return trio.current_time() - snapshots.trio_time(kept)

    kept, when = trio.run(there)
    assert when - kept == pytest.approx(100.0, abs=0.01)
    passed = trio.run(here, kept)
    assert passed - (time.monotonic() - when) == pytest.approx(100.0, abs=0.01)


def test_a_ring_goes_on_where_it_was() -> None:
    at = 0.0
    old, new = Ring(40, now=lambda: at), Ring(40, now=lambda: at)
    for number in range(20):
        at += 1.0
        old.append(b"line %d\n" % number)
    old.append(b"beginning of ")
    new.restore(old.snapshot())
    assert new.lines() == old.lines()
    for ring in (old, new):
        ring.append(b"the end\nnext\n")
    assert new.lines() == old.lines()
    assert new.lines()[-1].text == "next"
