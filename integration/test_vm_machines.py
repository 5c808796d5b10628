"""Other machines and other roots: microvm, no initramfs, a live machine, roots with next to nothing in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from integration.lab import cache, roots
from integration.lab.devices import Drive, NineP, Virtiofs, virtiofsd
from integration.lab.guest import Lab
from integration.lab.vm import Hardware, Vm

NINE_P = "switchRoot:\n  rootFileSystem: {type: 9p, tag: rootfs}\n"
SHELL = "postSwitch:\n  handoff: {mode: shell, program: /bin/sh}\n"

MUSL = r"""
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("hello from musl, parent %d\n", (int)getppid()); return 0; }
"""

STATE = """
sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo
ls -R /etc /bin /srv /sys/fs/cgroup
cat /proc/sys/net/core/somaxconn /proc/sys/kernel/hostname
ps -o pid,args | grep -v -F -e ps -e state -e grep -e '['
"""


def one_process(program: str, arguments: str = "[]") -> str:
    return (
        "postSwitch:\n  handoff:\n    mode: supervise\n    processes:\n"
        f"      only: {{program: {program}, arguments: {arguments}, type: oneshot}}\n"
    )


def runtime(folder: Path, prefix: str = "/usr/lib/ocelot") -> Path:
    """A runtime for ``prefix`` below the tree ``folder``."""
    place = folder / prefix.lstrip("/")
    argv = [sys.executable, "-m", "ocelot", "runtime", "build", str(place), "--prefix", prefix]
    subprocess.run([*argv, "--cache", str(cache.folder() / "runtime")], check=True, cwd=cache.CHECKOUT)
    return place


def test_a_root_with_one_static_program_and_nothing_else(lab: Lab) -> None:
    tree = roots.bare(lab.path("bare"))
    vm = lab.boot(NINE_P + one_process("/busybox", "[echo, one, file, is, enough]"), devices=[NineP(tree)])
    vm.expect("one file is enough")
    assert vm.wait().status == 0


def test_a_root_with_another_libc(lab: Lab) -> None:
    tree = roots.musl(lab.path("musl"), MUSL)
    if tree is None:
        pytest.skip("no musl-gcc")
    vm = lab.boot(NINE_P + one_process("/hello"), devices=[NineP(tree)])
    vm.expect("hello from musl, parent 1")
    assert vm.wait().status == 0


def test_a_microvm(lab: Lab) -> None:
    hardware = Hardware(machine="microvm", alive="ready on a microvm")
    tree = lab.busybox()
    vm = lab.boot(NINE_P + one_process("echo", "[ready on a microvm]"), devices=[NineP(tree)], hardware=hardware)
    vm.expect("ready on a microvm")
    ending = vm.wait()
    assert ending.status == 0
    assert ending.how == "guest-shutdown"


def test_a_processor_that_has_no_random_numbers_yet(lab: Lab) -> None:
    """As QEMU's default is one: the interpreter starts before the kernel has gathered any."""
    hardware = Hardware(options=("-cpu", "qemu64"))
    vm = lab.boot(
        NINE_P + one_process("echo", "[up without RDRAND]"), devices=[NineP(lab.busybox())], hardware=hardware
    )
    vm.expect("up without RDRAND")
    assert vm.wait().status == 0


def test_virtiofs_9p_and_a_disk_on_a_microvm(lab: Lab) -> None:
    """virtiofs needs the modern transport there."""
    if virtiofsd() is None:
        pytest.skip("no virtiofsd on this host")
    modern = ("-global", "virtio-mmio.force-legacy=false")
    hardware = Hardware(machine="microvm", alive="Run /init", options=modern)
    mounts = (
        "preSwitch:\n  mounts:\n    - {type: 9p, tag: more, target: /mnt}\n"
        "    - {type: device, device: /dev/vda, target: /srv}\n"
    )
    show = "[-c, 'grep -E \" (/|/mnt|/srv) \" /proc/mounts; echo ready on a microvm']"
    vm = lab.boot(
        "switchRoot:\n  rootFileSystem: {type: virtiofs, tag: rootfs}\n" + mounts + one_process("sh", show),
        devices=[Virtiofs(lab.busybox()), NineP(lab.busybox(), "more"), Drive(lab.ext4(lab.busybox()))],
        hardware=hardware,
    )
    for line in (r"^more /mnt 9p ", r"^/dev/vda /srv ext4 ", r"^rootfs / virtiofs ", "ready on a microvm"):
        vm.expect(line)
    assert vm.wait().status == 0


def test_128_mib_are_enough(lab: Lab) -> None:
    vm = lab.boot(NINE_P + SHELL, devices=[NineP(lab.busybox())], hardware=Hardware(memory=128))
    vm.expect(r"^[/~] # ")
    assert "Mem:" in vm.run("free -m")
    # When one of them is full there must be memory left for PID 1, or the kernel panics
    for folder in ("/run", "/dev/shm", "/tmp"):
        assert "No space left" in vm.run(f"rm -f /run/full /dev/shm/full; dd if=/dev/zero of={folder}/full bs=64k")
    vm.send("exit\n")
    assert vm.wait().status == 0


def test_without_an_initramfs_from_a_plain_disk(lab: Lab) -> None:
    tree = lab.busybox()
    (tree / "sbin/init").unlink()
    runtime(tree)
    (tree / "sbin/init").symlink_to("/usr/lib/ocelot/bin/ocelot")
    (tree / "etc/ocelot").mkdir()
    (tree / "etc/ocelot/bootstrap.yaml").write_text(one_process("sh", "[-c, 'echo plain disk; ocelotctl status']"))
    image = lab.ext4(tree, megabytes=128)
    # Ubuntu's kernel has what a virtio disk needs in itself; of Debian's, the cloud flavour has nvme
    kernel, attachment, device = lab.kernel(), "virtio", "/dev/vda"
    if not all(map(kernel.built_in, ("ext4", "virtio_blk", "virtio_pci"))):
        kernel, attachment, device = lab.kernel("cloud"), "nvme", "/dev/nvme0n1"
    hardware = Hardware(exit_port=None)
    arguments = f"root={device} rw init=/sbin/init stray words -x"
    vm = lab.start(
        Vm(kernel, None, arguments=arguments, hardware=hardware, devices=[Drive(image, attachment=attachment)])
    )
    vm.expect("plain disk")
    vm.expect("only +(running|starting)")
    vm.expect("exit status 0")
    assert vm.wait().how == "guest-shutdown"
    assert not roots.needs_recovery(image)


def test_a_plain_disk_that_is_read_only_and_lacks_a_mount_point(lab: Lab) -> None:
    """Not even /proc can be mounted, which says that this is a machine: the kernel knows. Under its own name ocelot boots as well."""
    tree = lab.busybox(mount_points=False)
    runtime(tree)
    image = lab.ext4(tree, megabytes=128)
    hardware = Hardware(exit_port=None)
    disk = Drive(image, attachment="nvme")
    arguments = "root=/dev/nvme0n1 init=/usr/lib/ocelot/bin/ocelot splash"
    vm = lab.start(Vm(lab.kernel("cloud"), None, arguments=arguments, hardware=hardware, devices=[disk]))
    vm.expect(
        r'cannot make the mount point "/proc": Read-only file system \(make it in the image, or .* rw on the kernel'
    )
    vm.expect("exit status 70")
    assert vm.wait().how == "guest-shutdown"


def test_run_by_mistake_on_a_live_machine_it_refuses(lab: Lab) -> None:
    tree = lab.busybox()
    runtime(tree)
    (tree / "etc/mistake.yaml").write_text(
        "postSwitch:\n  tmpfiles: [{path: /etc/damaged, type: f}]\n  sysctl: {net.core.somaxconn: 7}\n"
        "  handoff: {mode: supervise, processes: {only: {program: /bin/true, type: oneshot}}}\n"
    )
    vm = lab.boot(NINE_P + SHELL, devices=[NineP(tree)])
    vm.expect(r"^[/~] # ")
    roots.script(tree, "/bin/state", STATE)
    vm.run("state > /tmp/before")
    run = "/usr/lib/ocelot/bin/ocelot bootstrap run -f /etc/mistake.yaml"
    refused = vm.run(run)
    assert "cannot boot" in refused
    inside = vm.run(f"unshare -p -f -m --mount-proc {run}")
    assert "cannot boot" in inside
    vm.run(f"container=test unshare -p -f -m -n -i -u --mount-proc {run}")
    vm.run("rm -f /etc/damaged")
    assert vm.run("state > /tmp/after; diff /tmp/before /tmp/after") == ""
    vm.send("exit\n")
    assert vm.wait().status == 0
