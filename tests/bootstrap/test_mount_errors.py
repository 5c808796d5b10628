"""What a failed mount says to the person who has to act on it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bootstrap import mount_errors
from bootstrap.mount_options import Options
from bootstrap.mounts import Call


def explained(number: int, call: Call, lines: tuple[str, ...] = ()) -> str:
    return str(mount_errors.explain(call, OSError(number, os.strerror(number)), lines))


def test_an_unknown_type_names_its_module_and_the_key() -> None:
    text = explained(errno.ENODEV, Call("/dev/vda", "/sysroot", "f2fs-nowhere", Options()))
    assert 'does not know the file system type "f2fs-nowhere"' in text
    assert mount_errors.module_hint("ext3") == "add kernel/fs/ext4/ext4.ko to preSwitch.modules.names"
    assert "9pnet_virtio.ko" in mount_errors.module_hint("9p")


def test_what_the_kernel_said_is_repeated() -> None:
    text = explained(errno.EINVAL, Call("x", "/y", "tmpfs", Options()), ("tmpfs: Unknown parameter 'siz'",))
    assert "the kernel says: tmpfs: Unknown parameter 'siz'" in text
    assert "check options" in text


def test_a_bind_of_nothing_says_so() -> None:
    assert 'there is no "/a" to bind' in explained(errno.ENOENT, Call("/a", "/b", "", Options()))


def test_what_is_no_block_device_is_told_as_that() -> None:
    text = explained(errno.ENOTBLK, Call("/dev/null", "/y", "ext4", Options()))
    assert text == 'cannot mount "/dev/null" on /y as ext4: it is no block device (check device)'


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENETUNREACH, "the network must be up first"),
        (errno.ECONNREFUSED, "check that the server runs NFS"),
        (errno.ENOENT, "the server does not export /e"),
        (errno.EACCES, "does not let this machine"),
    ],
)
def test_each_way_in_which_nfs_fails_has_its_own_hint(number: int, words: str) -> None:
    assert words in explained(number, Call("10.0.2.2:/e", "/sysroot", "nfs", Options()))


def test_a_timeout_says_how_long_was_waited() -> None:
    error = mount_errors.too_slow(Call("10.0.2.2:/e", "/sysroot", "nfs", Options()), 30.0)
    assert error.message == 'cannot mount "10.0.2.2:/e" on /sysroot as nfs: no answer within 30s'


def test_tags_are_read_from_sysfs(tmp_path: Path) -> None:
    (tmp_path / "virtio0").mkdir()
    (tmp_path / "virtio0/mount_tag").write_text("rootfs\0")
    (tmp_path / "bind").touch()
    assert mount_errors.nine_p_tags(str(tmp_path)) == ["rootfs"]
    assert mount_errors.virtiofs_tags(str(tmp_path / "none")) is None


def test_virtio_devices_are_counted_by_kind(tmp_path: Path) -> None:
    for number, kind in enumerate(("0x0009", "0x0009", "0x001a", "0x0001")):
        (tmp_path / f"virtio{number}").mkdir()
        (tmp_path / f"virtio{number}/device").write_text(f"{kind}\n")
    assert mount_errors.count_devices("9p", str(tmp_path)) == 2
    assert mount_errors.count_devices("virtiofs", str(tmp_path)) == 1
    assert mount_errors.count_devices("9p", str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("kind", "transport", "bit", "legacy"),
    [
        ("0x001a", "virtio-mmio", "0", True),
        ("0x001a", "virtio-mmio", "1", False),
        ("0x001a", "virtio-pci", "0", False),
        ("0x0009", "virtio-mmio", "0", False),
    ],
)
def test_virtiofs_over_legacy_virtio_mmio_is_seen(
    tmp_path: Path, kind: str, transport: str, bit: str, legacy: bool
) -> None:
    (tmp_path / "drivers" / transport).mkdir(parents=True)
    device = tmp_path / "platform/LNRO0005:00/virtio0"
    device.mkdir(parents=True)
    (device.parent / "driver").symlink_to(tmp_path / "drivers" / transport)
    (device / "device").write_text(f"{kind}\n")
    (device / "features").write_text("0" * 32 + bit + "0" * 31 + "\n")
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus/virtio0").symlink_to(device)
    assert mount_errors.has_legacy_transport(str(tmp_path / "bus")) is legacy
    assert not mount_errors.has_legacy_transport(str(tmp_path / "none"))


def test_known_types_come_from_proc_filesystems(tmp_path: Path) -> None:
    (tmp_path / "filesystems").write_text("nodev\tsysfs\n\text4\n")
    assert mount_errors.known_types(str(tmp_path / "filesystems")) == {"sysfs", "ext4"}
