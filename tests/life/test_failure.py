"""What comes after a failure: what ``onFatal`` says, as this machine can do it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from bootstrap import cmdline, shutdown
from ocelot.config import structs
from ocelot.errors import BootError
from ocelot.life import failure
from ocelot.linux.identity import Identity
from ocelot.states import PowerVerb


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PowerVerb]:
    """The verb after a boot that failed under the given sections, on a machine with ACPI or without."""

    async def nobody_listens(*_: object) -> None:
        pass

    def run(acpi: bool, **sections: Any) -> PowerVerb:
        monkeypatch.setattr(failure, "report", nobody_listens)
        monkeypatch.setattr(shutdown, "can_power_off", lambda: acpi)
        life: Any = SimpleNamespace(
            config=structs.Bootstrap(**sections),
            cmdline=cmdline.Cmdline(),
            kind="bootstrap",
            machine=None,
            requested=None,
            supervisor=None,
            tty=lambda: None,
            verb=None,
            who=Identity.MACHINE,
        )
        return trio.run(failure.fail, life, BootError("no such device", phase="switchRoot")).verb

    return run


def test_a_machine_that_cannot_power_off_is_reset_after_a_failure_too(failed: Callable[..., PowerVerb]) -> None:
    assert failed(acpi=True) is PowerVerb.POWEROFF
    assert failed(acpi=False) is PowerVerb.REBOOT
    assert failed(acpi=False, shutdown=structs.Shutdown(action="poweroff")) is PowerVerb.POWEROFF


def test_what_is_to_follow_a_failure_counts_more_than_what_follows_an_ordinary_end(
    failed: Callable[..., PowerVerb],
) -> None:
    assert failed(acpi=True, shutdown=structs.Shutdown(action="halt")) is PowerVerb.POWEROFF
    reboot = structs.OnFatal(action=structs.FatalAction.REBOOT)
    assert failed(acpi=True, on_fatal=reboot) is PowerVerb.REBOOT
