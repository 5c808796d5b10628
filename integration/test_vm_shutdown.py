"""Every way down: in order, with a clean journal, and the exit status on the console and at the host."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from integration.lab import roots
from integration.lab.devices import Drive
from integration.lab.guest import Lab
from integration.lab.vm import Hardware, Vm
from ocelot.states import signal_name
from supervisor.signals import MACHINE

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
STUBBORN = "trap '' TERM\necho trapped\nwhile :; do sleep 0.2; done\n"


def boot(lab: Lab, trigger: str, more: str = "", sections: str = "", reloaded: str = "") -> tuple[Vm, Drive]:
    """``reloaded``: what a reload finds in the new root; without it, nothing."""
    tree = lab.busybox()
    if reloaded:
        (tree / "etc/ocelot").mkdir()
        (tree / "etc/ocelot/bootstrap.yaml").write_text(reloaded)
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
    "SIGUSR1": ("halt", None, "halt"),  # busybox's own
    "SIGUSR2": ("poweroff", None, "poweroff"),  # busybox's own
    "SIGRTMIN+3": ("kill -37 1", None, "halt"),  # as systemd's own halt
    "SIGRTMIN+4": ("kill -38 1", None, "poweroff"),
    "SIGRTMIN+5": ("kill -39 1", None, "reboot"),
    "ocelotctl poweroff": ("ocelotctl poweroff", None, "poweroff"),
    "ocelotctl reboot": ("ocelotctl reboot", None, "reboot"),
    "ocelotctl halt": ("ocelotctl halt", None, "halt"),
    "Ctrl-Alt-Del": ("", Vm.ctrl_alt_del, "poweroff"),
    "power button": ("", Vm.power_button, "poweroff"),
    "SIGTERM without /proc": ("umount -l /proc; kill -TERM 1", None, "poweroff"),
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
        vm.switch_off()
    ending = vm.wait()
    assert ending.how == {"poweroff": "guest-shutdown", "reboot": "guest-reset", "halt": "host-qmp-quit"}[verb]
    assert ending.report["verb"] == verb
    assert ending.status == 0
    assert re.search("stubborn.*SIGKILL", ending.console)
    assert not roots.needs_recovery(disk.image)
    assert roots.read_file(disk.image, "/srv/stopped")


LATE = """\
      late: {program: sh, arguments: [-c, "echo late is up; kill -QUIT 1; exec sleep 1000"]}
"""


def test_a_reload_by_signal_and_the_end_by_sigquit(lab: Lab) -> None:
    """Before both, the keyboard request of the console: nothing happens."""
    vm, disk = boot(lab, "kill -WINCH 1; kill -HUP 1", sections="logLevel: debug\n", reloaded=CONFIG % "" + LATE)
    vm.expect("SIGHUP: reloads")
    vm.expect("late is up")
    assert "SIGWINCH: ignored" in vm.console
    assert "service stops" not in vm.console
    vm.expect("SIGQUIT: shuts down")
    vm.expect("service stops")
    ending = vm.wait()
    assert (ending.how, ending.report["reason"]) == ("guest-shutdown", "asked by SIGQUIT")
    assert ending.console.count("service is up") == 1
    assert not roots.needs_recovery(disk.image)


def test_a_second_ctrl_alt_del_kills_what_is_left_at_once(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/stubborn", STUBBORN)
    config = (
        CONFIG.partition("      service:")[0] + "      stubborn: {program: /srv/stubborn, terminationGracePeriod: 1h}\n"
    )
    vm = lab.boot(config, devices=[Drive(lab.ext4(tree))])
    vm.expect("trapped")
    vm.ctrl_alt_del()
    vm.expect("stopping 1 process")
    vm.ctrl_alt_del()
    vm.expect("SIGINT: kills what is left")
    ending = vm.wait()
    assert (ending.how, ending.report["reason"]) == ("guest-shutdown", "asked by SIGINT")


def test_every_signal_of_the_table_is_sent_to_a_machine() -> None:
    reloading = {"SIGQUIT", "SIGHUP", "SIGWINCH"}
    assert {signal_name(response.number) for response in MACHINE} <= reloading | set(WAYS)


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
