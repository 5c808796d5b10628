"""Every kind of root file system, in a real machine: mounted, switched to, supervised on, and left clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.lab import roots
from integration.lab.devices import Device, Drive, NineP, Virtiofs, virtiofsd
from integration.lab.guest import Lab
from integration.lab.vm import Ending, Hardware

REPORT = """\
echo "pid $(cat /proc/1/stat | cut -d' ' -f1) root $(grep ' / / ' /proc/self/mountinfo | tail -n 1)"
ls / | tr '\\n' ' '; echo
ps -o pid,ppid,args | grep '[i]nit' | head -n 1
unshare -U true && echo "user namespaces work"
ocelotctl status
ls /etc/ocelot/initramfs /sysroot 2>&1 | head -n 2
"""


SESSIONS = """\
ocelotctl wait report --for running > /dev/null && echo "waited"
echo 'echo "beside $OCELOT_TEST in $PWD"; exit 3' | ocelotctl shell -e OCELOT_TEST=report -w /tmp report
echo "status $?"
# Standard input is a terminal: ocelotctl makes another one for the command
ocelotctl exec report -- sh -c 'test -t 0; echo "terminal $?"' < /dev/ptmx
ocelotctl events report -n 1
"""


def config(root: str, *, extra: str = "") -> str:
    return f"""
switchRoot:
  rootFileSystem: {{{root}}}
postSwitch:
  handoff:
    mode: supervise
    processes:
      report: {{program: /report, type: oneshot}}
{extra}
"""


def tree(lab: Lab, *, mount_points: bool = True, more: str = "") -> Path:
    made = lab.busybox(mount_points=mount_points)
    roots.script(made, "/report", REPORT + more)
    return made


def boot(lab: Lab, root: str, device: Device, *, extra: str = "", **more: object) -> Ending:
    vm = lab.boot(config(root, extra=extra), devices=[device], **more)  # type: ignore[arg-type]
    vm.expect(r"^pid 1 root \d+ ")
    vm.expect("user namespaces work")
    vm.expect(r"report +(running|starting)")
    ending = vm.wait()
    assert ending.status == 0
    assert ending.how == "guest-shutdown"
    return ending


def root_line(ending: Ending) -> str:
    return next(line for line in ending.console.splitlines() if line.startswith("pid 1 root "))


def test_virtiofs(lab: Lab) -> None:
    if virtiofsd() is None:
        pytest.skip("no virtiofsd on this host")
    ending = boot(lab, "type: virtiofs, tag: rootfs, target: /", Virtiofs(tree(lab)))
    assert " - virtiofs " in root_line(ending)
    assert "freed " in ending.console


def test_9p(lab: Lab) -> None:
    assert " - 9p " in root_line(boot(lab, "type: 9p, tag: rootfs", NineP(tree(lab))))


def test_sessions_and_events_where_there_is_no_python(lab: Lab) -> None:
    ending = boot(lab, "type: 9p, tag: rootfs", NineP(tree(lab, more=SESSIONS)))
    lines = ending.console.splitlines()
    for expected in ("waited", "beside report in /tmp", "status 3", "terminal 0"):
        assert any(line.endswith(expected) for line in lines), expected
    assert any("report: running, started with pid" in line for line in lines)


def test_ext4_without_fstype_is_left_with_a_clean_journal(lab: Lab) -> None:
    image = lab.ext4(tree(lab))
    ending = boot(lab, "type: device, device: /dev/vda", Drive(image))
    assert " - ext4 " in root_line(ending)
    assert not roots.needs_recovery(image)


def test_a_root_found_by_label(lab: Lab) -> None:
    image = lab.ext4(tree(lab), label="ocelotroot")
    assert " - ext4 " in root_line(boot(lab, "type: device, device: LABEL=ocelotroot", Drive(image)))


def test_a_root_found_by_uuid(lab: Lab) -> None:
    uuid = "3f6ad0a7-41a6-4d3f-8f3e-0c7f6f1c2d10"
    image = lab.ext4(tree(lab), uuid=uuid)
    assert " - ext4 " in root_line(boot(lab, f"type: device, device: UUID={uuid}", Drive(image)))


def test_squashfs_without_fstype(lab: Lab) -> None:
    image = lab.squashfs(tree(lab))
    assert " - squashfs " in root_line(boot(lab, "type: device, device: /dev/vda", Drive(image, read_only=True)))


def test_a_read_only_root_without_mount_points_gets_an_overlay_and_a_warning(lab: Lab) -> None:
    image = lab.squashfs(tree(lab, mount_points=False))
    ending = boot(lab, "type: device, device: /dev/vda, readOnly: true", Drive(image, read_only=True))
    assert " - overlay " in root_line(ending)
    assert "ocelot: warn: " in ending.console


def test_overlay_true_on_a_read_only_root(lab: Lab) -> None:
    image = lab.squashfs(tree(lab))
    ending = boot(lab, "type: device, device: /dev/vda, readOnly: true, overlay: true", Drive(image, read_only=True))
    assert " - overlay " in root_line(ending)


def test_nfs_over_a_static_address(lab: Lab) -> None:
    port = lab.nfs(tree(lab))
    root = f'type: nfs, server: 10.0.2.2, export: /root, options: "port={port}"'
    vm = lab.boot(
        config(root), arguments="ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none", hardware=Hardware(network=True)
    )
    vm.expect(r"^pid 1 root .* - nfs4? ")
    assert vm.wait().status == 0


def test_a_disk_that_comes_late(lab: Lab) -> None:
    image = lab.ext4(tree(lab))
    vm = lab.boot(config("type: device, device: /dev/vda, timeout: 60s") + "logLevel: debug\n")
    vm.expect(r"rootFileSystem|waiting for")
    vm.plug(image)
    vm.expect(r"^pid 1 root .* - ext4 ")
    assert vm.wait().status == 0
