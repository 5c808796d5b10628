"""Disks and file systems that need more: compressed modules in any order, partitions, swap, layers, a network of its own."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from integration.lab import cache, initramfs, roots
from integration.lab.devices import Drive
from integration.lab.guest import Lab
from integration.lab.vm import Hardware, Vm

BUSYBOX = [("/bin/busybox", "/bin/busybox")]

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=1),
    "gz": lambda data: gzip.compress(data, 1),
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}

COMPRESSED = {"fs/ext4/ext4": "xz", "fs/jbd2/jbd2": "gz", "fs/mbcache": "zst", "drivers/block/virtio_blk": "xz"}
PLAIN = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_console"),
    *("crc16", "crc32c_generic"),
)


def compressed_modules(kernel: cache.Kernel, root: Path) -> cache.Kernel:
    """The same kernel with few modules, some of them compressed, and what depmod says of them."""
    names = [Path(name).name for name in COMPRESSED]
    if built_in := [name for name in names if kernel.built_in(name)]:
        pytest.skip(f"this kernel has no modules {', '.join(built_in)}: they are built in")
    roots.modules(root, kernel, *names, *(name for name in PLAIN if not kernel.built_in(name)))
    folder = root / "lib/modules" / kernel.version
    shutil.copy2(kernel.modules / "modules.builtin", folder)
    dep = (folder / "modules.dep").read_text()
    for packed in list(folder.rglob("*.ko.*")):  # by the distribution
        packed.with_suffix("").write_bytes(DECOMPRESS[packed.suffix](packed.read_bytes()))
        packed.unlink()
        dep = dep.replace(packed.name, packed.stem)
    for name, suffix in COMPRESSED.items():
        plain = folder / f"kernel/{name}.ko"
        plain.with_name(f"{plain.name}.{suffix}").write_bytes(COMPRESS[suffix](plain.read_bytes()))
        plain.unlink()
        dep = dep.replace(f"kernel/{name}.ko", f"kernel/{name}.ko.{suffix}")
    (folder / "modules.dep").write_text(dep)
    return cache.Kernel(kernel.image, kernel.version, root)


SECTOR = 512


def partitioned(image: Path, content: Path) -> Path:
    """A disk with the signature 0c0ffee0 whose second partition is ``content``."""
    first, size = 2048, content.stat().st_size // SECTOR
    table = b"".join(
        struct.pack("<B3xB3xII", 0, kind, start, length)
        for kind, start, length in ((0x82, first, 2048), (0x83, 2 * first, size))
    )
    head = b"\0" * 440 + struct.pack("<I2x", 0x0C0FFEE0) + table.ljust(64, b"\0") + b"\x55\xaa"
    with image.open("wb") as disk:
        disk.write(head)
        disk.seek(2 * first * SECTOR)
        disk.write(content.read_bytes())
    return image


def partition(image: Path, output: Path) -> Path:
    """The second partition of such a disk."""
    with image.open("rb") as disk:
        disk.seek(4096 * SECTOR)
        output.write_bytes(disk.read())
    return output


REPORT = """\
echo "root $(grep ' / / ' /proc/self/mountinfo | tail -n 1)"
echo "data $(cat /data/kept) $(grep -c ' /data ' /proc/self/mountinfo)"
grep -c crc32c_generic /proc/modules
dd if=/dev/zero of=/swap bs=1M count=8 2> /dev/null && chmod 600 /swap && mkswap /swap > /dev/null && swapon /swap
cat /proc/swaps
ls /run/ocelot/runtime/lib
"""

DISKS = """
preSwitch:
  modules:
    mode: list
    names:
      - kernel/fs/ext4/ext4.ko.xz
      - kernel/drivers/block/virtio_blk.ko.xz
      - kernel/fs/jbd2/jbd2.ko.gz
      - kernel/drivers/virtio/virtio_pci.ko
      - kernel/fs/mbcache.ko.zst
  mounts:
    - {type: device, device: LABEL=data, target: /data}
switchRoot:
  rootFileSystem: {type: device, device: PARTUUID=0C0FFEE0-02, fstype: ext4}
postSwitch:
  handoff:
    mode: supervise
    processes:
      report: {program: /report, type: oneshot}
"""


def test_compressed_modules_in_any_order_a_partition_a_disk_mounted_before_and_swap(lab: Lab) -> None:
    """The modules are the listed ones alone. A file that is swapped to keeps its file system from becoming clean."""
    tree = lab.busybox()
    roots.script(tree, "/report", REPORT)
    data = lab.path("data")
    data.mkdir()
    (data / "kept").write_text("is kept")
    disk = partitioned(lab.path("disk"), lab.ext4(tree))
    kernel = compressed_modules(lab.kernel(), lab.path("modules"))
    file = lab.path("bootstrap.yaml")
    file.write_text(DISKS)
    without = ("root", "virtio", "overlay", "power-button")
    initrd = initramfs.build(file, lab.path("initramfs"), kernel, without=without)
    vm = lab.start(Vm(kernel, initrd, devices=[Drive(disk), Drive(lab.ext4(data, label="data"))]))
    vm.expect(r"^root .* - ext4 /dev/vda2 ")
    vm.expect("^data is kept 1$")
    vm.expect("^1$")
    vm.expect(r"^/swap +file")
    assert "start.bundle" not in vm.console
    ending = vm.wait()
    assert ending.status == 0
    assert "warn" not in ending.console
    assert not roots.needs_recovery(partition(disk, lab.path("root")))


OVERLAY = """
preSwitch:
  hooks:
    - {name: layers, command: /bin/busybox, arguments: [mkdir, -p, /layers/upper, /layers/work]}
switchRoot:
  rootFileSystem: {type: overlay, lower: /layers/lower, upper: /layers/upper, work: /layers/work, target: /}
postSwitch:
  handoff:
    mode: supervise
    processes:
      report: {program: /report, type: oneshot}
"""

LAYERS = """\
echo "root $(grep ' / / ' /proc/self/mountinfo | tail -n 1)"
echo new > /written && cat /written /lower-file
ls /bin | wc -l
"""


def test_a_root_of_layers_that_lie_on_the_initramfs_survives_its_end(lab: Lab) -> None:
    lower = lab.busybox()
    roots.script(lower, "/report", LAYERS)
    (lower / "lower-file").write_text("of the lower layer\n")
    vm = lab.boot(OVERLAY, includes=[*BUSYBOX, (str(lower), "/layers/lower")])
    vm.expect(r"ocelot: freed \d+")
    vm.expect(r"^root .* - overlay .*lowerdir=/layers/lower")
    vm.expect("^new\nof the lower layer$")
    vm.expect(r"^[1-9]\d\d$")
    assert vm.wait().status == 0


NFS = """
preSwitch:
  environment: {{PATH: /bin}}
  hooks:
    - name: network
      command: /bin/busybox
      arguments:
        - sh
        - -c
        - busybox ip link set eth0 up && busybox ip addr add 10.0.2.15/24 dev eth0
switchRoot:
  rootFileSystem: {{type: nfs, server: 10.0.2.2, export: /root, options: "port={port}"}}
postSwitch:
  handoff:
    mode: supervise
    processes:
      report: {{program: grep, arguments: [" / / ", /proc/self/mountinfo], type: oneshot}}
"""


def test_nfs_over_a_network_that_a_hook_brings_up(lab: Lab) -> None:
    port = lab.nfs(lab.busybox())
    vm = lab.boot(NFS.format(port=port), includes=BUSYBOX, hardware=Hardware(network=True))
    vm.expect(r"^\d+ .* - nfs4? ")
    assert vm.wait().status == 0


RESCUE = """
switchRoot:
  rootFileSystem: {type: device, device: /dev/vdq, timeout: 1s}
postSwitch:
  handoff: {mode: shell, program: /bin/sh}
onFatal: {action: shell, shell: /bin/sh, timeout: 20s}
"""


def test_a_rescue_shell_can_suspend_its_jobs_and_ends_with_its_time(lab: Lab) -> None:
    vm = lab.boot(RESCUE, includes=BUSYBOX)
    vm.expect("rescue shell")
    vm.expect("[#$] ")
    vm.send("/bin/busybox sh -c 'echo in\"\"deed; exec /bin/busybox sleep 1000'\n")
    vm.expect("^indeed")  # it has the terminal by now
    vm.send("\x1a")
    vm.expect("Stopped")
    vm.expect("time is over")
    ending = vm.wait()
    assert ending.status == 1
    assert ending.how == "guest-shutdown"


def test_a_machine_that_cannot_power_off_is_reset_and_says_so(lab: Lab) -> None:
    """Without ACPI this kernel finds no virtio device on a microvm: what it needs is in the initramfs."""
    config = "postSwitch: {handoff: {mode: shell, program: /bin/sh}}\n"
    hardware = Hardware(machine="microvm,acpi=off", alive="[#$] ", exit_port=None)
    vm = lab.boot(config, includes=BUSYBOX, hardware=hardware, arguments="reboot=t")
    vm.expect("[#$] ")
    vm.send("kill -PWR 1\n")
    vm.expect("cannot cut its own power")
    ending = vm.wait()
    assert ending.how == "guest-reset"
