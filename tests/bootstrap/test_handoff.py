"""What a hand-off asks of the runner, and what is checked before anything is given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import trio

from bootstrap import handoff, rescue
from bootstrap.steps import Machine
from ocelot import log
from ocelot.config import structs
from ocelot.errors import OcelotError, SpawnError
from ocelot.linux.identity import Identity
from ocelot.linux.inherited import Inherited
from ocelot.states import ExitStatus, PowerVerb


class FakeRunner:
    """Remembers what it was asked for; ends with ``outcome``, or waits for ever."""

    def __init__(self, outcome: ExitStatus | Exception | None) -> None:
        self.outcome = outcome
        self.argv: Sequence[str] = ()
        self.terminal: str | None = None
        self.environment: Mapping[str, str] = {}
        self.cancelled = False

    async def run(
        self,
        argv: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str],
        working_directory: str | None = None,
        timeout: float | None = None,
        terminal: str | None = None,
    ) -> ExitStatus:
        self.argv, self.environment, self.terminal = argv, environment, terminal
        if self.outcome is None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                self.cancelled = True
                raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


def machine(runner: FakeRunner) -> Machine:
    return Machine(
        runner=runner, identity=Identity.CONTAINER, warn=log.warn, info=log.info, environment={"A": "1", "PATH": "/bin"}
    )


def test_the_shell_gets_the_real_terminal_and_a_fitting_type() -> None:
    runner = FakeRunner(ExitStatus(code=3))
    status = trio.run(handoff.shell, structs.Shell(program="/bin/sh", arguments=("-l",)), machine(runner), "/dev/ttyS0")
    assert status.code == 3
    assert runner.argv == ("/bin/sh", "-l")
    assert runner.terminal == "/dev/ttyS0"
    assert runner.environment["TERM"] == "vt220"
    assert runner.environment["A"] == "1"
    trio.run(handoff.shell, structs.Shell(), machine(runner), "/dev/tty1")
    assert runner.environment["TERM"] == "linux"


def test_no_terminal_no_shell() -> None:
    with pytest.raises(OcelotError, match="no terminal behind the console"):
        trio.run(handoff.shell, structs.Shell(), machine(FakeRunner(ExitStatus(code=0))), None)


def test_a_shell_that_does_not_exist_is_refused_with_its_name() -> None:
    with pytest.raises(OcelotError, match=r'cannot execute "/bin/nosuch"'):
        trio.run(handoff.shell, structs.Shell(program="/bin/nosuch"), machine(FakeRunner(None)), "/dev/ttyS0")


def test_exec_is_checked_while_everything_still_works() -> None:
    with pytest.raises(OcelotError, match=r'cannot execute "/bin/nosuch"'):
        handoff.plan_exec(structs.Exec(program="/bin/nosuch"), machine(FakeRunner(None)), Inherited())


def test_exec_gets_the_environment_of_the_kernel_and_the_phases_without_our_tools() -> None:
    inherited = Inherited(environment={"HOME": "/", "A": "0"})
    life = machine(FakeRunner(None))
    life.environment["PATH"] = "/bin:/usr/bin:/run/ocelot/bin"
    program, environment = handoff.plan_exec(structs.Exec(program="sh"), life, inherited)
    assert program == "/bin/sh"
    assert environment == {"HOME": "/", "A": "1", "PATH": "/bin:/usr/bin"}


def test_the_boot_script_is_a_step_with_its_policy() -> None:
    script = structs.BootScript(path="/etc/boot", arguments=("-x",), timeout=5.0, on_failure=structs.OnFailure.ABORT)
    (step,) = handoff.plan_handoff(structs.Supervise(boot_script=script))
    assert (step.on_failure, step.timeout) == (structs.OnFailure.ABORT, 5.0)
    assert "/etc/boot -x" in step.describe()
    runner = FakeRunner(ExitStatus(code=1))
    with pytest.raises(OcelotError, match="exited with status 1"):
        trio.run(step.apply, machine(runner))
    assert runner.argv == ("/etc/boot", "-x")
    (default,) = handoff.plan_handoff(structs.Shell(boot_script=structs.BootScript(path="/etc/boot")))
    assert default.on_failure is structs.OnFailure.WARN
    assert handoff.plan_handoff(structs.Shell()) == ()


def fatal(policy: structs.OnFatal, runner: FakeRunner, *, requested: bool = False) -> PowerVerb | None:
    async def main() -> PowerVerb | None:
        event = trio.Event()
        if requested:
            event.set()
        with trio.fail_after(5):
            return await rescue.run(policy, machine(runner), "/dev/ttyS0", event)

    return trio.run(main)


def test_policies_for_the_fatal() -> None:
    action = structs.FatalAction
    assert fatal(structs.OnFatal(), FakeRunner(None)) is PowerVerb.POWEROFF
    assert fatal(structs.OnFatal(action=action.REBOOT), FakeRunner(None)) is PowerVerb.REBOOT
    assert fatal(structs.OnFatal(action=action.HOLD), FakeRunner(None), requested=True) is None


def test_the_rescue_shell_ends_by_itself_at_a_request_and_when_it_cannot_start() -> None:
    policy = structs.OnFatal(action=structs.FatalAction.SHELL)
    assert fatal(policy, FakeRunner(ExitStatus(code=0))) is None
    waiting = FakeRunner(None)
    assert fatal(policy, waiting, requested=True) is None
    assert waiting.cancelled
    log.recent.clear()
    assert fatal(policy, FakeRunner(SpawnError('cannot start "/bin/sh": no such file'))) is None
    assert any("there is no rescue shell" in line for _, line in log.recent)
    assert fatal(policy, FakeRunner(trio.TooSlowError())) is None
