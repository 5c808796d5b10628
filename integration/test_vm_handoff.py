"""The three hand-offs with and without a boot script, the failure policies, and time-outs with whole process groups."""

from __future__ import annotations

import re

import pytest

from integration.lab import roots
from integration.lab.devices import Drive, NineP
from integration.lab.guest import Lab

ROOT = """
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
"""
SCRIPT = "    bootScript: {path: /srv/script, onFailure: Abort}\n"


@pytest.mark.parametrize("script", ["", SCRIPT], ids=["plain", "boot script"])
def test_a_shell_has_the_console_and_its_status_is_reported(lab: Lab, script: str) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/script", "echo the script ran; touch /tmp/script\n")
    vm = lab.boot(
        ROOT + f"postSwitch:\n  handoff:\n    mode: shell\n    program: /bin/sh\n{script}", devices=[NineP(tree)]
    )
    vm.expect(r"^[/~] # ")
    assert vm.run("tty").strip() == "/dev/ttyS0"
    assert vm.run("ls /tmp/script 2>/dev/null") == ("/tmp/script\n" if script else "")
    vm.send("exit 7\n")
    ending = vm.wait()
    assert ending.status == 7
    assert "job control turned off" not in ending.console


EXEC = """
echo "I am $$, $(readlink /proc/1/exe)"
grep -E '^Sig(Blk|Ign):' /proc/self/status
ulimit -n
ls /proc/1/fd | tr '\\n' ' '; echo
ls /run/ocelot/runtime 2>&1
env | sort
poweroff -f
"""


@pytest.mark.parametrize("script", ["", SCRIPT], ids=["plain", "boot script"])
def test_exec_becomes_the_program_with_everything_as_the_kernel_gave_it(lab: Lab, script: str) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/script", "echo the script ran\n")
    roots.script(tree, "/srv/program", EXEC)
    vm = lab.boot(
        ROOT + f"postSwitch:\n  environment: {{A: b}}\n  handoff:\n    mode: exec\n    program: /srv/program\n{script}",
        devices=[NineP(tree)],
    )
    vm.expect("I am 1, /bin/busybox")
    vm.expect(r"SigBlk:\s+0000000000000000")
    vm.expect(r"SigIgn:\s+0000000000000000")
    vm.expect(r"^1024$")
    vm.expect("No such file or directory")
    vm.expect("^A=b$")
    ending = vm.wait()
    assert ending.how == "guest-shutdown"
    assert ("the script ran" in ending.console) == bool(script)
    assert not re.search("^(PYTHON|LC_|LANG)", ending.console, re.MULTILINE)


POLICIES = """
preSwitch:
  hooks:
    - {name: warns, command: /bin/sh, arguments: [-c, exit 5], onFailure: Warn}
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
postSwitch:
  mounts:
    - {type: 9p, tag: absent, target: /mnt, onFailure: Warn, timeout: 1s}
  hooks:
    - {name: retried, command: /srv/third-time, onFailure: Retry, timeout: 60s}
    - {name: hung, command: /srv/hung, timeout: 2s, onFailure: Warn}
    - {name: last, command: /srv/last, onFailure: Warn}
  handoff:
    mode: supervise
    bootScript: {path: /srv/hung, timeout: 2s, onFailure: Warn}
    processes:
      report: {program: /srv/report, type: oneshot}
"""


def test_failures_that_are_warned_about_or_retried_and_hung_groups_that_end(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/third-time", "echo x >> /tmp/tries; [ $(wc -l < /tmp/tries) = 3 ]\n")
    roots.script(tree, "/srv/hung", "trap '' TERM\nsleep 1234 & sleep 1235\nsleep 1236\n")
    roots.script(tree, "/srv/last", "echo 'the last hook'\n")
    roots.script(
        tree, "/srv/report", "echo tries $(wc -l < /tmp/tries); echo sleepers $(ps -o args | grep -c '^sleep 123')\n"
    )
    vm = lab.boot(POLICIES, devices=[NineP(tree)])
    vm.expect(r"warn: .*warns.*status 5")
    vm.expect(r"warn: .*absent")
    vm.expect(r"warn: .*hung")
    vm.expect("the last hook")
    vm.expect("tries 3")
    vm.expect("sleepers 0")
    assert vm.wait().status == 0


@pytest.mark.parametrize("place", ["preSwitch hook", "postSwitch hook", "mount", "script", "retry"])
def test_abort_ends_the_boot_with_phase_and_cause(lab: Lab, place: str) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/fails", "exit 6\n")
    hook = "  hooks:\n    - {name: doomed, command: %s, arguments: [-c, exit 6], onFailure: %s, timeout: 3s}\n"
    early = "preSwitch:\n" + hook % ("/bin/sh", "Abort") if place == "preSwitch hook" else ""
    late = "postSwitch:\n"
    late += hook % ("sh", "Abort") if place == "postSwitch hook" else ""
    late += hook % ("sh", "Retry") if place == "retry" else ""
    late += "  mounts: [{type: 9p, tag: absent, target: /mnt, timeout: 1s}]\n" if place == "mount" else ""
    late += "  handoff:\n    mode: supervise\n    processes: {never: {program: /srv/fails}}\n"
    late += "    bootScript: {path: /srv/fails, onFailure: Abort}\n" if place == "script" else ""
    ending = lab.boot(early + ROOT + late, devices=[NineP(tree)]).wait()
    report = ending.report
    assert report["status"] == 1
    assert report["phase"].startswith({"preSwitch hook": "preSwitch", "script": "handoff"}.get(place, "postSwitch"))
    assert {"mount": "absent", "script": "script"}.get(place, "doomed") in report["reason"]
    assert "never" not in ending.console


@pytest.mark.parametrize("mode", ["shell", "supervise", "exec"])
def test_a_printed_template_boots_as_it_is(lab: Lab, mode: str) -> None:
    from integration.lab.devices import Virtiofs, virtiofsd
    from ocelot.config.templates import text

    if virtiofsd() is None:
        pytest.skip("no virtiofsd on this host")
    tree = lab.busybox()
    vm = lab.boot(text("bootstrap", mode), devices=[Virtiofs(tree)])
    if mode == "shell":
        vm.expect(r"^[/~] # ")
        vm.send("exit\n")
        assert vm.wait().status == 0
    elif mode == "supervise":
        vm.expect("app is up")
        vm.power_button()
        assert vm.wait().status == 0
    else:
        vm.expect("handed over to PID 1")


def test_a_disk_mounted_before_the_switch_is_not_deleted(lab: Lab) -> None:
    data = lab.path("data")
    data.mkdir()
    (data / "precious").write_text("still here\n")
    disk = lab.ext4(data)
    tree = lab.busybox()
    (tree / "mnt").rmdir()
    vm = lab.boot(
        "preSwitch:\n  mounts: [{type: device, device: /dev/vda, target: /mnt}]\n"
        + ROOT
        + "postSwitch:\n  handoff:\n    mode: supervise\n    processes:\n"
        + "      show: {program: cat, arguments: [/mnt/precious], type: oneshot}\n",
        devices=[Drive(disk), NineP(tree)],
    )
    vm.expect("still here")
    assert vm.wait().status == 0
    assert roots.read_file(disk, "/precious") == "still here\n"
    assert not roots.needs_recovery(disk)
