"""Failures that a person can act on: phase, cause and hint on the console, in the kernel log and at the host."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from integration.lab.devices import Device, Drive, NineP
from integration.lab.guest import Lab

SHELL = "postSwitch:\n  handoff: {mode: shell, program: /bin/sh}\n"


def root(text: str) -> str:
    return f"switchRoot:\n  rootFileSystem: {{{text}}}\n"


@dataclass(frozen=True)
class Failure:
    """``words`` must be in the reason or the hint; ``action`` is what onFatal says."""

    config: str
    phase: str
    words: tuple[str, ...]
    action: str = "poweroff"
    device: str = "9p"


FAILURES = {
    "wrong tag": Failure(root("type: 9p, tag: rootfz") + SHELL, "switchRoot", ("rootfz", "tag")),
    "missing device": Failure(
        root("type: device, device: /dev/vdq, timeout: 2s") + SHELL, "switchRoot", ("/dev/vdq",), "reboot"
    ),
    "unknown file system": Failure(
        root("type: device, device: /dev/vda, fstype: reiserfs") + SHELL, "switchRoot", ("reiserfs",), device="disk"
    ),
    "empty disk": Failure(root("type: device, device: /dev/vda") + SHELL, "switchRoot", ("/dev/vda",), device="empty"),
    "missing program": Failure(
        root("type: 9p, tag: rootfs") + "postSwitch:\n  handoff: {mode: exec, program: /bin/absent}\n",
        "handoff",
        ("/bin/absent",),
    ),
    "program on a noexec root": Failure(
        root("type: 9p, tag: rootfs, readOnly: true, noExec: true") + SHELL, "handoff", ("/bin/sh", "noexec")
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_names_phase_cause_and_hint(lab: Lab, name: str) -> None:
    failure = FAILURES[name]
    devices: dict[str, Device] = {"9p": NineP(lab.busybox())}
    if failure.device != "9p":
        empty = lab.path("empty")
        empty.write_bytes(bytes(8 << 20))
        devices = {"disk": Drive(lab.ext4(lab.busybox())), "empty": Drive(empty)}
    vm = lab.boot(f"{failure.config}onFatal: {{action: {failure.action}}}\n", devices=[devices[failure.device]])
    ending = vm.wait()
    report = ending.report
    assert report["status"] == 1
    assert failure.phase in report["phase"]
    for word in failure.words:
        assert word in report["reason"] + report["hint"]
    assert report["hint"]
    assert re.search(r"^ocelot: error: ", ending.console, re.MULTILINE)
    assert re.search(r"^\[ *\d+\.\d+\] ocelot: ", ending.console, re.MULTILINE), "the kernel log"
    assert ending.how == {"poweroff": "guest-shutdown", "reboot": "guest-reset"}[failure.action]


def test_bad_yaml_is_shown_with_its_position_and_holds(lab: Lab) -> None:
    bad = lab.path("bad.yaml")
    bad.write_text("switchRoot:\n  rootFileSystem: {type: 9p, tagg: rootfs}\n  \tx: [\n")
    vm = lab.boot(
        root("type: 9p, tag: rootfs") + SHELL,
        includes=[(str(bad), "/etc/bad.yaml")],
        arguments="ocelot.config=/etc/bad.yaml ocelot.onfatal=hold",
        devices=[NineP(lab.busybox())],
    )
    vm.expect(r"/etc/bad\.yaml:3:3: ")
    vm.expect("holding")
    vm.power_button()
    ending = vm.wait()
    assert ending.report["phase"] == "configuration"
    assert "/etc/bad.yaml:3:3: " in ending.report["reason"]


def test_the_rescue_shell_has_job_control_and_its_end_is_the_end(lab: Lab) -> None:
    vm = lab.boot(
        root("type: device, device: /dev/vdq, timeout: 1s") + SHELL + "onFatal: {action: shell, shell: /bin/sh}\n",
        includes=[("/bin/busybox", "/bin/busybox")],
    )
    vm.expect("rescue shell")
    vm.expect("[#$] ")
    assert "/dev/ttyS0" in vm.run("/bin/busybox tty")
    vm.send("exit\n")
    ending = vm.wait()
    assert ending.status == 1
    assert "job control turned off" not in ending.console
