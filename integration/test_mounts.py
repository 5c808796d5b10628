"""Mounts, devices and the kernel's file systems, for real: each case in a mount namespace of its own.

A case is an async function that runs in a child interpreter below ``unshare``, with a scratch tmpfs; what it asserts
fails there and is shown here.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import textwrap
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from bootstrap import devices, kernel_filesystems, mounts, superblock
from bootstrap.steps import Machine
from ocelot.config.structs import Atime, BindMount, DeviceMount, Mount, OverlayMount, VirtualMount
from ocelot.errors import OcelotError
from ocelot.linux import mountinfo, syscalls
from ocelot.linux.identity import Identity
from ocelot.linux.mountinfo import MountInfo
from ocelot.runner import Runner

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]

CHECKOUT = Path(__file__).parent.parent
Case = Callable[[Path, Machine], Awaitable[None]]


def inside(case: Case, *arguments: str) -> None:
    """Run ``case`` in a mount namespace of its own; fail with what it printed."""
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", sys.executable, "-m", __name__, case.__name__, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{case.__name__} failed:\n{textwrap.indent(done.stdout + done.stderr, '    ')}"


class NoPrograms:
    """These steps start none."""


def machine(identity: Identity = Identity.MACHINE, root: str = "") -> Machine:
    runner: Runner = NoPrograms()  # type: ignore[assignment]
    return Machine(runner, identity, warn=WARNINGS.append, info=print, root=root)


WARNINGS: list[str] = []


async def do(to: Machine, *wanted: Mount) -> None:
    for step in mounts.plan_mounts(wanted):
        await step.apply(to)


def at(path: Path | str) -> MountInfo:
    found = mountinfo.mount_at(str(path))
    assert found is not None, f"nothing is mounted on {path}"
    return found


async def refusal(to: Machine, wanted: Mount) -> OcelotError:
    with pytest.raises(OcelotError) as caught:
        await do(to, wanted)
    return caught.value


# -- flags -----------------------------------------------------------------------------------------


async def every_flag(here: Path, to: Machine) -> None:
    one_by_one = {
        "read_only": "ro",
        "no_exec": "noexec",
        "no_suid": "nosuid",
        "no_dev": "nodev",
        "sync": "sync",
        "dir_sync": "dirsync",
        "mandatory_locks": "mand",
    }
    for key, word in one_by_one.items():
        await do(to, VirtualMount(fstype="tmpfs", target=f"{here}/{key}", **{key: True}))
        found = at(here / key)
        shown = {*found.options, *found.super_options} & set(one_by_one.values())
        assert shown == {word}, (key, found)
    modes = {
        Atime.DEFAULT: {"relatime"},
        Atime.NO_ATIME: {"noatime"},
        Atime.REL_ATIME: {"relatime"},
        Atime.STRICT_ATIME: set(),
        Atime.LAZY_TIME: {"relatime", "lazytime"},
    }
    for mode, words in modes.items():
        await do(to, VirtualMount(fstype="tmpfs", target=f"{here}/{mode}", atime=mode))
        found = at(here / mode)
        shown = {*found.options, *found.super_options} & {"noatime", "relatime", "lazytime", "strictatime"}
        assert shown == words, (mode, found)
    assert any("mandatoryLocks" in line for line in WARNINGS)


def test_every_flag_and_atime_mode_is_seen_in_mountinfo() -> None:
    inside(every_flag)


async def options_text(here: Path, to: Machine) -> None:
    await do(
        to,
        VirtualMount(fstype="tmpfs", target=f"{here}/t", read_only=True, options="rw,noatime,size=2m,mode=711,rshared"),
    )
    found = at(here / "t")
    assert {"rw", "noatime"} <= set(found.options)
    assert {"size=2048k", "mode=711"} <= set(found.super_options)
    assert found.propagation[0].startswith("shared:")
    error = await refusal(to, VirtualMount(fstype="tmpfs", target=f"{here}/u", options="sice=2m"))
    assert "Invalid argument" in error.message
    assert "sice" in error.message, error.message  # from the kernel's log


def test_option_words_become_flags_data_and_propagation() -> None:
    inside(options_text)


# -- binds -----------------------------------------------------------------------------------------


async def binds(here: Path, to: Machine) -> None:
    source = here / "source"
    source.mkdir()
    (source / "file").write_text("content")
    await do(
        to,
        BindMount(source=str(source), target=f"{here}/plain"),
        BindMount(source=str(source), target=f"{here}/limited", read_only=True, no_exec=True, atime=Atime.NO_ATIME),
        BindMount(source=str(source / "file"), target=f"{here}/made/for/it"),
    )
    assert "rw" in at(here / "plain").options
    assert {"ro", "noexec", "noatime"} <= set(at(here / "limited").options)
    assert at(here / "limited").root == "/source"
    assert "rw" in at(here).options, "the source's own mount must keep its flags"
    assert (here / "made/for/it").read_text() == "content"
    with pytest.raises(OSError, match="Read-only file system"):
        (here / "limited/new").write_text("x")
    await do(to, VirtualMount(fstype="tmpfs", target=f"{here}/strict", no_suid=True, no_dev=True))
    await do(to, BindMount(source=f"{here}/strict", target=f"{here}/kept", read_only=True))
    assert {"ro", "nosuid", "nodev"} <= set(at(here / "kept").options)
    error = await refusal(to, BindMount(source=f"{here}/nix", target=f"{here}/x"))
    assert f'there is no "{here}/nix" to bind' in error.message


def test_binds_take_flags_of_their_own_and_keep_those_of_their_source() -> None:
    inside(binds)


# -- overlays --------------------------------------------------------------------------------------


async def overlay_type(here: Path, to: Machine) -> None:
    for name in ("top", "bottom"):
        (here / name).mkdir()
        (here / name / "who").write_text(name)
    (here / "bottom/deep").write_text("there")
    await do(
        to,
        OverlayMount(
            lower=f"{here}/top:{here}/bottom",
            upper=f"{here}/layers/upper",
            work=f"{here}/layers/work",
            target=f"{here}/merged",
            no_suid=True,
        ),
    )
    merged = here / "merged"
    assert ((merged / "who").read_text(), (merged / "deep").read_text()) == ("top", "there")
    (merged / "new").write_text("x")
    assert (here / "layers/upper/new").read_text() == "x"
    assert "nosuid" in at(merged).options
    error = await refusal(to, OverlayMount(lower=f"{here}/nix", upper="/u", work="/w", target=f"{here}/m2"))
    assert f'there is no folder "{here}/nix" for its lower layer' in error.message


def test_an_overlay_of_given_folders_merges_them() -> None:
    inside(overlay_type)


async def overlay_true(here: Path, to: Machine) -> None:
    source = here / "with:colon,comma"
    source.mkdir(mode=0o751)
    (source / "file").write_text("below")
    target = here / "merged"
    await do(to, BindMount(source=str(source), target=str(target), read_only=True, no_exec=True, overlay=True))
    layers = "/run/overlayfs/" + str(source).replace("/", "_")
    assert {"ro", "noexec"} <= set(at(f"{layers}/lower").options)
    assert at(layers).fstype == "tmpfs"
    merged = at(target)
    assert (merged.fstype, "rw" in merged.options, "noexec" in merged.options) == ("overlay", True, True)
    (target / "file").write_text("above")
    assert ((source / "file").read_text(), Path(f"{layers}/upper/file").read_text()) == ("below", "above")
    assert target.stat().st_mode & 0o7777 == 0o751
    again = here / "again"
    await do(to, BindMount(source=str(source), target=str(again), overlay=True))
    assert (again / "file").read_text() == "below", "two overlays over one source must not share a layer"
    assert [at(layers).fstype, at(f"{layers}-2").fstype] == ["tmpfs", "tmpfs"]


def test_overlay_true_writes_to_memory_and_keeps_the_flags_on_the_lower_layer() -> None:
    inside(overlay_true)


async def overlay_failure(here: Path, to: Machine) -> None:
    before = mountinfo.mounts()
    await refusal(to, VirtualMount(fstype="tmpfs", options="sice=1", target=f"{here}/x", overlay=True))
    assert mountinfo.mounts() == before
    assert os.listdir("/run/overlayfs") == []


def test_a_failed_overlay_leaves_no_layers_behind() -> None:
    inside(overlay_failure)


async def cover(here: Path, to: Machine) -> None:
    from bootstrap import overlay

    await do(to, VirtualMount(fstype="tmpfs", target=f"{here}/root"))
    (here / "root/below").write_text("x")
    await do(to, VirtualMount(fstype="tmpfs", target=f"{here}/unrelated"))
    syscalls.mount(None, f"{here}/root", None, syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
    layers = await overlay.cover(f"{here}/root", "root")
    assert at(here / "root").fstype == "overlay"
    assert at(layers.lower).read_only
    (here / "root/proc").mkdir()
    assert (here / "root/below").read_text() == "x"
    assert len([mount for mount in mountinfo.mounts() if mount.target == f"{here}/root"]) == 1


def test_a_read_only_root_is_covered_and_nothing_stays_under_it() -> None:
    inside(cover)


# -- devices ---------------------------------------------------------------------------------------


LABEL = f"ocelot{os.getpid() % 10000}"
"""One that no other device of this machine has."""


def make(here: Path, kind: str, label: str = LABEL) -> Path:
    """An image of ``kind`` that holds a folder ``marker``."""
    tree = here / f"tree-{kind}"
    (tree / "marker").mkdir(parents=True)
    image = here / f"{kind}.img"
    size = {"xfs": 320, "btrfs": 128}.get(kind, 16)
    with image.open("wb") as file:
        file.truncate(size << 20)
    commands = {
        "ext2": ["mkfs.ext2", "-q", "-L", label, "-d", tree, image],
        "ext3": ["mkfs.ext3", "-q", "-L", label, "-d", tree, image],
        "ext4": ["mkfs.ext4", "-q", "-L", label, "-d", tree, image],
        "xfs": ["mkfs.xfs", "-q", "-L", label, image],
        "btrfs": ["mkfs.btrfs", "-q", "-L", label, "--rootdir", tree, image],
        "squashfs": ["mksquashfs", tree, image, "-noappend", "-quiet", "-no-progress"],
        "erofs": ["mkfs.erofs", "--quiet", image, tree],
        "vfat": ["mkfs.vfat", "-n", label.upper(), image],
        "swap": ["mkswap", "-q", "-L", label, image],
    }
    command = commands[kind]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, check=True, capture_output=True)
    return image


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "xfs", "btrfs", "squashfs", "erofs", "vfat", "swap"])
def test_what_mkfs_made_is_identified_as_blkid_does(kind: str, tmp_path: Path) -> None:
    image = make(tmp_path, kind)
    told = subprocess.run(["blkid", "-p", "-o", "export", image], capture_output=True, text=True, check=True).stdout
    facts = dict(line.partition("=")[::2] for line in told.splitlines())
    found = superblock.identify(superblock.read_head(str(image)))
    assert found is not None
    expected = (facts["TYPE"], facts.get("LABEL", ""), facts.get("UUID", "") if kind != "squashfs" else "")
    assert (found.fstype, found.label, found.uuid) == expected
    assert found.mountable == (kind != "swap")


@contextmanager
def loop(image: Path, *options: str) -> Iterator[str]:
    """A loop device over ``image``."""
    command = ["losetup", "--show", "-f", *options, image]
    device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.mark.parametrize("kind", ["ext4", "ext2", "squashfs", "erofs", "btrfs"])
def test_a_device_is_mounted_by_its_superblock(kind: str, tmp_path: Path) -> None:
    with open("/proc/filesystems", encoding="ascii") as file:
        if kind not in file.read().split():
            pytest.skip(f"this kernel has no {kind}")
    with loop(make(tmp_path, kind)) as device:
        inside(mounted_by_superblock, device, kind)


async def mounted_by_superblock(here: Path, to: Machine) -> None:
    device, kind = sys.argv[2:]
    await do(to, DeviceMount(device=device, target=f"{here}/disk", no_suid=True))
    found = at(here / "disk")
    assert (found.fstype, found.source) == (kind, device)
    assert "nosuid" in found.options
    assert (here / "disk/marker").is_dir()


def test_a_device_is_mounted_by_its_label(tmp_path: Path) -> None:
    with loop(make(tmp_path, "ext4")) as device:
        inside(mounted_by_label, device, LABEL)


async def mounted_by_label(here: Path, to: Machine) -> None:
    await do(to, DeviceMount(device=f"LABEL={sys.argv[3]}", target=f"{here}/disk", timeout=20.0))
    assert at(here / "disk").source == sys.argv[2]
    assert (here / "disk/marker").is_dir()


def test_an_image_file_is_mounted_through_a_loop_device_that_goes_with_it(tmp_path: Path) -> None:
    inside(mounted_image, str(make(tmp_path, "ext4")))


async def mounted_image(here: Path, to: Machine) -> None:
    await do(to, DeviceMount(device=sys.argv[2], target=f"{here}/disk"))
    device = at(here / "disk").source
    backing = Path(f"/sys/class/block/{os.path.basename(device)}/loop/backing_file")
    assert backing.read_text().strip() == sys.argv[2]
    assert (here / "disk/marker").is_dir()
    syscalls.umount2(f"{here}/disk")
    with trio.fail_after(10):
        while backing.exists():
            await trio.sleep(0.01)
    await do(to, DeviceMount(device=sys.argv[2], target=f"{here}/disk", read_only=True))
    assert at(here / "disk").read_only


def test_a_write_protected_device_is_mounted_read_only_with_a_warning(tmp_path: Path) -> None:
    with loop(make(tmp_path, "ext4"), "--read-only") as device:
        inside(write_protected, device)


async def write_protected(here: Path, to: Machine) -> None:
    await do(to, DeviceMount(device=sys.argv[2], target=f"{here}/disk"))
    assert at(here / "disk").read_only
    assert any("can only be read" in line for line in WARNINGS)


IDENTITY = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")


def gpt(label: str, first: int, last: int) -> bytes:
    """The first 34 sectors of a disk with one partition (UEFI 2.10, chapter 5)."""
    linux = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
    entry = linux.bytes_le + IDENTITY.bytes_le + struct.pack("<QQQ", first, last, 0) + label.encode("utf-16-le")
    entries = entry.ljust(128, b"\0").ljust(128 * 128, b"\0")
    ends = (1, last + 33, 34, last)

    def header(checksum: int) -> bytes:
        start = struct.pack("<8sIIII4Q", b"EFI PART", 0x10000, 92, checksum, 0, *ends)
        return start + bytes(16) + struct.pack("<QIII", 2, 128, 128, zlib.crc32(entries))

    whole = header(zlib.crc32(header(0)))
    protective = bytes(446) + struct.pack("<B3sB3sII", 0, b"", 0xEE, b"", 1, last + 33) + bytes(48) + b"\x55\xaa"
    return protective + whole.ljust(512, b"\0") + entries


def test_a_partition_is_mounted_by_its_identity(tmp_path: Path) -> None:
    content = make(tmp_path, "ext4").read_bytes()
    first, last = 2048, 2048 + len(content) // 512 - 1
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.write(gpt("system", first, last))
        file.seek(first * 512)
        file.write(content)
        file.truncate((last + 34) * 512)
    with loop(disk, "--partscan") as device:
        if not os.path.exists(f"/sys/class/block/{os.path.basename(device)}p1"):
            pytest.skip("this kernel finds no partitions on loop devices")
        inside(mounted_by_partition, device)


async def mounted_by_partition(here: Path, to: Machine) -> None:
    for number, spec in enumerate((f"PARTUUID={IDENTITY}", "PARTLABEL=system")):
        await do(to, DeviceMount(device=spec, target=f"{here}/{number}", timeout=5.0))
        assert at(here / str(number)).source == f"{sys.argv[2]}p1"


def test_a_device_that_appears_late_is_awaited(tmp_path: Path) -> None:
    inside(late_device, str(make(tmp_path, "ext4")), LABEL)


async def late_device(here: Path, to: Machine) -> None:
    waiting = trio.Event()
    device = ""

    async def attach() -> None:
        nonlocal device
        await waiting.wait()
        await trio.testing.wait_all_tasks_blocked(0.1)
        command = ["losetup", "--show", "-f", sys.argv[2]]
        device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attach)
            started = trio.current_time()
            waiting.set()
            await do(to, DeviceMount(device=f"LABEL={sys.argv[3]}", target=f"{here}/disk", timeout=20.0))
            print(f"mounted after {trio.current_time() - started:.2f}s")
        assert at(here / "disk").source == device
        syscalls.umount2(f"{here}/disk")
    finally:
        if device:
            subprocess.run(["losetup", "-d", device], check=True)


def test_the_kernels_announcement_is_enough_to_look_again(tmp_path: Path) -> None:
    junk_image = tmp_path / "junk.img"
    junk_image.write_bytes(bytes(16 << 20))
    with loop(junk_image) as device:
        inside(announced, device, str(make(tmp_path, "ext4")), LABEL)


async def announced(here: Path, _: Machine) -> None:
    device, image, label = sys.argv[2:]

    async def fill() -> None:
        await trio.testing.wait_all_tasks_blocked(0.1)
        Path(device).write_bytes(Path(image).read_bytes())
        Path(f"/sys/class/block/{os.path.basename(device)}/uevent").write_text("change")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        assert await devices.wait_for(f"LABEL={label}", 20, fallback=1000) == device


async def missing_device(here: Path, to: Machine) -> None:
    started = trio.current_time()
    error = await refusal(to, DeviceMount(device="/dev/vdx9", target=f"{here}/x", timeout=0.5))
    assert 'cannot find the device "/dev/vdx9": it did not appear within 0.5s' in error.message
    assert trio.current_time() - started < 5


def test_a_device_that_never_comes_is_an_error_at_its_timeout() -> None:
    inside(missing_device)


def test_a_device_without_a_file_system_says_what_it_holds(tmp_path: Path) -> None:
    image = tmp_path / "junk.img"
    image.write_bytes(b"junk" * 65536)
    with loop(image) as device:
        inside(junk, device)


async def junk(here: Path, to: Machine) -> None:
    error = await refusal(to, DeviceMount(device=sys.argv[2], target=f"{here}/x"))
    assert "no known file system (first bytes 6a 75 6e 6b" in error.message
    error = await refusal(to, DeviceMount(device=sys.argv[2], fstype="ext4", target=f"{here}/x"))
    assert f"{sys.argv[2]} holds no known file system" in error.message
    error = await refusal(to, DeviceMount(device=sys.argv[2], fstype="reiserfs", target=f"{here}/x"))
    assert 'does not know the file system type "reiserfs"' in error.message


# -- the kernel's file systems ---------------------------------------------------------------------


async def bare_root(here: Path, _: Machine) -> None:
    """An empty root gets everything; a second time changes nothing."""
    (here / "run/ocelot/runtime/bin").mkdir(parents=True)
    (here / "run/ocelot/runtime/bin/ocelot").write_text("#!")
    to = machine(root=str(here))
    for _round in range(2):
        for step in kernel_filesystems.steps():
            if step.name not in ("modprobe", "tools"):
                await step.apply(to)
    kinds = {
        "proc": "proc",
        "sys": "sysfs",
        "dev": "devtmpfs",
        "dev/pts": "devpts",
        "dev/shm": "tmpfs",
        "run": "tmpfs",
        "tmp": "tmpfs",
        "sys/fs/cgroup": "cgroup2",
    }
    table = mountinfo.mounts()
    for path, kind in kinds.items():
        found = [mount for mount in table if mount.target == f"{here}/{path}"]
        assert [mount.fstype for mount in found] == [kind], path
        assert "nosuid" in found[0].options
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(at(here / "dev/pts").super_options)
    assert "mode=755" in at(here / "run").super_options
    assert (here / "run/ocelot/runtime/bin/ocelot").read_text() == "#!"
    assert at(here / "run/ocelot/runtime").root.endswith("/run/ocelot/runtime")
    assert not (here / ".ocelot-run").exists()
    assert (here / "run/lock").stat().st_mode & 0o7777 == 0o1777
    assert (here / "tmp").stat().st_mode & 0o7777 == 0o1777
    for name, points_to in kernel_filesystems.LINKS:
        assert os.readlink(f"{here}{name}") == points_to


def test_an_empty_root_gets_all_kernel_file_systems_once_and_keeps_its_runtime() -> None:
    inside(bare_root)


async def tools(here: Path, _: Machine) -> None:
    (here / "prefix/bin").mkdir(parents=True)
    (here / "prefix/bin/ocelot").touch()
    to = machine(root=str(here))
    await kernel_filesystems.Tools(prefix=f"{here}/prefix").apply(to)
    assert os.listdir(here / "run/ocelot/bin") == ["ocelot"]
    assert os.readlink(here / "run/ocelot/bin/ocelot") == f"{here}/prefix/bin/ocelot"


def test_the_tools_are_linked_from_where_this_interpreter_lives() -> None:
    inside(tools)


async def nodes(here: Path, _: Machine) -> None:
    await do(machine(), VirtualMount(fstype="tmpfs", target=f"{here}/dev"))
    kernel_filesystems.make_nodes(f"{here}/dev")
    (here / "dev/null").write_bytes(b"x")
    assert (here / "dev/zero").open("rb").read(3) == bytes(3)
    assert (here / "dev/console").stat().st_mode & 0o777 == 0o600


def test_without_devtmpfs_the_basic_nodes_are_made() -> None:
    inside(nodes)


async def ordinary_process(here: Path, _: Machine) -> None:
    before = mountinfo.mounts()
    to = machine(Identity.PROCESS, root=str(here))
    for step in kernel_filesystems.steps():
        if step.name != "modprobe":
            with pytest.raises(OcelotError, match="not PID 1"):
                await step.apply(to)
    assert mountinfo.mounts() == before
    assert os.listdir(here) == []


def test_an_ordinary_process_mounts_nothing() -> None:
    inside(ordinary_process)


async def container(here: Path, _: Machine) -> None:
    (here / "tmp").mkdir()
    (here / "tmp/volume").write_text("kept")
    (here / "run").mkdir()
    await kernel_filesystems.Api("tmpfs", "/tmp", 0).apply(machine(Identity.CONTAINER, root=str(here)))
    assert (here / "tmp/volume").read_text() == "kept"
    await kernel_filesystems.Run().apply(machine(Identity.CONTAINER, root=str(here)))
    assert at(here / "run").fstype == "tmpfs"


def test_a_container_keeps_what_its_folders_hold() -> None:
    inside(container)


def _main() -> None:
    scratch = Path(os.environ.get("TMPDIR", "/tmp")) / f"ocelot-mounts-{os.getpid()}"
    scratch.mkdir()
    try:
        syscalls.mount("scratch", str(scratch), "tmpfs")
        # Layers of overlays go below /run, which is the machine's.
        syscalls.mount("run", "/run", "tmpfs")
        trio.run(globals()[sys.argv[1]], scratch, machine())
    finally:
        syscalls.umount2(str(scratch), syscalls.MNT_DETACH)
        scratch.rmdir()


if __name__ == "__main__":
    _main()
