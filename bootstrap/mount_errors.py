"""What a failed mount(2) means, and what is missing: the kernel says one errno for many causes."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bootstrap import devices, superblock
from ocelot.config.findings import suggest
from ocelot.errors import OcelotError

MODULES = {
    "9p": ("kernel/fs/9p/9p.ko", "kernel/net/9p/9pnet_virtio.ko"),
    "btrfs": ("kernel/fs/btrfs/btrfs.ko",),
    "erofs": ("kernel/fs/erofs/erofs.ko",),
    "exfat": ("kernel/fs/exfat/exfat.ko",),
    "ext2": ("kernel/fs/ext4/ext4.ko",),
    "ext3": ("kernel/fs/ext4/ext4.ko",),
    "ext4": ("kernel/fs/ext4/ext4.ko",),
    "f2fs": ("kernel/fs/f2fs/f2fs.ko",),
    "fuse": ("kernel/fs/fuse/fuse.ko",),
    "iso9660": ("kernel/fs/isofs/isofs.ko",),
    "nfs": ("kernel/fs/nfs/nfs.ko", "kernel/fs/nfs/nfsv4.ko"),
    "nfs4": ("kernel/fs/nfs/nfs.ko", "kernel/fs/nfs/nfsv4.ko"),
    "overlay": ("kernel/fs/overlayfs/overlay.ko",),
    "squashfs": ("kernel/fs/squashfs/squashfs.ko",),
    "vfat": ("kernel/fs/fat/vfat.ko",),
    "virtiofs": ("kernel/fs/fuse/virtiofs.ko",),
    "xfs": ("kernel/fs/xfs/xfs.ko",),
}
"""Where Linux keeps the drivers of file systems that are often modules."""

_CHARSET = re.compile(r"(?:codepage|IO charset) (\S+) not found")

_NINE_P_TAGS = "/sys/bus/virtio/drivers/9pnet_virtio"
_VIRTIOFS_TAGS = "/sys/fs/virtiofs"
_VIRTIO_DEVICES = "/sys/bus/virtio/devices"
_VIRTIO_ID = {"9p": 9, "virtiofs": 26}  # include/uapi/linux/virtio_ids.h
_VERSION_1 = 32
"""The feature bit of a device that speaks virtio 1.0 or later, and not the legacy interface (virtio 1.2, 6.1)."""

TO_WRITE = (
    "make the root writable: overlay: true or no readOnly in switchRoot; "
    "without one, rw on the kernel command line, or no --read-only for the container"
)
"""What to do about a root that cannot be written."""

LEGACY = (
    "its device is on a legacy virtio-mmio transport, over which virtiofs does not work: give QEMU "
    "-global virtio-mmio.force-legacy=false (the default of its machine microvm is the legacy one)"
)


class MountCall(Protocol):
    """What is asked of a mount here."""

    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def fstype(self) -> str: ...


def explain(call: MountCall, error: OSError, kernel_lines: Sequence[str] = ()) -> OcelotError:
    """The failure of ``call`` in words, with a hint and with what the kernel logged meanwhile."""
    cause, hint = _cause(call, error)
    charset = next((found.group(1) for line in kernel_lines if (found := _CHARSET.search(line))), None)
    if charset is not None:
        hint = f"add kernel/fs/nls/nls_{charset.replace('-', '_')}.ko to preSwitch.modules.names"
    return OcelotError(_with_kernel(f"{_subject(call)}: {cause}", kernel_lines), hint=hint)


def too_slow(call: MountCall, limit: float, kernel_lines: Sequence[str] = ()) -> OcelotError:
    """mount(2) has not come back."""
    hint = "check that the other side answers, or allow more with timeout"
    if call.fstype == "virtiofs" and has_legacy_transport():
        hint = LEGACY
    return OcelotError(_with_kernel(f"{_subject(call)}: no answer within {limit:g}s", kernel_lines), hint=hint)


def no_mount_point(path: str, error: OSError) -> OcelotError:
    """The folder ``path``, or the file, is missing and cannot be made."""
    hint = "make it in the image"
    if error.errno == errno.EROFS:
        hint += f", or {TO_WRITE}"
    return OcelotError(f'cannot make the mount point "{path}": {os.strerror(error.errno or 0)}', hint=hint)


def known_types(path: str = "/proc/filesystems") -> frozenset[str]:
    """The file system types that the kernel has now; empty if that cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            return frozenset(line.split()[-1] for line in file if line.strip())
    except OSError:
        return frozenset()


def module_hint(fstype: str) -> str:
    """What to write in the configuration for a file system type that the kernel lacks."""
    paths = MODULES.get(fstype)
    if paths is None:
        meant = suggest(fstype, MODULES)
        first = f'did you mean "{meant}"?' if meant else f'check the spelling of "{fstype}".'
        return f"{first} Else add its module to preSwitch.modules.names"
    return f"add {' and '.join(paths)} to preSwitch.modules.names"


def _subject(call: MountCall) -> str:
    kind = f" as {call.fstype}" if call.fstype else ""
    return f'cannot mount "{call.source}" on {call.target}{kind}'


def _with_kernel(text: str, lines: Sequence[str]) -> str:
    return f"{text}; the kernel says: {' | '.join(dict.fromkeys(lines))}" if lines else text


def _cause(call: MountCall, error: OSError) -> tuple[str, str]:
    number = error.errno or 0
    types = known_types()
    if number == errno.ENODEV and call.fstype not in types:
        return f'this kernel does not know the file system type "{call.fstype}"', module_hint(call.fstype)
    special = _CAUSES.get(call.fstype)
    found = special(call, number) if special else None
    return found or _general(call, number)


def _general(call: MountCall, number: int) -> tuple[str, str]:
    text = os.strerror(number)
    on_device = call.source.startswith("/dev/")
    if number == errno.EINVAL and on_device:
        seen = superblock.describe_file(call.source)
        return f"{text}: {call.source} holds {seen}", devices.advice(call.source) or "check fstype and options"
    if number == errno.EINVAL:
        return text, "check options: the file system refuses one of them"
    if number == errno.EBUSY:
        return text, f"{call.source} is already mounted elsewhere or in use"
    if number == errno.EPERM:
        return text, "mounting needs CAP_SYS_ADMIN in the mount namespace's user namespace"
    if number == errno.ENOENT and not call.fstype:
        return f'{text}: there is no "{call.source}" to bind', "make it before, or check source"
    if number == errno.ENOTBLK:
        return "it is no block device", "check device"
    if number == errno.ENOTDIR:
        return text, "a folder can only be mounted on a folder, a file only on a file"
    if number in (errno.EUCLEAN, errno.EIO, errno.EBADMSG) and on_device:
        return text, f"the file system on {call.source} is damaged: check it with fsck"
    return text, ""


def _nine_p(call: MountCall, number: int) -> tuple[str, str] | None:
    if number not in (errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.EPROTONOSUPPORT):
        return None
    if not os.path.isdir(_NINE_P_TAGS):
        hint = "add kernel/net/9p/9pnet_virtio.ko to preSwitch.modules.names"
        return "the 9p transport for virtio is not loaded", hint
    return _wrong_tag(call, nine_p_tags())


def _virtiofs(call: MountCall, number: int) -> tuple[str, str] | None:
    if number not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
        return None
    cause = _wrong_tag(call, virtiofs_tags())
    return (cause[0], LEGACY) if cause is not None and has_legacy_transport() else cause


def _wrong_tag(call: MountCall, tags: Iterable[str] | None) -> tuple[str, str] | None:
    machine = count_devices(call.fstype)
    if machine == 0:
        return (
            f'the machine has no {call.fstype} device with the tag "{call.source}", nor any other',
            "give the virtual machine such a device, and load its bus (virtio_pci or virtio_mmio)",
        )
    if tags is None:
        count = "" if machine is None else f"; the machine has {machine} {call.fstype} device{'s' * (machine > 1)}"
        return f'no device has the tag "{call.source}"{count}', "check the tag in the virtual machine's command line"
    present = sorted(tags)
    if call.source in present:
        return None
    shown = ", ".join(f'"{tag}"' for tag in present) or "none"
    return f'no device has the tag "{call.source}"; tags that exist: {shown}', "check tag"


def nine_p_tags(folder: str = _NINE_P_TAGS) -> list[str]:
    """The mount tags of the machine's 9p devices."""
    return _read_each(folder, "mount_tag")


def virtiofs_tags(folder: str = _VIRTIOFS_TAGS) -> list[str] | None:
    """The tags of the machine's virtiofs devices, or None where the kernel (before 6.9) does not show them."""
    return _read_each(folder, "tag") if os.path.isdir(folder) else None


def count_devices(fstype: str, folder: str = _VIRTIO_DEVICES) -> int | None:
    """How many virtio devices of the kind that carries ``fstype`` the machine has; None if that cannot be read."""
    wanted = _VIRTIO_ID[fstype]
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return sum(1 for name in names if _read(f"{folder}/{name}/device") == f"0x{wanted:04x}")


def has_legacy_transport(folder: str = _VIRTIO_DEVICES) -> bool:
    """Whether a virtiofs device of the machine is on a virtio-mmio transport that speaks the legacy interface only."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        if _read(f"{folder}/{name}/device") != f"0x{_VIRTIO_ID['virtiofs']:04x}":
            continue
        features = _read(f"{folder}/{name}/features")
        driver = os.path.basename(os.path.realpath(f"{os.path.realpath(f'{folder}/{name}')}/../driver"))
        if driver == "virtio-mmio" and features[_VERSION_1 : _VERSION_1 + 1] == "0":
            return True
    return False


def _nfs(call: MountCall, number: int) -> tuple[str, str] | None:
    text = os.strerror(number)
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return text, "the network must be up first: give ip= on the kernel command line, or a hook that sets it up"
    if number in (errno.ECONNREFUSED, errno.ETIMEDOUT):
        return text, "check that the server runs NFS and that no firewall is between"
    if number == errno.ENOENT:
        return f"the server does not export {call.source.rpartition(':')[2]}", "check export"
    if number in (errno.EACCES, errno.EPERM):
        return text, "the server does not let this machine mount it: check its exports"
    if number in (errno.EPROTONOSUPPORT, errno.EINVAL):
        return text, "check options; the kernel needs kernel/fs/nfs/nfsv4.ko for version 4, the server must speak it"
    return None


def _overlay(_: MountCall, number: int) -> tuple[str, str] | None:
    if number == errno.EINVAL:
        return os.strerror(
            number
        ), "upper and work must be two folders of one writable local file system, outside lower"
    return None


_CAUSES: dict[str, Callable[[MountCall, int], tuple[str, str] | None]] = {
    "9p": _nine_p,
    "virtiofs": _virtiofs,
    "nfs": _nfs,
    "nfs4": _nfs,
    "overlay": _overlay,
}


def _read_each(folder: str, attribute: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    values = (_read(f"{folder}/{name}/{attribute}") for name in names)
    return [value for value in values if value]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""
