"""Each kind of root brings the modules behind it; every feature can be left out."""

from __future__ import annotations

import msgspec
import pytest

from ocelot.config.structs import (
    Bootstrap,
    Control,
    DeviceMount,
    Mount,
    NfsMount,
    NinePMount,
    OverlayMount,
    Phase,
    PostSwitch,
    SwitchRoot,
    VirtiofsMount,
    VirtualMount,
    Vsock,
)
from ocelot.errors import UsageError
from ocelot.image.needs import FEATURES, needs


def early(config: Bootstrap, *without: str) -> set[str]:
    return {name for need in needs(config, without) if need.file_system is None for name in need.modules}


def on_mount(config: Bootstrap, *without: str) -> set[str]:
    return {need.file_system for need in needs(config, without) if need.file_system is not None}


def booting(root: Mount) -> Bootstrap:
    return Bootstrap(switch_root=SwitchRoot(root_file_system=root))


@pytest.mark.parametrize(
    ("root", "drivers", "systems"),
    [
        (VirtiofsMount(tag="r"), set(), {"virtiofs"}),
        (NinePMount(tag="r"), {"9pnet_virtio"}, {"9p"}),
        (NfsMount(server="10.0.2.2", export="/"), {"virtio_net"}, {"nfs"}),
        (DeviceMount(device="/dev/vda1", fstype="ext4"), {"virtio_blk"}, {"ext4"}),
        (DeviceMount(device="/dev/nvme0n1", fstype="xfs"), {"nvme"}, {"xfs"}),
        (DeviceMount(device="/dev/vda"), {"virtio_blk"}, {"ext4", "squashfs", "erofs", "xfs", "btrfs"}),
        (DeviceMount(device="/dev/sda2", fstype="ext4"), {"virtio_scsi", "ahci", "ata_piix", "sd_mod"}, {"ext4"}),
        (DeviceMount(device="/images/root", fstype="squashfs"), {"loop"}, {"squashfs"}),
        (DeviceMount(device="LABEL=r", fstype="ext4"), {"virtio_blk", "virtio_scsi", "sd_mod", "nvme"}, {"ext4"}),
        (OverlayMount(lower="/l", upper="/u", work="/w"), set(), {"overlay"}),
    ],
)
def test_a_root_brings_its_drivers_and_its_file_system(root: Mount, drivers: set[str], systems: set[str]) -> None:
    always = {"virtio_pci", "virtio_mmio", "virtio_console", "button", "evdev"}
    assert early(booting(root)) == always | drivers
    assert on_mount(booting(root)) == systems | {"overlay"}


def test_mounts_before_the_switch_count_too() -> None:
    config = Bootstrap(pre_switch=Phase(mounts=(VirtualMount(fstype="configfs", target="/c"),)))
    assert "configfs" in on_mount(config)


def test_mounts_after_the_switch_count_too_since_many_roots_have_no_modules() -> None:
    data = DeviceMount(device="/dev/vdb", fstype="xfs", target="/data")
    config = Bootstrap(post_switch=PostSwitch(mounts=(data,)))
    assert "virtio_blk" in early(config)
    assert "xfs" in on_mount(config)


def test_what_no_kernel_has_as_a_module_is_not_looked_for() -> None:
    config = Bootstrap(pre_switch=Phase(mounts=(VirtualMount(fstype="tmpfs", target="/t"),)))
    assert "tmpfs" not in on_mount(config)


def test_the_host_is_let_in_only_where_it_may() -> None:
    assert "vmw_vsock_virtio_transport" not in early(Bootstrap())
    assert "vmw_vsock_virtio_transport" in early(Bootstrap(control=Control(vsock=Vsock())))


def test_every_feature_can_be_left_out() -> None:
    config = msgspec.structs.replace(booting(NinePMount(tag="r")), control=Control(vsock=Vsock()))
    assert {need.feature for need in needs(config)} == set(FEATURES)
    for feature in FEATURES:
        assert {need.feature for need in needs(config, [feature])} == set(FEATURES) - {feature}
    assert needs(config, FEATURES) == ()


def test_a_feature_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match='leave out "exitport"'):
        needs(Bootstrap(), ["exitport"])
