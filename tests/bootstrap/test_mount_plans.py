"""What a list of mounts will do, without doing it."""

import pytest
import trio

from bootstrap import mounts, overlay
from bootstrap.phases import with_policy
from bootstrap.steps import SYSROOT
from ocelot.config.structs import (
    BindMount,
    DeviceMount,
    Mount,
    NfsMount,
    NinePMount,
    OnFailure,
    OverlayMount,
    VirtiofsMount,
    VirtualMount,
)
from ocelot.errors import OcelotError


@pytest.mark.parametrize(
    ("mount", "line"),
    [
        (VirtiofsMount(tag="rootfs"), 'mount "rootfs" on /sysroot, type virtiofs'),
        (
            NinePMount(tag="rootfs", read_only=True),
            'mount "rootfs" on /sysroot, type 9p, options ro,trans=virtio,version=9p2000.L,msize=512000',
        ),
        (DeviceMount(device="UUID=1-2"), 'mount "UUID=1-2" on /sysroot, type the detected type'),
        (DeviceMount(device="/dev/vda", fstype="xfs"), 'mount "/dev/vda" on /sysroot, type xfs'),
        (
            NfsMount(server="192.168.1.1", export="/exports/rootfs"),
            'mount "192.168.1.1:/exports/rootfs" on /sysroot, type nfs, options vers=4.2',
        ),
        (
            NfsMount(server="fe80::1", export="/e", options="v3,nolock"),
            'mount "[fe80::1]:/e" on /sysroot, type nfs, options v3,nolock',
        ),
        (
            OverlayMount(lower="/a:/b", upper="/u", work="/w", no_suid=True),
            'mount "overlay" on /sysroot, type overlay, options nosuid,lowerdir=/a:/b,upperdir=/u,workdir=/w',
        ),
        (VirtualMount(fstype="tmpfs", options="size=1m"), 'mount "tmpfs" on /sysroot, type tmpfs, options size=1m'),
        (BindMount(source="/a", no_dev=True), 'mount "/a" on /sysroot, type bind, options nodev,bind'),
        (
            VirtiofsMount(tag="r", overlay=True),
            'mount "r" on /sysroot, type virtiofs, as the lower layer of an overlay that is written to memory',
        ),
    ],
)
def test_a_root_describes_its_mount(mount: Mount, line: str) -> None:
    (step,) = mounts.plan_root(mount)
    assert step.describe() == line
    assert step.name == "mount root"
    assert SYSROOT == "/sysroot"


@pytest.mark.parametrize("given", [None, *OnFailure])
def test_the_root_is_never_only_warned_about(given: OnFailure | None) -> None:
    (step,) = mounts.plan_root(VirtiofsMount(tag="rootfs", on_failure=given))
    assert step.on_failure is (OnFailure.RETRY if given is OnFailure.RETRY else OnFailure.ABORT)


def test_mounts_keep_their_order_and_carry_their_policy() -> None:
    steps = mounts.plan_mounts(
        (
            VirtualMount(fstype="tmpfs", target="/data"),
            VirtualMount(fstype="tmpfs", target="/data/more", on_failure=OnFailure.WARN),
        )
    )
    assert [step.name for step in steps] == ["mount /data", "mount /data/more"]
    assert [step.on_failure for step in steps] == [OnFailure.ABORT, OnFailure.WARN]


def test_a_mount_is_tried_for_as_long_as_the_file_says() -> None:
    """What the plan prints; the runner itself leaves a step some seconds more to explain its own timeout."""
    mount = DeviceMount(device="/dev/vdb", target="/d", timeout=5.0, on_failure=OnFailure.RETRY)
    (step,) = mounts.plan_mounts((mount,))
    assert with_policy(step).endswith("[Retry for 5s, then Abort]")


@pytest.mark.parametrize(
    ("mount", "seconds"),
    [
        (NfsMount(server="10.0.2.2", export="/", target="/d"), 30.0),
        (VirtiofsMount(tag="a", target="/d"), 30.0),
        (NfsMount(server="10.0.2.2", export="/", target="/d", timeout=5.0), 5.0),
        (DeviceMount(device="/dev/vdb", target="/d"), 90.0),
    ],
)
def test_a_silent_server_is_given_up_after_30_seconds_and_a_journal_may_take_longer(
    mount: Mount, seconds: float
) -> None:
    (step,) = mounts.plan_mounts((mount,))
    assert isinstance(step, mounts.MountStep)
    assert step.limit == seconds


@pytest.mark.parametrize(
    ("mount", "paths"),
    [
        (OverlayMount(lower="/a:/b", upper="/u", work="/w"), ("/a", "/b", "/u", "/w")),
        (BindMount(source="/srv", target="/x"), ("/srv",)),
        (DeviceMount(device="/images/root.img"), ("/images/root.img",)),
        (DeviceMount(device="/dev/vda"), ()),
        (DeviceMount(device="LABEL=x"), ()),
        (VirtiofsMount(tag="t"), ()),
    ],
)
def test_what_lies_on_the_old_root_is_named(mount: Mount, paths: tuple[str, ...]) -> None:
    assert mounts.paths_in_use(mount) == paths


@pytest.mark.parametrize("server", ["10.0.2.2", "::1", "[::1]"])
def test_a_numeric_server_needs_no_resolver(server: str) -> None:
    assert trio.run(mounts.address_of, server, None) == server.strip("[]")


def test_a_named_server_is_asked_of_the_resolver() -> None:
    async def resolve(name: str) -> str:
        return {"nas": "10.0.0.7"}[name]

    assert trio.run(mounts.address_of, "nas", resolve) == "10.0.0.7"


def test_a_named_server_without_a_resolver_is_refused() -> None:
    with pytest.raises(OcelotError, match='cannot resolve the NFS server "nas"'):
        trio.run(mounts.address_of, "nas", None)


def test_overlay_layers_are_named_after_their_source() -> None:
    assert overlay.folder_for("/dev/vda1") == "/run/overlayfs/_dev_vda1"
    assert overlay.folder_for("rootfs") == "/run/overlayfs/rootfs"


def test_a_colon_in_a_lower_folder_is_not_a_separator() -> None:
    assert overlay.data(overlay.join_lower(("/l/h:_e", "/b")), "/u,1", "/w") == (
        "lowerdir=/l/h\\:_e:/b,upperdir=/u\\,1,workdir=/w"
    )
