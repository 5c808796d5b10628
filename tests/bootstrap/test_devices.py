"""Devices found by path and identity, in a made-up /sys and /dev."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import trio

from bootstrap import devices
from bootstrap.devices import Scan
from bootstrap.partitions import Partition, partition
from ocelot.errors import OcelotError

LABELLED = bytes(1024) + bytes(56) + b"\x53\xef" + bytes(34) + struct.pack("<III", 4, 0x40, 0)
UUID = "01234567-89ab-cdef-0123-456789abcdef"


class Machine:
    """A folder that stands for the machine: disks are plain files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.block = folder / "sys/class/block"
        self.block.mkdir(parents=True)
        (folder / "dev").mkdir()

    def scan(self) -> Scan:
        return Scan(str(self.folder / "sys"), str(self.folder / "dev"))

    def disk(self, name: str, content: bytes = b"", uevent: str = "", above: str = "") -> Path:
        place = self.folder / "sys/devices" / above / name
        place.mkdir(parents=True)
        (place / "size").write_text(f"{max(1, len(content) // 512)}\n")
        (place / "uevent").write_text(f"DEVNAME={name}\n{uevent}")
        (self.block / name).symlink_to(place)
        node = self.folder / "dev" / name
        node.write_bytes(content)
        return node


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ext4(label: str = "", uuid: str = UUID) -> bytes:
    block = LABELLED.ljust(1024 + 104, b"\0") + bytes.fromhex(uuid.replace("-", "")) + label.encode().ljust(16, b"\0")
    return block.ljust(4096, b"\0")


def gpt(*entries: tuple[str, str]) -> bytes:
    header = b"EFI PART" + bytes(64) + struct.pack("<QII", 2, 128, 128)
    data = bytes(512) + header.ljust(512, b"\0")
    for guid, label in entries:
        parts = guid.split("-")
        mixed = struct.pack("<IHH", *(int(part, 16) for part in parts[:3])) + bytes.fromhex("".join(parts[3:]))
        data += (b"\x01" * 16 + mixed + bytes(24) + label.encode("utf-16-le")).ljust(128, b"\0")
    return data.ljust(20480, b"\0")


def silence() -> None:
    """In place of the kernel's announcements."""


def test_a_label_is_looked_for_on_every_device(machine: Machine) -> None:
    machine.disk("vda", bytes(4096))
    node = machine.disk("vdb", ext4("root"))
    assert machine.scan().find("LABEL=root") == str(node)
    assert machine.scan().find("LABEL=ro") is None


def test_a_uuid_is_found_in_any_case_and_quoted(machine: Machine) -> None:
    node = machine.disk("vda", ext4())
    assert machine.scan().find(f'UUID="{UUID.upper()}"') == str(node)


@pytest.mark.parametrize(
    "path", [f"/dev/disk/by-uuid/{UUID}", "/dev/disk/by-label/my\\x20root", "/dev/disk/by-label/my root"]
)
def test_the_links_of_udev_which_nobody_makes_here_are_understood(machine: Machine, path: str) -> None:
    node = machine.disk("vda", ext4("my root"))
    assert machine.scan().find(path) == str(node)
    assert machine.scan().find("/dev/disk/by-label/other") is None


def test_a_partition_is_known_by_what_the_kernel_says(machine: Machine) -> None:
    node = machine.disk("vda1", ext4(), uevent=f"PARTN=1\nPARTUUID={UUID}\nPARTNAME=system\n")
    assert machine.scan().find(f"PARTUUID={UUID.upper()}") == str(node)
    assert machine.scan().find("PARTLABEL=system") == str(node)


def test_an_older_kernel_leaves_it_to_the_partition_table(machine: Machine) -> None:
    other = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    machine.disk("vda", gpt((other, "boot"), (UUID, "system")))
    machine.disk("vda1", uevent="PARTN=1\n", above="vda")
    node = machine.disk("vda2", uevent="PARTN=2\n", above="vda")
    assert machine.scan().find(f"PARTUUID={UUID}") == str(node)
    assert machine.scan().find("PARTLABEL=system") == str(node)


def test_an_mbr_disk_has_partition_uuids_too() -> None:
    table = bytes(440) + bytes.fromhex("78563412") + bytes(66) + b"\x55\xaa"
    assert partition(lambda at, size: table[at : at + size], 3) == Partition("12345678-03")
    assert partition(lambda at, size: bytes(size), 3) is None


@pytest.mark.parametrize("number", [0, 129, 100000])
def test_a_partition_that_the_table_does_not_have_is_none(number: int) -> None:
    table = gpt((UUID, "x"))
    assert partition(lambda at, size: table[at : at + size], number) is None


def test_a_disk_with_large_sectors_keeps_its_table_further_in() -> None:
    small = gpt((UUID, "system"))
    large = bytes(4096) + small[512:1024].ljust(4096, b"\0") + small[1024:]
    assert partition(lambda at, size: large[at : at + size], 1, 4096) == Partition(UUID, "system")


def test_drives_without_a_medium_are_passed_over(machine: Machine) -> None:
    machine.disk("vda", ext4("root"))
    (machine.block / "vda" / "size").write_text("0\n")
    assert machine.scan().names() == []


def test_a_device_is_read_once_until_it_changes(machine: Machine) -> None:
    node = machine.disk("vda", ext4("old"))
    scan = machine.scan()
    assert scan.find("LABEL=new") is None
    node.write_bytes(ext4("new"))
    assert scan.find("LABEL=new") is None
    scan.forget("vda")
    assert scan.find("LABEL=new") == str(node)


def test_a_device_that_is_there_is_not_waited_for(machine: Machine) -> None:
    node = machine.disk("vda", ext4("root"))
    scan = machine.scan()
    assert trio.run(devices.wait_for, "LABEL=root", 5.0, scan, silence) == str(node)
    assert scan.waited == 0.0


def test_how_long_a_late_device_was_waited_for_is_known(machine: Machine) -> None:
    class Late:
        """It is there at the second look."""

        waited = 0.0
        looks = 0

        def find(self, spec: str) -> str | None:
            self.looks += 1
            return spec if self.looks == 2 else None

    scan = Late()
    assert trio.run(devices.wait_for, "/dev/late", 5.0, scan, silence, 0.01) == "/dev/late"
    assert 0.01 <= scan.waited < 5.0


def test_a_device_that_never_comes_is_named_with_those_that_are_there(machine: Machine) -> None:
    machine.disk("vda", ext4("root"))
    with pytest.raises(OcelotError) as caught:
        trio.run(devices.wait_for, "LABEL=rot", 0.0, machine.scan(), silence)
    assert caught.value.message == (
        'cannot find the device "LABEL=rot": it did not appear within 0s; devices that exist: '
        f"{machine.folder}/dev/vda (ext4, LABEL=root, UUID={UUID})"
    )


def test_a_machine_without_any_device_is_told_to_load_drivers(machine: Machine) -> None:
    with pytest.raises(OcelotError) as caught:
        trio.run(devices.wait_for, "/dev/vda-nowhere", 0.0, machine.scan(), silence)
    assert "there are no block devices at all" in caught.value.message
    assert "virtio_blk.ko" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(4096), "only zeros in its first 4096 bytes"),
        (b"LUKS\xba\xbe".ljust(4096, b"\0"), "crypto_LUKS, which is no file system"),
    ],
)
def test_content_that_cannot_be_mounted_is_named(machine: Machine, content: bytes, message: str) -> None:
    node = machine.disk("vda", content)
    with pytest.raises(OcelotError, match=message):
        devices.detect(str(node))


@pytest.mark.parametrize(
    ("content", "kind", "deed"),
    [
        (b"LUKS\xba\xbe\0\x02", "crypto_LUKS", "cryptsetup open"),
        (bytes(512) + b"LABELONE", "LVM2_member", "vgchange -ay"),
        (bytes(4096) + b"\xfc\x4e\x2b\xa9\x01\0\0\0", "linux_raid_member", "mdadm --assemble"),
        (bytes(4086) + b"SWAPSPACE2", "swap", "name another device"),
    ],
)
def test_what_is_no_file_system_is_named_with_what_opens_it(
    machine: Machine, content: bytes, kind: str, deed: str
) -> None:
    node = machine.disk("vda", content.ljust(8192, b"\0"))
    with pytest.raises(OcelotError, match=f"holds {kind}, which is no file system") as caught:
        devices.detect(str(node))
    assert deed in caught.value.hint
    assert devices.advice(str(node)) == caught.value.hint


def test_a_partitioned_disk_names_its_partitions(machine: Machine) -> None:
    node = machine.disk("vda", bytes(510) + b"\x55\xaa" + bytes(4096))
    machine.disk("vdb", ext4("data"))
    assert devices.advice(str(node), machine.scan()) == "the kernel has found no partition on it"
    one = machine.disk("vda1", ext4("root"), above="vda")
    expected = f"set device to one of its partitions: {one} (ext4, LABEL=root, UUID={UUID})"
    assert devices.advice(str(node), machine.scan()) == expected
    assert devices.advice(str(one), machine.scan()) == ""
