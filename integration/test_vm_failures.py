"""Failures that a person can act on: phase, cause and hint on the console, in the kernel log and at the host."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

import pytest

from integration.lab import initramfs, roots
from integration.lab.devices import Device, Drive, NineP
from integration.lab.guest import Lab
from integration.lab.vm import Hardware, Vm

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
    vm = lab.boot(
        f"{failure.config}onFatal: {{action: {failure.action}}}\n",
        devices=[devices[failure.device]],
        arguments="loglevel=4",  # errors on the console: Ubuntu's "quiet" leaves them out too
    )
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


MISTAKES = """
logLevel: info
preSwitch:
  mounts:
    - {type: device, device: /dev/vda, target: /mnt/partitioned, onFailure: Warn}
    - {type: device, device: /dev/vdb, target: /mnt/encrypted, onFailure: Warn}
    - {type: device, device: /dev/vda1, fstype: etx4, target: /mnt/misspelt, onFailure: Warn}
    - {type: nfs, server: 10.0.2.2, export: /root, options: "port=1", timeout: 8s, target: /mnt/refused, onFailure: Warn}
    - {type: 9p, tag: more, target: /nine}
    - {type: overlay, lower: /nine/bin, upper: /nine/srv/upper, work: /tmp/work, target: /mnt/overlay, onFailure: Warn}
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
postSwitch:
  handoff:
    mode: supervise
    bootScript: {path: /srv/windows, onFailure: Warn}
    processes:
      foreign: {program: /srv/foreign}
      plain: {program: /srv/plain}
      windows: {program: /srv/windows}
      orphan: {program: /srv/orphan}
"""

TOLD = (
    r"mounts: .*/dev/vda.* holds a partition table.*set device to one of its partitions: /dev/vda1 \(ext4",
    r"mounts: .*/dev/vdb.* holds crypto_LUKS.*cryptsetup open",
    r'mounts: .*does not know the file system type "etx4".*did you mean "ext4"',
    r'mounts: cannot mount "10.0.2.2:/root".*refused.*check that the server runs NFS',
    r"mounts: cannot mount .overlay. .*one writable local file system",
    r"bootScript: .*/srv/windows.*carriage return.*Unix line ends",
    r"foreign.*built for aarch64, this is x86_64.*for this architecture",
    r"plain.*is not executable.*chmod \+x /srv/plain",
    r"windows.*carriage return.*Unix line ends",
    r'orphan.*interpreter "/bin/nosuch" is missing.*install it',
)


def test_the_mistakes_that_people_make_are_each_told_with_what_to_do(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/plain", "echo never\n")
    (tree / "srv/plain").chmod(0o644)
    for name, content in {
        "foreign": b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\x02\0\xb7\0\x01".ljust(48, b"\0"),
        "windows": b"#!/bin/sh\r\necho never\r\n",
        "orphan": b"#!/bin/nosuch\n",
    }.items():
        (tree / "srv" / name).write_bytes(content)
        (tree / "srv" / name).chmod(0o755)
    partitioned, encrypted = lab.path("partitioned"), lab.path("encrypted")
    with partitioned.open("wb") as file:  # one entry of an MBR: type Linux, from sector 2048 on
        file.write(bytes(446) + b"\0\0\0\0\x83\0\0\0" + (2048).to_bytes(4, "little") + (8192).to_bytes(4, "little"))
        file.write(bytes(48) + b"\x55\xaa")
        file.seek(2048 * 512)
        file.write(lab.ext4(lab.busybox(), megabytes=4).read_bytes())
    encrypted.write_bytes(b"LUKS\xba\xbe\0\x02".ljust(1 << 20, b"\0"))
    vm = lab.boot(
        MISTAKES,
        devices=[NineP(tree), NineP(lab.busybox(), "more"), Drive(partitioned), Drive(encrypted)],
        hardware=Hardware(network=True),
        arguments="ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off",
    )
    ending = vm.wait()
    for pattern in TOLD:
        assert re.search(pattern, ending.console), pattern
    assert ending.status != 0


def test_modules_of_another_kernel(lab: Lab) -> None:
    """An initramfs that was built for another kernel than the one that boots it."""
    file = lab.path("bootstrap.yaml")
    file.write_text(root("type: 9p, tag: rootfs") + SHELL)
    this = lab.kernel()
    other = replace(this, version="5.0.0-other", modules_root=lab.path("other"))
    other.modules.parent.mkdir(parents=True)
    other.modules.symlink_to(this.modules)
    initrd = initramfs.build(file, lab.path("initramfs"), other)
    vm = lab.start(Vm(this, initrd, hardware=Hardware(exit_port=None), devices=[NineP(lab.busybox())]))
    ending = vm.wait()
    assert ending.how == "guest-shutdown"
    assert f"for kernel {other.version}, this is {this.version}" in ending.console


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


def test_a_program_that_only_the_kernel_refuses_leaves_a_rescue_shell_and_an_orderly_end(lab: Lab) -> None:
    """By then the runtime is unlinked, and Ctrl-Alt-Del, limits and signals are as the kernel gave them to us."""
    tree = lab.busybox()
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)  # of x86_64, without a segment
    (tree / "srv/empty").write_bytes(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + header)
    (tree / "srv/empty").chmod(0o755)
    become = "postSwitch:\n  handoff: {mode: exec, program: /srv/empty}\n"
    vm = lab.boot("onFatal: {action: shell}\n" + root("type: 9p, tag: rootfs") + become, devices=[NineP(tree)])
    vm.expect('postSwitch.handoff: cannot execute "/srv/empty": Exec format error')
    vm.expect(r"^[/~] # ")
    assert vm.run("ls /run/ocelot") != ""  # it is gone
    vm.ctrl_alt_del()
    vm.expect("exit status 1")
    assert vm.wait().how == "guest-shutdown"
