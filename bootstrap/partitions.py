"""The identity of a partition, from the partition table of its disk: pure.

Kernels from 6.9 on say PARTUUID in the uevent file of a partition; older ones, and PARTLABEL of an MBR disk, need the
table itself. GPT: UEFI 2.10, chapter 5; MBR identities as the kernel makes them for root=PARTUUID= (block/partitions).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""Reads (offset, size) bytes of the disk; may return fewer at its end."""

_ENTRY_LIMIT = 1024


@dataclass(frozen=True)
class Partition:
    """PARTUUID in lower case, and PARTLABEL (empty with an MBR)."""

    uuid: str
    label: str = ""


def partition(read: Read, number: int, sector: int = 512) -> Partition | None:
    """Who partition ``number`` (from 1) of the disk is, or None if its table does not tell. ``sector``: bytes."""
    return _gpt(read, number, sector) or _mbr(read, number)


def _gpt(read: Read, number: int, sector: int) -> Partition | None:
    header = read(sector, 92)
    if header[:8] != b"EFI PART" or len(header) < 92:
        return None
    first, count, size = struct.unpack_from("<QII", header, 72)
    if not 1 <= number <= min(count, _ENTRY_LIMIT) or not 128 <= size <= 4096:
        return None
    entry = read(first * sector + (number - 1) * size, 128)
    if len(entry) < 128 or not any(entry[:16]):
        return None
    label = entry[56:128].decode("utf-16-le", "replace").partition("\0")[0]
    return Partition(_guid(entry[16:32]), label)


def _mbr(read: Read, number: int) -> Partition | None:
    head = read(0, 512)
    if head[510:512] != b"\x55\xaa" or not any(head[440:444]):
        return None
    return Partition(f"{int.from_bytes(head[440:444], 'little'):08x}-{number:02x}")


def _guid(field: bytes) -> str:
    """A GUID as text: its first three parts are little-endian."""
    low, middle, high = struct.unpack_from("<IHH", field)
    rest = field[8:].hex()
    return f"{low:08x}-{middle:04x}-{high:04x}-{rest[:4]}-{rest[4:]}"
