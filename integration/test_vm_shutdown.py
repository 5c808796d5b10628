"""Every way down: in order, with a clean journal, and the exit status on the console and at the host."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from integration.lab import roots
from integration.lab.devices import Drive
from integration.lab.guest import Lab
from integration.lab.vm import Hardware, Vm

CONFIG = """
switchRoot:
  rootFileSystem: {type: device, device: /dev/vda}
postSwitch:
  handoff:
    mode: supervise
    processes:
      service: {program: /srv/service, terminationGracePeriod: 20s}
      stubborn: {program: /srv/stubborn, terminationGracePeriod: 1s}
      trigger: {program: /srv/trigger, type: oneshot%s}
"""

# The grandchild has left its group: only the final round of signals reaches it.
SERVICE = """
setsid sh -c 'trap "echo stray got TERM; exit" TERM; while :; do sleep 0.2; done' > /dev/console 2>&1 &
trap 'echo "service stops"; date > /srv/stopped; exit 0' TERM
echo "service is up"
while :; do sleep 0.2; done
"""
STUBBORN = "trap '' TERM\nwhile :; do sleep 0.2; done\n"


def boot(lab: Lab, trigger: str, more: str = "", sections: str = "") -> tuple[Vm, Drive]:
    tree = lab.busybox()
    roots.script(tree, "/srv/service", SERVICE)
    roots.script(tree, "/srv/stubborn", STUBBORN)
    roots.script(tree, "/srv/trigger", f"sleep 1; echo triggered\n{trigger}\n")
    disk = Drive(lab.ext4(tree))
    vm = lab.boot(sections + CONFIG % more, devices=[disk])
    vm.expect("triggered")
    return vm, disk


WAYS: dict[str, tuple[str, Callable[[Vm], None] | None, str]] = {
    "SIGTERM": ("kill -TERM 1", None, "poweroff"),
    "SIGINT": ("kill -INT 1", None, "poweroff"),
    "SIGPWR": ("kill -PWR 1", None, "poweroff"),
    "SIGRTMIN+5": ("kill -39 1", None, "reboot"),  # as systemd's own reboot
    "ocelotctl poweroff": ("ocelotctl poweroff", None, "poweroff"),
    "ocelotctl reboot": ("ocelotctl reboot", None, "reboot"),
    "ocelotctl halt": ("ocelotctl halt", None, "halt"),
    "Ctrl-Alt-Del": ("", Vm.ctrl_alt_del, "poweroff"),
    "power button": ("", Vm.power_button, "poweroff"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_request_to_go_down(lab: Lab, way: str) -> None:
    trigger, deed, verb = WAYS[way]
    vm, disk = boot(lab, trigger)
    if deed is not None:
        deed(vm)
    vm.expect("service stops")
    vm.expect("stray got TERM")
    vm.expect(r"^ocelot: exit status 0: ")
    if verb == "halt":
        vm.expect("System halted")
    else:
        ending = vm.wait()
        assert ending.how == {"poweroff": "guest-shutdown", "reboot": "guest-reset"}[verb]
        assert ending.report["verb"] == verb
        assert ending.status == 0
        assert re.search("stubborn.*SIGKILL", ending.console)
    assert not roots.needs_recovery(disk.image)
    assert roots.read_file(disk.image, "/srv/stopped")


def test_the_end_of_an_essential_process_ends_the_machine_with_its_status(lab: Lab) -> None:
    """And as ``shutdown.action`` says."""
    vm, disk = boot(lab, "exit 42", ", essential: true", "shutdown: {action: reboot}\n")
    vm.expect("service stops")
    ending = vm.wait()
    assert (ending.how, ending.report["verb"]) == ("guest-reset", "reboot")
    assert ending.status == 42
    assert ending.report["process"] == "trigger"
    assert not roots.needs_recovery(disk.image)


def test_the_end_of_all_processes_ends_the_machine_with_the_first_failure(lab: Lab) -> None:
    """Told over a port of another name."""
    config = """
host: {exitPort: com.example.status}
switchRoot:
  rootFileSystem: {type: device, device: /dev/vda}
postSwitch:
  handoff:
    mode: supervise
    processes:
      good: {program: "true", type: oneshot}
      killed: {program: sh, arguments: [-c, "sleep 1; kill -SEGV $$"]}
      later: {program: sh, arguments: [-c, "sleep 3; exit 9"]}
"""
    disk = Drive(lab.ext4(lab.busybox()))
    ending = lab.boot(config, hardware=Hardware(exit_port="com.example.status"), devices=[disk]).wait()
    assert ending.status == 139
    assert "ocelot: exit status 139: " in ending.console
    assert not roots.needs_recovery(disk.image)
