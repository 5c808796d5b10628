"""The order of a boot and what the failure of a step does."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bootstrap.phases import KEYS, Group, PlannedPhase, plan, run_phase
from bootstrap.steps import Machine
from bootstrap.timeline import Timeline
from ocelot.config.structs import (
    Bootstrap,
    DeviceMount,
    Hook,
    NfsMount,
    OnFailure,
    Phase,
    PostSwitch,
    SwitchRoot,
    Symlink,
    Tmpfile,
    VirtiofsMount,
    VirtualMount,
)
from ocelot.errors import BootError, OcelotError
from ocelot.linux.identity import Identity
from ocelot.states import ExitStatus


class Programs:
    """A Runner that remembers what it was asked, and takes as long as it is told to."""

    def __init__(self, status: ExitStatus | None = None, takes: float = 0.0) -> None:
        self.asked: list[tuple[tuple[str, ...], dict[str, str]]] = []
        self._status = status or ExitStatus(code=0)
        self._takes = takes

    async def run(self, argv: Any, *, environment: Any, timeout: float | None = None, **_rest: Any) -> ExitStatus:
        self.asked.append((tuple(argv), dict(environment)))
        with trio.fail_after(timeout if timeout is not None else float("inf")):
            await trio.sleep(self._takes)
        return self._status


@dataclass
class Recorder:
    """A machine and everything it was told."""

    programs: Programs = field(default_factory=Programs)
    warnings: list[str] = field(default_factory=list)
    timeline: Timeline | None = None

    def machine(self) -> Machine:
        return Machine(self.programs, Identity.CONTAINER, self.warnings.append, lambda _line: None)


@dataclass(frozen=True)
class Fails:
    """A step that fails until it has been tried ``times`` times."""

    times: float
    on_failure: OnFailure
    timeout: float | None = None
    name: str = "flaky"
    error: Exception = field(default_factory=lambda: OcelotError("cannot do it", hint="do it better"))
    tried: list[float] = field(default_factory=list)
    takes: float = 0.0

    def describe(self) -> str:
        return "fail"

    async def apply(self, machine: Machine) -> None:
        self.tried.append(trio.current_time())
        await trio.sleep(self.takes)
        if len(self.tried) <= self.times:
            raise self.error


def run(phase: PlannedPhase, recorder: Recorder) -> None:
    async def main() -> None:
        recorder.timeline = Timeline()
        await run_phase(phase, recorder.machine(), recorder.timeline)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def phase_of(*steps: Any) -> PlannedPhase:
    return PlannedPhase("preSwitch", (Group("hooks", steps),))


def spans(recorder: Recorder) -> dict[str, tuple[str, str]]:
    assert recorder.timeline is not None
    return {span.name: (span.phase, span.outcome) for span in recorder.timeline.wire.spans}


def test_the_order_within_a_phase_is_the_documented_one() -> None:
    keys = [key for key, _ in KEYS]
    assert keys == ["environment", "modules", "sysctl", "network", "mounts", "tmpfiles", "symlinks", "hooks"]


@dataclass(frozen=True)
class Waits(Fails):
    """A step that waits for a device."""

    async def apply(self, machine: Machine) -> None:
        machine.waited += self.takes


def test_a_step_that_waited_for_a_device_says_so_in_the_timeline() -> None:
    recorder = Recorder()
    run(phase_of(Waits(0, OnFailure.WARN, takes=1.25), Fails(0, OnFailure.WARN, name="after")), recorder)
    assert recorder.timeline is not None
    details = {span.name: span.detail for span in recorder.timeline.wire.spans}
    assert details["flaky"] == "1.250 s of it waiting for the device"
    assert details["after"] == ""


def test_a_step_that_warns_lets_the_next_one_run() -> None:
    recorder = Recorder()
    after = Fails(0, OnFailure.WARN, name="after")
    run(phase_of(Fails(1, OnFailure.WARN), after), recorder)
    assert len(after.tried) == 1
    assert recorder.warnings == ["preSwitch.hooks: cannot do it (do it better); going on, since its onFailure is Warn"]
    assert spans(recorder)["flaky"] == ("preSwitch.hooks", "warned")
    assert spans(recorder)["hooks"] == ("preSwitch", "ok")


def test_a_step_that_aborts_ends_the_phase_with_its_place_and_hint() -> None:
    recorder = Recorder()
    after = Fails(0, OnFailure.WARN, name="after")
    with pytest.raises(BootError) as caught:
        run(phase_of(Fails(1, OnFailure.ABORT), after), recorder)
    assert (caught.value.phase, caught.value.message, caught.value.hint) == (
        "preSwitch.hooks",
        "cannot do it",
        "do it better",
    )
    assert after.tried == []
    assert spans(recorder)["flaky"][1] == "failed"
    assert spans(recorder)["preSwitch"][1] == "failed"


@pytest.mark.parametrize("error", [OSError(2, "nope"), ValueError("a mistake of ours")])
def test_any_error_of_a_step_goes_by_its_policy(error: Exception) -> None:
    recorder = Recorder()
    run(phase_of(Fails(1, OnFailure.WARN, error=error)), recorder)
    assert len(recorder.warnings) == 1
    with pytest.raises(BootError) as caught:
        run(phase_of(Fails(1, OnFailure.ABORT, error=error)), recorder)
    assert caught.value.__cause__ is error


def test_an_error_of_the_kernel_is_told_with_the_step_and_what_to_do_about_it() -> None:
    """The kernel's own names what it was called with: for a link that cannot be made, what it would point to."""
    recorder = Recorder()
    run(phase_of(Fails(1, OnFailure.WARN, error=OSError(errno.EROFS, "", "there"), name="symlink /etc/here")), recorder)
    assert len(recorder.warnings) == 1
    assert 'cannot complete "symlink /etc/here": Read-only file system: "there"' in recorder.warnings[0]
    assert "without one, rw on the kernel command line" in recorder.warnings[0]


def test_retry_waits_longer_each_time_until_it_works() -> None:
    recorder = Recorder()
    step = Fails(4, OnFailure.RETRY, timeout=60.0)
    run(phase_of(step), recorder)
    gaps = [round(b - a, 3) for a, b in zip(step.tried, step.tried[1:], strict=False)]
    assert gaps == [0.25, 0.5, 1.0, 2.0]
    assert spans(recorder)["flaky"][1] == "ok"


def test_retry_stops_growing_and_gives_up_within_its_timeout() -> None:
    recorder = Recorder()
    step = Fails(float("inf"), OnFailure.RETRY, timeout=60.0)
    with pytest.raises(BootError, match="cannot do it"):
        run(phase_of(step), recorder)
    assert step.tried[-1] - step.tried[0] < 60.0
    assert step.tried[-1] - step.tried[-2] == pytest.approx(8.0)
    assert "giving up on flaky" in recorder.warnings[-1]


def test_a_step_that_hangs_is_ended_after_its_timeout() -> None:
    recorder = Recorder()
    step = Fails(0, OnFailure.ABORT, timeout=5.0, takes=1000.0)
    with pytest.raises(BootError, match=r'cannot complete "flaky": it is not done after 5s'):
        run(phase_of(step), recorder)


def test_a_hanging_try_cannot_outlive_the_timeout_of_retry() -> None:
    recorder = Recorder()
    step = Fails(1, OnFailure.RETRY, timeout=10.0, takes=8.0)
    with pytest.raises(BootError):
        run(phase_of(step, Fails(0, OnFailure.WARN, name="after")), recorder)
    assert len(step.tried) == 2


def test_the_environment_of_a_phase_holds_for_its_hooks_and_the_hook_wins() -> None:
    recorder = Recorder()
    config = Bootstrap(
        pre_switch=Phase(
            environment={"A": "phase", "B": "phase"},
            hooks=(Hook(name="h", command="/bin/h", arguments=("x y",), environment={"B": "hook"}),),
        )
    )
    groups = tuple(group for group in plan(config).pre_switch.groups if group.key in ("environment", "hooks"))
    run(PlannedPhase("preSwitch", groups), recorder)
    [(argv, environment)] = recorder.programs.asked
    assert argv == ("/bin/h", "x y")
    assert (environment["A"], environment["B"]) == ("phase", "hook")
    assert environment["PATH"].endswith(":/run/ocelot/bin")


def test_a_hook_that_fails_says_how() -> None:
    recorder = Recorder(Programs(ExitStatus(code=3)))
    config = Bootstrap(pre_switch=Phase(hooks=(Hook(name="h", command="/bin/h", on_failure=OnFailure.ABORT),)))
    with pytest.raises(BootError, match='cannot complete hook "h": /bin/h exited with status 3'):
        run(PlannedPhase("preSwitch", plan(config).pre_switch.groups[-1:]), recorder)


def test_a_hook_that_hangs_is_named_with_its_timeout() -> None:
    recorder = Recorder(Programs(takes=100.0))
    hook = Hook(name="h", command="/bin/h", on_failure=OnFailure.ABORT, timeout=2.0)
    groups = plan(Bootstrap(pre_switch=Phase(hooks=(hook,)))).pre_switch.groups[-1:]
    with pytest.raises(BootError, match='hook "h": it was still running after 2s and was killed'):
        run(PlannedPhase("preSwitch", groups), recorder)


CONFIG = Bootstrap(
    pre_switch=Phase(
        hooks=(Hook(name="h", command="/bin/h"),),
        mounts=(VirtualMount(fstype="tmpfs", target="/data"),),
        sysctl={"net.core.somaxconn": "1024"},
        symlinks=(Symlink(source="a", target="/b"),),
        tmpfiles=(Tmpfile(path="/t"),),
        environment={"K": "v"},
    ),
    switch_root=SwitchRoot(root_file_system=VirtiofsMount(tag="rootfs", on_failure=OnFailure.RETRY)),
    post_switch=PostSwitch(mounts=(DeviceMount(device="/dev/vdb", target="/srv"),)),
)


def test_mounts_abort_by_default_and_the_rest_warns() -> None:
    by_name = {step.name: step.on_failure for step in all_steps(CONFIG)}
    assert by_name["mount /data"] is OnFailure.ABORT
    assert by_name["mount /srv"] is OnFailure.ABORT
    assert by_name["mount root"] is OnFailure.RETRY
    assert by_name["switch root"] is OnFailure.ABORT
    for name in ("hook h", "sysctl net.core.somaxconn", "symlink /b", "tmpfile /t", "environment K"):
        assert by_name[name] is OnFailure.WARN


def test_the_plan_reads_as_what_will_be_done() -> None:
    text = plan(CONFIG, "quiet ip=10.0.2.15::10.0.2.2:24::eth0:none").describe()
    told = [line.strip() for line in text.splitlines()]
    wanted = [
        "preSwitch:",
        "- set K=v for everything that follows  [Warn]",
        "- write '1024' to /proc/sys/net/core/somaxconn  [Warn]",
        "- give eth0 the address 10.0.2.15/24, default route through 10.0.2.2  [Abort]",
        "- make file /t, mode 0644  [Warn]",
        "- link /b -> a  [Warn]",
        "- run /bin/h (at most 5m)  [Warn]",
        "switchRoot:",
        "postSwitch:",
    ]
    assert [line for line in told if line in wanted] == wanted
    assert "[Retry for 30s, then Abort]" in text


def test_the_guards_are_asked_before_anything_is_done() -> None:
    planned = plan(CONFIG)
    assert steps_of(planned.pre_switch)[0].name == "check"
    assert [group.key for group in planned.switch_root.groups] == ["rootFileSystem", "switch"]
    assert "check" not in [step.name for step in all_steps(Bootstrap())]


def test_without_switch_root_nothing_is_switched() -> None:
    assert [step.name for group in plan(Bootstrap()).switch_root.groups for step in group.steps] == ["share /"]


def test_ip_of_the_kernel_command_line_is_set_up_once() -> None:
    planned = plan(Bootstrap(), "ip=10.0.2.15")
    assert [step.name for step in steps_of(planned.pre_switch)] == ["loopback", "network"]
    assert steps_of(planned.post_switch) == []


NFS = SwitchRoot(root_file_system=NfsMount(server="10.0.2.2", export="/srv"))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Bootstrap(), OnFailure.WARN),
        (CONFIG, OnFailure.WARN),
        (Bootstrap(switch_root=NFS), OnFailure.ABORT),
        (Bootstrap(switch_root=NFS, pre_switch=Phase(hooks=(Hook(name="h", command="/bin/udhcpc"),))), OnFailure.WARN),
    ],
)
def test_dhcp_on_the_command_line_ends_the_boot_where_the_root_can_be_reached_in_no_other_way(
    config: Bootstrap, expected: OnFailure
) -> None:
    planned = plan(config, "ip=dhcp")
    assert [step.on_failure for step in steps_of(planned.pre_switch) if step.name == "network"] == [expected]


def steps_of(phase: PlannedPhase) -> list[Any]:
    return [step for group in phase.groups for step in group.steps]


def all_steps(config: Bootstrap) -> list[Any]:
    return [step for phase in plan(config).phases for step in steps_of(phase)]
