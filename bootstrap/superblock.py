"""What a block device holds, told from its first bytes: pure.

Offsets and byte orders are from the headers of each file system in the Linux source (fs/*/) and from ECMA-119.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

HEAD_SIZE = 0x10000 + 0x1000
"""How many bytes identify() wants to see: btrfs has its superblock at 64 KiB."""


PARTITION_TABLE = "a partition table (name one of its partitions)"
"""What a whole disk holds, in words."""

TO_OPEN = {
    "crypto_LUKS": "unlock it in a preSwitch hook (cryptsetup open), and name the device that this makes, /dev/mapper/NAME",
    "LVM2_member": "activate its volume group in a preSwitch hook (vgchange -ay), and name the volume, /dev/GROUP/NAME",
    "linux_raid_member": "assemble the array in a preSwitch hook (mdadm --assemble), and name it, /dev/md0",
    "jbd": "this is the journal of another device: name that one",
    "swap": "this is swap space: name another device",
}
"""What to do about what is no file system itself."""


@dataclass(frozen=True)
class Superblock:
    """Type, label and UUID, as blkid(8) prints them; label and uuid may be empty.

    ``mountable`` is False for what is recognised so that it can be named, but is no file system.
    """

    fstype: str
    label: str = ""
    uuid: str = ""
    mountable: bool = True


def identify(head: bytes) -> Superblock | None:
    """What begins with ``head`` (at least HEAD_SIZE bytes if it is that long), or None if it is unknown."""
    for parse in _PARSERS:
        found = parse(head)
        if found is not None:
            return found
    return None


def read_head(path: str) -> bytes:
    """The bytes of ``path`` that identify() wants. Blocks as long as the device does: use a worker thread."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.pread(fd, HEAD_SIZE, 0)
    finally:
        os.close(fd)


def describe_file(path: str) -> str:
    """What ``path`` holds, in words for a message; never raises OSError."""
    try:
        head = read_head(path)
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"
    return describe(head)


def describe(head: bytes) -> str:
    """What begins with ``head``, in words: its type, or its first bytes."""
    found = identify(head)
    if found is not None:
        return found.fstype + (f' labelled "{found.label}"' if found.label else "")
    if not head:
        return "nothing (it is empty)"
    if not any(head):
        return f"only zeros in its first {len(head)} bytes"
    if head[510:512] == b"\x55\xaa":
        return PARTITION_TABLE
    return f"no known file system (first bytes {head[:16].hex(' ')})"


def _ext(head: bytes) -> Superblock | None:
    block = head[1024:2048]
    if len(block) < 1024 or block[56:58] != b"\x53\xef":
        return None
    compat, incompat, ro_compat = struct.unpack_from("<III", block, 92)
    if incompat & 0x8:  # JOURNAL_DEV
        return Superblock("jbd", mountable=False)
    journal = compat & 0x4
    # Any feature that ext3 does not have makes it ext4, as libblkid decides.
    elder = not (incompat & ~0x16 or ro_compat & ~0x7)
    fstype = ("ext3" if journal else "ext2") if elder else "ext4"
    return Superblock(fstype, _text(block[120:136]), _uuid(block[104:120]))


def _xfs(head: bytes) -> Superblock | None:
    if head[:4] != b"XFSB":
        return None
    return Superblock("xfs", _text(head[108:120]), _uuid(head[32:48]))


def _btrfs(head: bytes) -> Superblock | None:
    block = head[0x10000:]
    if block[64:72] != b"_BHRfS_M":
        return None
    return Superblock("btrfs", _text(block[299:555]), _uuid(block[32:48]))


def _squashfs(head: bytes) -> Superblock | None:
    return Superblock("squashfs") if head[:4] == b"hsqs" else None


def _erofs(head: bytes) -> Superblock | None:
    block = head[1024:1152]
    if block[:4] != b"\xe2\xe1\xf5\xe0":
        return None
    return Superblock("erofs", _text(block[64:80]), _uuid(block[48:64]))


def _f2fs(head: bytes) -> Superblock | None:
    block = head[1024:4096]
    if block[:4] != b"\x10\x20\xf5\xf2":
        return None
    label = block[124 : 124 + 1024].decode("utf-16-le", "replace").partition("\0")[0]
    return Superblock("f2fs", label, _uuid(block[108:124]))


def _vfat(head: bytes) -> Superblock | None:
    if head[510:512] != b"\x55\xaa":
        return None
    if head[82:87] == b"FAT32":
        serial, label = head[67:71], head[71:82]
    elif head[54:58] in (b"FAT1", b"FAT ") and head[54:59] in (b"FAT12", b"FAT16", b"FAT  "):
        serial, label = head[39:43], head[43:54]
    else:
        return None
    number = int.from_bytes(serial, "little")
    text = label.decode("ascii", "replace").rstrip(" \0")
    return Superblock("vfat", "" if text == "NO NAME" else text, f"{number >> 16:04X}-{number & 0xFFFF:04X}")


def _iso9660(head: bytes) -> Superblock | None:
    block = head[32768 : 32768 + 2048]
    if block[1:6] != b"CD001":
        return None
    return Superblock("iso9660", _text(block[40:72]).rstrip(), _iso_date(block[830:846]) or _iso_date(block[813:829]))


def _iso_date(field: bytes) -> str:
    """A date of ECMA-119 8.4.26.1: the one of modification, or else of creation, stands for the UUID."""
    text = field.decode("ascii", "replace")
    if not text.isdigit() or not int(text):
        return ""
    return "-".join((text[:4], *(text[at : at + 2] for at in range(4, 16, 2))))


def _luks(head: bytes) -> Superblock | None:
    if head[:6] != b"LUKS\xba\xbe":
        return None
    return Superblock("crypto_LUKS", uuid=_text(head[168:208]), mountable=False)


def _raid(head: bytes) -> Superblock | None:
    """Linux software RAID, version 1.1 (at the start) or 1.2 (4 KiB in): md(4)."""
    for at in (0, 4096):
        if head[at : at + 8] == b"\xfc\x4e\x2b\xa9\x01\0\0\0":
            return Superblock("linux_raid_member", _text(head[at + 32 : at + 64]), mountable=False)
    return None


def _swap(head: bytes) -> Superblock | None:
    if head[4086:4096] not in (b"SWAPSPACE2", b"SWAP-SPACE"):
        return None
    return Superblock("swap", _text(head[1052:1068]), _uuid(head[1036:1052]), mountable=False)


def _lvm(head: bytes) -> Superblock | None:
    return Superblock("LVM2_member", mountable=False) if head[512:520] == b"LABELONE" else None


_PARSERS: tuple[Callable[[bytes], Superblock | None], ...] = (
    _luks,
    _lvm,
    _raid,
    _xfs,
    _squashfs,
    _ext,
    _erofs,
    _f2fs,
    _btrfs,
    _iso9660,
    _vfat,
    _swap,
)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _uuid(field: bytes) -> str:
    if not any(field):
        return ""
    text = field.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
