"""Devices for real: found by what they hold, awaited, and mounted."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from bootstrap import devices, superblock
from bootstrap.steps import Machine
from integration.mounting import WARNINGS, at, do, inside, refusal
from ocelot.config.structs import DeviceMount
from ocelot.linux import syscalls

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


LABEL = f"ocelot{os.getpid() % 10000}"
"""One that no other device of this machine has."""


def make(here: Path, kind: str, label: str = LABEL) -> Path:
    """An image of ``kind`` that holds a folder ``marker``."""
    tree = here / f"tree-{kind}"
    (tree / "marker").mkdir(parents=True)
    image = here / f"{kind}.img"
    size = {"xfs": 320, "btrfs": 128}.get(kind, 16)
    with image.open("wb") as file:
        file.truncate(size << 20)
    commands = {
        "ext2": ["mkfs.ext2", "-q", "-L", label, "-d", tree, image],
        "ext3": ["mkfs.ext3", "-q", "-L", label, "-d", tree, image],
        "ext4": ["mkfs.ext4", "-q", "-L", label, "-d", tree, image],
        "xfs": ["mkfs.xfs", "-q", "-L", label, image],
        "btrfs": ["mkfs.btrfs", "-q", "-L", label, "--rootdir", tree, image],
        "squashfs": ["mksquashfs", tree, image, "-noappend", "-quiet", "-no-progress"],
        "erofs": ["mkfs.erofs", "--quiet", image, tree],
        "vfat": ["mkfs.vfat", "-n", label.upper(), image],
        "swap": ["mkswap", "-q", "-L", label, image],
    }
    command = commands[kind]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, check=True, capture_output=True)
    return image


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "xfs", "btrfs", "squashfs", "erofs", "vfat", "swap"])
def test_what_mkfs_made_is_identified_as_blkid_does(kind: str, tmp_path: Path) -> None:
    image = make(tmp_path, kind)
    told = subprocess.run(["blkid", "-p", "-o", "export", image], capture_output=True, text=True, check=True).stdout
    facts = dict(line.partition("=")[::2] for line in told.splitlines())
    found = superblock.identify(superblock.read_head(str(image)))
    assert found is not None
    expected = (facts["TYPE"], facts.get("LABEL", ""), facts.get("UUID", "") if kind != "squashfs" else "")
    assert (found.fstype, found.label, found.uuid) == expected
    assert found.mountable == (kind != "swap")


@contextmanager
def loop(image: Path, *options: str) -> Iterator[str]:
    """A loop device over ``image``."""
    command = ["losetup", "--show", "-f", *options, image]
    device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.mark.parametrize("kind", ["ext4", "ext2", "squashfs", "erofs", "btrfs"])
def test_a_device_is_mounted_by_its_superblock(kind: str, tmp_path: Path) -> None:
    with open("/proc/filesystems", encoding="ascii") as file:
        if kind not in file.read().split():
            pytest.skip(f"this kernel has no {kind}")
    with loop(make(tmp_path, kind)) as device:
        inside(mounted_by_superblock, device, kind)


async def mounted_by_superblock(here: Path, to: Machine) -> None:
    device, kind = sys.argv[2:]
    await do(to, DeviceMount(device=device, target=f"{here}/disk", no_suid=True))
    found = at(here / "disk")
    assert (found.fstype, found.source) == (kind, device)
    assert "nosuid" in found.options
    assert (here / "disk/marker").is_dir()


def test_a_device_is_mounted_by_its_label(tmp_path: Path) -> None:
    with loop(make(tmp_path, "ext4")) as device:
        inside(mounted_by_label, device, LABEL)


async def mounted_by_label(here: Path, to: Machine) -> None:
    await do(to, DeviceMount(device=f"LABEL={sys.argv[3]}", target=f"{here}/disk", timeout=20.0))
    assert at(here / "disk").source == sys.argv[2]
    assert (here / "disk/marker").is_dir()


def test_an_image_file_is_mounted_through_a_loop_device_that_goes_with_it(tmp_path: Path) -> None:
    inside(mounted_image, str(make(tmp_path, "ext4")))


async def mounted_image(here: Path, to: Machine) -> None:
    await do(to, DeviceMount(device=sys.argv[2], target=f"{here}/disk"))
    device = at(here / "disk").source
    backing = Path(f"/sys/class/block/{os.path.basename(device)}/loop/backing_file")
    assert backing.read_text().strip() == sys.argv[2]
    assert (here / "disk/marker").is_dir()
    syscalls.umount2(f"{here}/disk")
    with trio.fail_after(10):
        while backing.exists():
            await trio.sleep(0.01)
    await do(to, DeviceMount(device=sys.argv[2], target=f"{here}/disk", read_only=True))
    assert at(here / "disk").read_only


def test_a_write_protected_device_is_mounted_read_only_with_a_warning(tmp_path: Path) -> None:
    with loop(make(tmp_path, "ext4"), "--read-only") as device:
        inside(write_protected, device)


async def write_protected(here: Path, to: Machine) -> None:
    await do(to, DeviceMount(device=sys.argv[2], target=f"{here}/disk"))
    assert at(here / "disk").read_only
    assert any("can only be read" in line for line in WARNINGS)


IDENTITY = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")


def gpt(label: str, first: int, last: int) -> bytes:
    """The first 34 sectors of a disk with one partition (UEFI 2.10, chapter 5)."""
    linux = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
    entry = linux.bytes_le + IDENTITY.bytes_le + struct.pack("<QQQ", first, last, 0) + label.encode("utf-16-le")
    entries = entry.ljust(128, b"\0").ljust(128 * 128, b"\0")
    ends = (1, last + 33, 34, last)

    def header(checksum: int) -> bytes:
        start = struct.pack("<8sIIII4Q", b"EFI PART", 0x10000, 92, checksum, 0, *ends)
        return start + bytes(16) + struct.pack("<QIII", 2, 128, 128, zlib.crc32(entries))

    whole = header(zlib.crc32(header(0)))
    protective = bytes(446) + struct.pack("<B3sB3sII", 0, b"", 0xEE, b"", 1, last + 33) + bytes(48) + b"\x55\xaa"
    return protective + whole.ljust(512, b"\0") + entries


def test_a_partition_is_mounted_by_its_identity(tmp_path: Path) -> None:
    content = make(tmp_path, "ext4").read_bytes()
    first, last = 2048, 2048 + len(content) // 512 - 1
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.write(gpt("system", first, last))
        file.seek(first * 512)
        file.write(content)
        file.truncate((last + 34) * 512)
    with loop(disk, "--partscan") as device:
        if not os.path.exists(f"/sys/class/block/{os.path.basename(device)}p1"):
            pytest.skip("this kernel finds no partitions on loop devices")
        inside(mounted_by_partition, device)


async def mounted_by_partition(here: Path, to: Machine) -> None:
    for number, spec in enumerate((f"PARTUUID={IDENTITY}", "PARTLABEL=system")):
        await do(to, DeviceMount(device=spec, target=f"{here}/{number}", timeout=5.0))
        assert at(here / str(number)).source == f"{sys.argv[2]}p1"


def test_a_device_that_appears_late_is_awaited(tmp_path: Path) -> None:
    inside(late_device, str(make(tmp_path, "ext4")), LABEL)


async def late_device(here: Path, to: Machine) -> None:
    waiting = trio.Event()
    device = ""

    async def attach() -> None:
        nonlocal device
        await waiting.wait()
        await trio.testing.wait_all_tasks_blocked(0.1)
        command = ["losetup", "--show", "-f", sys.argv[2]]
        device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attach)
            started = trio.current_time()
            waiting.set()
            await do(to, DeviceMount(device=f"LABEL={sys.argv[3]}", target=f"{here}/disk", timeout=20.0))
            print(f"mounted after {trio.current_time() - started:.2f}s")
        assert at(here / "disk").source == device
        syscalls.umount2(f"{here}/disk")
    finally:
        if device:
            subprocess.run(["losetup", "-d", device], check=True)


def test_the_kernels_announcement_is_enough_to_look_again(tmp_path: Path) -> None:
    junk_image = tmp_path / "junk.img"
    junk_image.write_bytes(bytes(16 << 20))
    with loop(junk_image) as device:
        inside(announced, device, str(make(tmp_path, "ext4")), LABEL)


async def announced(here: Path, _: Machine) -> None:
    device, image, label = sys.argv[2:]

    async def fill() -> None:
        await trio.testing.wait_all_tasks_blocked(0.1)
        Path(device).write_bytes(Path(image).read_bytes())
        Path(f"/sys/class/block/{os.path.basename(device)}/uevent").write_text("change")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        assert await devices.wait_for(f"LABEL={label}", 20, fallback=1000) == device


async def missing_device(here: Path, to: Machine) -> None:
    started = trio.current_time()
    error = await refusal(to, DeviceMount(device="/dev/vdx9", target=f"{here}/x", timeout=0.5))
    assert 'cannot find the device "/dev/vdx9": it did not appear within 0.5s' in error.message
    assert trio.current_time() - started < 5


def test_a_device_that_never_comes_is_an_error_at_its_timeout() -> None:
    inside(missing_device)


def test_a_device_without_a_file_system_says_what_it_holds(tmp_path: Path) -> None:
    image = tmp_path / "junk.img"
    image.write_bytes(b"junk" * 65536)
    with loop(image) as device:
        inside(junk, device)


async def junk(here: Path, to: Machine) -> None:
    error = await refusal(to, DeviceMount(device=sys.argv[2], target=f"{here}/x"))
    assert "no known file system (first bytes 6a 75 6e 6b" in error.message
    error = await refusal(to, DeviceMount(device=sys.argv[2], fstype="ext4", target=f"{here}/x"))
    assert f"{sys.argv[2]} holds no known file system" in error.message
    error = await refusal(to, DeviceMount(device=sys.argv[2], fstype="reiserfs", target=f"{here}/x"))
    assert 'does not know the file system type "reiserfs"' in error.message
