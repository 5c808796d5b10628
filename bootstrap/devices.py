"""Find a block device by path or identity, and await one that is not there yet.

There is no udev: devtmpfs makes the nodes and the kernel announces them on a netlink socket (kobject uevents). After each
announcement the question is asked again; a slow timer does so too, for announcements that a namespace keeps from us.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from bootstrap import superblock
from bootstrap.partitions import Partition, partition
from bootstrap.superblock import Superblock
from ocelot.errors import OcelotError

TAGS = ("LABEL", "UUID", "PARTUUID", "PARTLABEL")
BY = "/dev/disk/by-"
"""Where udev links the devices under their identities."""
FALLBACK = 1.0
"""Seconds between looks when nothing is announced."""

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_IGNORED = ("ram", "zram", "fd")  # never carry a root by identity; a floppy drive without a disk blocks for seconds


@dataclass
class Scan:
    """What is known of the block devices, each read once: until the kernel announces a change of it."""

    sysfs: str = "/sys"
    dev: str = "/dev"
    waited: float = 0.0
    """Seconds from the first look for a device that was not there yet until it was."""
    _superblocks: dict[str, Superblock | None] = field(default_factory=dict)

    def find(self, spec: str) -> str | None:
        """The path of the device that ``spec`` names, or None if it is not there. Reads devices: may block."""
        if spec.startswith("/") and os.path.exists(spec):
            return spec
        tag, _, value = _identity(spec).partition("=")
        value = value.strip('"')
        if tag not in TAGS:
            return None
        for name in self.names():
            if self._matches(name, tag, value):
                path = self.node(name)
                return path if os.path.exists(path) else None
        return None

    def names(self) -> list[str]:
        """The block devices as the kernel names them, in a stable order, without empty ones."""
        try:
            found = os.listdir(f"{self.sysfs}/class/block")
        except OSError:
            return []
        return [name for name in sorted(found) if not name.startswith(_IGNORED) and self.size(name) > 0]

    def size(self, name: str) -> int:
        """Bytes; 0 for a drive without a medium and for a loop device without a file."""
        text = self._read(name, "size")
        return int(text) * 512 if text.isdigit() else 0

    def node(self, name: str) -> str:
        """The path of the device node: a ``!`` in the kernel's name is a slash."""
        return f"{self.dev}/{name.replace('!', '/')}"

    def superblock(self, name: str) -> Superblock | None:
        """What the device holds, or None."""
        if name not in self._superblocks:
            try:
                self._superblocks[name] = superblock.identify(superblock.read_head(self.node(name)))
            except OSError:
                return None  # not kept: its node may just not be there yet
        return self._superblocks[name]

    def partition(self, name: str) -> Partition | None:
        """Which partition of its disk the device is, or None if it is none."""
        facts = dict(line.partition("=")[::2] for line in self._read(name, "uevent").splitlines())
        number = facts.get("PARTN", "")
        if not number.isdigit():
            return None
        if "PARTUUID" in facts:
            return Partition(facts["PARTUUID"].lower(), facts.get("PARTNAME", ""))
        return self._from_table(name, int(number))

    def forget(self, name: str) -> None:
        """Its content may have changed: look again when asked."""
        self._superblocks.pop(name, None)

    def partitions_of(self, path: str) -> list[str]:
        """The kernel's names of the partitions of the disk at ``path``."""
        disk = os.path.basename(os.path.realpath(path))
        return [name for name in self.names() if os.path.isdir(f"{self.sysfs}/class/block/{disk}/{name}")]

    def describe(self, names: Sequence[str] | None = None) -> str:
        """The devices of these names, or all that exist, for a message."""
        shown = []
        for name in self.names() if names is None else names:
            found = self.superblock(name)
            facts = [found.fstype if found else "unknown content"]
            if found and found.label:
                facts.append(f"LABEL={found.label}")
            if found and found.uuid:
                facts.append(f"UUID={found.uuid}")
            shown.append(f"{self.node(name)} ({', '.join(facts)})")
        return "; ".join(shown)

    def _matches(self, name: str, tag: str, value: str) -> bool:
        if tag.startswith("PART"):
            mine = self.partition(name)
            if mine is None:
                return False
            return mine.label == value if tag == "PARTLABEL" else mine.uuid == value.lower()
        found = self.superblock(name)
        if found is None:
            return False
        return found.label == value if tag == "LABEL" else found.uuid.lower() == value.lower()

    def _from_table(self, name: str, number: int) -> Partition | None:
        disk = os.path.basename(os.path.dirname(os.path.realpath(f"{self.sysfs}/class/block/{name}")))
        sector = self._read(disk, "queue/logical_block_size")
        try:
            fd = os.open(self.node(disk), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            return partition(lambda at, size: os.pread(fd, size, at), number, int(sector) if sector else 512)
        except OSError:
            return None
        finally:
            os.close(fd)

    def _read(self, name: str, attribute: str) -> str:
        try:
            with open(f"{self.sysfs}/class/block/{name}/{attribute}", encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return ""


def _identity(spec: str) -> str:
    """``/dev/disk/by-label/x``, which only udev makes, as ``LABEL=x``; anything else as it is."""
    kind, _, name = spec.removeprefix(BY).partition("/")
    if not spec.startswith(BY) or kind.upper() not in TAGS:
        return spec
    # udev writes what could not stand in a path as \x20
    value = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda code: bytes([int(code[1], 16)]), os.fsencode(name))
    return f"{kind.upper()}={os.fsdecode(value)}"


def listen_to_kernel() -> trio.socket.SocketType | None:
    """A socket for the kernel's announcements, or None where there is no such thing."""
    try:
        plain = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT)
    except OSError:
        return None
    try:
        plain.bind((0, _KERNEL_GROUP))
    except OSError:
        plain.close()
        return None
    return trio.socket.from_stdlib_socket(plain)


async def wait_for(
    spec: str,
    timeout: float,
    scan: Scan | None = None,
    listen: Callable[[], trio.socket.SocketType | None] = listen_to_kernel,
    fallback: float = FALLBACK,
) -> str:
    """The path of the device that ``spec`` names, as soon as it is there.

    ``spec``: a path, or LABEL=, UUID=, PARTUUID=, PARTLABEL=. Raises OcelotError, which lists the devices that are
    there, after ``timeout`` seconds.
    """
    scan = scan or Scan()
    events = listen()
    try:
        with trio.move_on_after(timeout):
            # Listening began before the first look, so that nothing can appear between the two unseen.
            missed: float | None = None
            while True:
                path = await trio.to_thread.run_sync(scan.find, spec, abandon_on_cancel=True)
                if path is not None:
                    scan.waited = 0.0 if missed is None else trio.current_time() - missed
                    return path
                missed = missed or trio.current_time()
                await _next_event(events, scan, fallback)
    finally:
        if events is not None:
            events.close()
    raise await trio.to_thread.run_sync(_missing, spec, timeout, scan)


def detect(path: str) -> str:
    """The file system type of the device at ``path`` by its superblock. Raises OcelotError. May block."""
    try:
        head = superblock.read_head(path)
    except OSError as error:
        raise OcelotError(f'cannot read the device "{path}": {error.strerror}') from error
    found = superblock.identify(head)
    if found is None:
        raise OcelotError(
            f'cannot tell the file system on "{path}": it holds {superblock.describe(head)}',
            hint=advice(path) or "set fstype, or check that this is the right device",
        )
    if not found.mountable:
        raise OcelotError(
            f'cannot mount "{path}": it holds {found.fstype}, which is no file system',
            hint=superblock.TO_OPEN[found.fstype],
        )
    return found.fstype


def advice(path: str, scan: Scan | None = None) -> str:
    """What to write instead of the device at ``path`` when it cannot be mounted for what it holds; else "". May block."""
    try:
        head = superblock.read_head(path)
    except OSError:
        return ""
    found = superblock.identify(head)
    if found is not None:
        return superblock.TO_OPEN.get(found.fstype, "")
    if superblock.describe(head) != superblock.PARTITION_TABLE:
        return ""
    scan = scan or Scan()
    there = scan.describe(scan.partitions_of(path))
    return f"set device to one of its partitions: {there}" if there else "the kernel has found no partition on it"


def _missing(spec: str, timeout: float, scan: Scan) -> OcelotError:
    message = f'cannot find the device "{spec}": it did not appear within {timeout:g}s'
    there = scan.describe()
    if there:
        return OcelotError(f"{message}; devices that exist: {there}", hint="check device")
    return OcelotError(
        f"{message}; there are no block devices at all",
        hint="add the driver and its bus to preSwitch.modules.names, such as kernel/drivers/block/virtio_blk.ko "
        "and kernel/drivers/virtio/virtio_pci.ko",
    )


async def _next_event(events: trio.socket.SocketType | None, scan: Scan, fallback: float) -> None:
    """Return when a block device was announced, when announcements were lost, or after ``fallback`` seconds."""
    with trio.move_on_after(fallback):
        if events is None:
            await trio.sleep_forever()
        while True:
            try:
                message = await events.recv(16384)
            except OSError:
                return  # ENOBUFS: the kernel dropped some
            if b"\0SUBSYSTEM=block\0" in message:
                # ACTION@/devices/pci0000:00/.../block/vda
                path = message.split(b"\0", 1)[0].decode("utf-8", "replace")
                scan.forget(path.rpartition("/")[2])
                return
