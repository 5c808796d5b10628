"""What a configuration asks of the kernel before the root is there: the modules behind ocelot's own features.

Each need can be left out by its name. File systems are not loaded until something is mounted that needs them, so a
device whose file system is only known at boot may bring several.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ocelot.config.structs import (
    Bootstrap,
    DeviceMount,
    Mount,
    NfsMount,
    NinePMount,
    OverlayMount,
    VirtiofsMount,
    VirtualMount,
)
from ocelot.errors import UsageError

FEATURES = ("virtio", "exit-port", "power-button", "vsock", "root", "overlay")

_UNKNOWN_FILE_SYSTEM = ("ext4", "squashfs", "erofs", "xfs", "btrfs")
_VIRTUAL = "tmpfs ramfs proc sysfs devpts devtmpfs cgroup cgroup2 debugfs tracefs securityfs bpf hugetlbfs mqueue"
_NEVER_A_MODULE = frozenset(_VIRTUAL.split())
_COMPANIONS = {"vfat": ("nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8"), "iso9660": ("isofs",)}


@dataclass(frozen=True)
class Need:
    """Modules by name for ``feature``. ``file_system``: loaded when that type is mounted; None: before preSwitch."""

    feature: str
    modules: tuple[str, ...]
    file_system: str | None = None


def needs(config: Bootstrap, without: Collection[str] = ()) -> tuple[Need, ...]:
    """What ``config`` needs, less the features ``without``. UsageError for a feature that does not exist."""
    check_features(without)
    found = [
        Need("virtio", ("virtio_pci", "virtio_mmio")),
        Need("exit-port", ("virtio_console",)),
        Need("power-button", ("button", "evdev")),
        Need("overlay", ("overlay",), "overlay"),
    ]
    if config.control.vsock is not None:
        found.append(Need("vsock", ("vmw_vsock_virtio_transport",)))
    mounts = [*config.pre_switch.mounts]
    if config.switch_root is not None:
        mounts.append(config.switch_root.root_file_system)
    mounts += config.post_switch.mounts  # the new root is often a container's, without modules
    for mount in mounts:
        found += _for_mount(mount)
    return tuple(dict.fromkeys(need for need in found if need.feature not in without))


def check_features(names: Collection[str]) -> None:
    """UsageError for a name that is not one of FEATURES."""
    unknown = sorted(set(names) - set(FEATURES))
    if unknown:
        raise UsageError(f'cannot leave out "{unknown[0]}"', hint=f"features: {', '.join(FEATURES)}")


def _for_mount(mount: Mount) -> list[Need]:
    match mount:
        case VirtiofsMount():
            return [Need("root", ("virtiofs",), "virtiofs")]
        case NinePMount():
            return [Need("root", ("9pnet_virtio",)), _file_system("9p")]
        case NfsMount():
            return [Need("root", ("virtio_net",)), Need("root", ("nfs", "nfsv4"), "nfs")]
        case OverlayMount():
            return [Need("root", ("overlay",), "overlay")]
        case VirtualMount():
            return [] if mount.fstype in _NEVER_A_MODULE else [_file_system(mount.fstype)]
        case DeviceMount():
            types = (mount.fstype,) if mount.fstype else _UNKNOWN_FILE_SYSTEM
            return [Need("root", _drivers(mount.device)), *(_file_system(fstype) for fstype in types)]
        case _:
            return []


def _file_system(fstype: str) -> Need:
    return Need("root", (fstype, *_COMPANIONS.get(fstype, ())), fstype)


def _drivers(device: str) -> tuple[str, ...]:
    """The drivers behind a device's name; for a label or an id, those that virtual machines usually have."""
    if device.startswith("/dev/vd"):
        return ("virtio_blk",)
    if device.startswith("/dev/nvme"):
        return ("nvme",)
    if device.startswith("/dev/sd"):
        return ("virtio_scsi", "ahci", "ata_piix", "sd_mod")
    if device.startswith("/dev/sr"):
        return ("virtio_scsi", "ahci", "ata_piix", "sr_mod")
    if device.startswith("/dev/loop") or (device.startswith("/") and not device.startswith("/dev/")):
        return ("loop",)
    if device.startswith("/dev/pmem"):
        return ("virtio_pmem", "nd_pmem")
    return ("virtio_blk", "virtio_scsi", "sd_mod", "nvme")
