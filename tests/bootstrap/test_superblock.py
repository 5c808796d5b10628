"""File systems told from their first bytes. Images made by the real mkfs programs are in integration/test_mounts.py."""

import uuid

import pytest

from bootstrap import superblock
from bootstrap.superblock import HEAD_SIZE, Superblock, describe, identify

UUID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")


def image(*pieces: tuple[int, bytes]) -> bytes:
    """Zeros, with bytes at offsets."""
    data = bytearray(HEAD_SIZE)
    for offset, piece in pieces:
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def ext(compat: int, incompat: int, ro_compat: int) -> bytes:
    features = b"".join(number.to_bytes(4, "little") for number in (compat, incompat, ro_compat))
    return image((1024 + 56, b"\x53\xef"), (1024 + 92, features), (1024 + 104, UUID.bytes), (1024 + 120, b"data"))


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (ext(0x0, 0x2, 0x1), Superblock("ext2", "data", str(UUID))),
        (ext(0x4, 0x6, 0x3), Superblock("ext3", "data", str(UUID))),
        (ext(0x4, 0x40, 0x3), Superblock("ext4", "data", str(UUID))),
        (ext(0x4, 0x2, 0x8), Superblock("ext4", "data", str(UUID))),
        (ext(0x0, 0x8, 0x0), Superblock("jbd", mountable=False)),
        (image((0, b"XFSB"), (32, UUID.bytes), (108, b"data")), Superblock("xfs", "data", str(UUID))),
        (
            image((0x10040, b"_BHRfS_M"), (0x10020, UUID.bytes), (0x10000 + 299, b"data")),
            Superblock("btrfs", "data", str(UUID)),
        ),
        (image((0, b"hsqs")), Superblock("squashfs")),
        (
            image((1024, b"\xe2\xe1\xf5\xe0"), (1024 + 48, UUID.bytes), (1024 + 64, b"data")),
            Superblock("erofs", "data", str(UUID)),
        ),
        (
            image((1024, b"\x10\x20\xf5\xf2"), (1024 + 108, UUID.bytes), (1024 + 124, "däta".encode("utf-16-le"))),
            Superblock("f2fs", "däta", str(UUID)),
        ),
        (
            image((510, b"\x55\xaa"), (54, b"FAT16   "), (39, b"\x78\x56\x34\x12"), (43, b"BOOT       ")),
            Superblock("vfat", "BOOT", "1234-5678"),
        ),
        (
            image((510, b"\x55\xaa"), (82, b"FAT32   "), (67, b"\x78\x56\x34\x12"), (71, b"NO NAME    ")),
            Superblock("vfat", "", "1234-5678"),
        ),
        (
            image((32769, b"CD001"), (32768 + 40, b"CDROM" + b" " * 27), (32768 + 830, b"2026112309301500")),
            Superblock("iso9660", "CDROM", "2026-11-23-09-30-15-00"),
        ),
        (
            image((0, b"LUKS\xba\xbe"), (168, str(UUID).encode())),
            Superblock("crypto_LUKS", uuid=str(UUID), mountable=False),
        ),
        (
            image((4086, b"SWAPSPACE2"), (1036, UUID.bytes), (1052, b"swap0")),
            Superblock("swap", "swap0", str(UUID), mountable=False),
        ),
        (image((512, b"LABELONE")), Superblock("LVM2_member", mountable=False)),
    ],
    ids=lambda value: value.fstype if isinstance(value, Superblock) else "",
)
def test_each_kind_is_told_with_its_label_and_uuid(head: bytes, found: Superblock) -> None:
    assert identify(head) == found


@pytest.mark.parametrize("length", [0, 1, 511, 1024, 1100, 4096, 32768, 65536, HEAD_SIZE])
def test_a_short_or_empty_device_is_nothing(length: int) -> None:
    assert identify(bytes(length)) is None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "nothing (it is empty)"),
        (bytes(4096), "only zeros in its first 4096 bytes"),
        (image((510, b"\x55\xaa"), (446, b"\x80")), "a partition table (name one of its partitions)"),
        (image((0, b"\x7fELF")), "no known file system (first bytes 7f 45 4c 46 00 00 00 00 00 00 00 00 00 00 00 00)"),
        (ext(4, 0x40, 0), 'ext4 labelled "data"'),
    ],
    ids=["empty", "zeros", "table", "elf", "ext4"],
)
def test_what_is_there_is_described_for_a_message(head: bytes, words: str) -> None:
    assert describe(head) == words


def test_a_device_that_cannot_be_read_is_described_too() -> None:
    assert superblock.describe_file("/nowhere/vda") == "nothing that can be read (No such file or directory)"
