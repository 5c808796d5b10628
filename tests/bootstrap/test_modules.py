"""Where modules are looked for, what a failure does, and what the kernel's refusals mean."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import threading
from pathlib import Path

import pytest
import trio

from bootstrap import module_loading, modules
from bootstrap.modules import LoadModules
from bootstrap.phases import with_policy
from bootstrap.steps import Machine
from ocelot.config.structs import DeviceMount, Modules, NfsMount, NinePMount, OnFailure, VirtiofsMount
from ocelot.errors import OcelotError
from ocelot.linux.identity import Identity

RELEASE = os.uname().release
DISK = DeviceMount(device="/dev/vda")
VIRTIO_BLK = "kernel/drivers/block/xvirtio_blk.ko"
SOUND = "kernel/sound/xsnd.ko"


class Kernel:
    """In place of finit_module(2): remembers what it was given, and refuses what it is told to."""

    def __init__(self, **refused: int) -> None:
        self.loaded: list[tuple[str, str]] = []
        self.refused = refused

    def load(self, path: str, parameters: str) -> None:
        name = modules.module_name(path)
        if name in self.refused:
            raise OSError(self.refused[name], os.strerror(self.refused[name]), path)
        self.loaded.append((name, parameters))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.loaded]


class Host:
    """A module directory and a machine that remembers its warnings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.machine = Machine(
            None,  # type: ignore[arg-type]
            Identity.MACHINE,
            warn=self.warnings.append,
            info=self.notes.append,
            root=str(folder / "root"),
            initramfs_modules=str(folder / "carried"),
        )

    def place(self, below: str, *names: str, dep: str | None = None) -> None:
        for name in names:
            file = self.folder / below / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if dep is not None:
            (self.folder / below / "modules.dep").write_text(dep)

    def load(self, wanted: Modules, kernel: Kernel, root: object = None, **more: object) -> None:
        step = LoadModules(wanted, modules.needs_of(root), load=kernel.load, **more)  # type: ignore[arg-type]
        trio.run(step.apply, self.machine)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_folder_of_this_kernel_is_preferred(host: Host) -> None:
    host.place(f"root/lib/modules/{RELEASE}", "k/xa.ko", dep="k/xa.ko:\n")
    host.place("root/lib/modules", "k/xa.ko")
    place = LoadModules(Modules(names=("k/xa.ko",))).find(host.machine)
    assert place.files == {"k/xa.ko": f"{host.folder}/root/lib/modules/{RELEASE}/k/xa.ko"}


def test_paths_may_be_relative_to_the_directory_itself(host: Host) -> None:
    host.place(f"root/lib/modules/{RELEASE}", "other.ko")
    host.place("root/lib/modules", "k/xa.ko")
    place = LoadModules(Modules(names=("k/xa.ko",))).find(host.machine)
    assert place.files == {"k/xa.ko": f"{host.folder}/root/lib/modules/k/xa.ko"}


def test_after_the_switch_what_the_new_root_lacks_is_taken_from_the_initramfs(host: Host) -> None:
    host.place(f"root/lib/modules/{RELEASE}", "other.ko")
    host.place("carried", "k/xa.ko")
    kernel = Kernel()
    host.load(Modules(names=("k/xa.ko",)), kernel, after_switch=True)
    assert kernel.names == ["xa"]


def test_after_the_switch_each_module_is_taken_from_where_it_is(host: Host) -> None:
    """Also what it depends on, whichever of the two dep files says so, and whatever each of them is compressed with."""
    host.place(f"root/lib/modules/{RELEASE}", "k/xa.ko.xz", "k/xb.ko.xz", dep="k/xa.ko.xz: k/xdep.ko.xz\nk/xb.ko.xz:\n")
    host.place(f"carried/{RELEASE}", "k/xb.ko", "k/xc.ko", "k/xdep.ko", dep="k/xc.ko: k/xb.ko\nk/xb.ko:\nk/xdep.ko:\n")
    place = LoadModules(Modules(names=("xa", "k/xb.ko.xz", "xc")), after_switch=True).find(host.machine)
    of_root, carried = f"{host.folder}/root/lib/modules/{RELEASE}", f"{host.folder}/carried/{RELEASE}"
    assert list(place.files.values()) == [
        f"{carried}/k/xdep.ko",
        f"{of_root}/k/xa.ko.xz",
        f"{of_root}/k/xb.ko.xz",
        f"{carried}/k/xb.ko",  # the same, which is loaded by then
        f"{carried}/k/xc.ko",
    ]
    assert (place.resolution.missing, place.resolution.warnings) == ((), ())


def test_a_module_that_is_in_neither_is_told_with_both_places(host: Host) -> None:
    host.place(f"root/lib/modules/{RELEASE}", "k/xa.ko")
    host.place(f"carried/{RELEASE}", "k/xb.ko")
    kernel = Kernel()
    host.load(Modules(names=("k/xa.ko", "k/xb.ko", "k/xc.ko")), kernel, after_switch=True)
    assert kernel.names == ["xa", "xb"]
    assert host.warnings == [
        f'cannot find the module "k/xc.ko" below "{host.folder}/root/lib/modules/{RELEASE}", nor below '
        f'"{host.folder}/carried/{RELEASE}", where the modules of the initramfs are (check the path: it is relative to '
        "directory or to its folder for this kernel release; else put the module into the new root or, when building "
        "it, into the initramfs)"
    ]


def test_the_dep_file_may_be_elsewhere(host: Host) -> None:
    host.place("root/lib/modules", "k/xa.ko", "k/xb.ko")
    (host.folder / "root/deps").write_text("k/xa.ko: k/xb.ko\nk/xb.ko:\n")
    kernel = Kernel()
    host.load(Modules(names=("k/xa.ko",), dep_file_path="/deps"), kernel)
    assert kernel.names == ["xb", "xa"]


@pytest.mark.parametrize("name", [VIRTIO_BLK, "virtio_blk"])
def test_no_folder_at_all_says_which_kernel_this_is(host: Host, name: str) -> None:
    with pytest.raises(OcelotError, match="there is no folder") as caught:
        host.load(Modules(names=(SOUND, name)), Kernel(), root=DISK)
    assert RELEASE in caught.value.hint


@pytest.mark.parametrize(
    ("names", "root", "given", "policy"),
    [
        ((SOUND,), None, None, "Warn"),
        ((SOUND,), DISK, None, "Warn"),
        ((VIRTIO_BLK,), None, None, "Warn"),
        ((SOUND, VIRTIO_BLK), DISK, None, "Abort"),
        (("virtio_blk",), DISK, None, "Abort"),
        ((SOUND,), None, OnFailure.ABORT, "Abort"),
        ((VIRTIO_BLK,), DISK, OnFailure.WARN, "Warn"),
        ((SOUND,), DISK, OnFailure.RETRY, "Retry for 30s, then Abort"),
    ],
)
def test_without_a_policy_only_a_list_that_may_lead_to_the_root_ends_the_boot(
    names: tuple[str, ...], root: DeviceMount | None, given: OnFailure | None, policy: str
) -> None:
    (step,) = modules.plan_modules(Modules(names=names, on_failure=given), root=root)
    shown = with_policy(step)
    assert shown.endswith(f"[{policy}]")
    assert ("does not need may fail" in shown) == (given is None and policy == "Abort")


def test_modules_of_another_kernel_are_told_from_missing_ones(host: Host) -> None:
    host.place("root/lib/modules/1.2.3-other", VIRTIO_BLK, dep=f"{VIRTIO_BLK}:\n")
    with pytest.raises(OcelotError, match=f"are for kernel 1.2.3-other, this is {RELEASE}") as caught:
        host.load(Modules(names=(VIRTIO_BLK,)), Kernel(), root=DISK)
    assert "--kernel-version" in caught.value.hint
    kernel = Kernel()
    host.place("carried", "kernel/b.ko")
    host.load(Modules(names=("kernel/b.ko",)), kernel, after_switch=True)
    assert kernel.names == ["b"], "others do not matter where a module is found"


def test_parameters_come_from_the_file_and_then_from_the_command_line(host: Host) -> None:
    host.place("root/lib/modules", "k/x-a.ko")
    kernel = Kernel()
    wanted = Modules(names=("k/x-a.ko",), parameters={"x-a": "size=1", "absent": "y=1"})
    host.load(wanted, kernel, cmdline={"x_a": "size=2"})
    assert kernel.loaded == [("x_a", "size=1 size=2")]
    assert host.warnings == ['parameters for the module "absent" have no effect: it is not loaded here']


def test_the_plan_shows_parameters_of_both() -> None:
    wanted = Modules(names=("k/x-a.ko", "k/xb.ko"), parameters={"x-a": "size=1"})
    (step,) = modules.plan_modules(wanted, cmdline={"x_a": "debug", "xb": "n=3", "other": "y=1"})
    assert step.describe().endswith("and what they depend on; with x_a size=1 debug, xb n=3")


def test_a_failure_that_the_root_can_do_without_is_a_warning(host: Host) -> None:
    host.place("root/lib/modules", VIRTIO_BLK, SOUND)
    kernel = Kernel(xsnd=errno.ENODEV)
    host.load(Modules(names=(SOUND, VIRTIO_BLK)), kernel, root=DISK)
    assert kernel.names == ["xvirtio_blk"]
    assert len(host.warnings) == 1
    assert "xsnd.ko" in host.warnings[0]


def test_a_failure_of_what_the_root_needs_is_an_error_after_all_were_tried(host: Host) -> None:
    host.place("root/lib/modules", VIRTIO_BLK, SOUND)
    kernel = Kernel(xvirtio_blk=errno.EINVAL)
    with pytest.raises(OcelotError, match=r"xvirtio_blk\.ko"):
        host.load(Modules(names=(VIRTIO_BLK, SOUND)), kernel, root=DISK)
    assert kernel.names == ["xsnd"]


def test_what_an_essential_module_depends_on_is_essential(host: Host) -> None:
    needed = "kernel/lib/xcrc.ko"
    host.place("root/lib/modules", VIRTIO_BLK, needed, dep=f"{VIRTIO_BLK}: {needed}\n{needed}:\n")
    with pytest.raises(OcelotError, match=r"xcrc\.ko"):
        host.load(Modules(names=(VIRTIO_BLK,)), Kernel(xcrc=errno.EINVAL), root=DISK)


def test_a_soft_dependency_may_fail_without_a_word(host: Host) -> None:
    host.place("root/lib/modules", VIRTIO_BLK, "k/xsoft.ko", dep=f"{VIRTIO_BLK}:\nk/xsoft.ko:\n")
    (host.folder / "root/lib/modules/modules.softdep").write_text("softdep xvirtio_blk pre: xsoft\n")
    kernel = Kernel(xsoft=errno.ENODEV)
    host.load(Modules(names=(VIRTIO_BLK,)), kernel, root=DISK)
    assert (kernel.names, host.warnings) == (["xvirtio_blk"], [])


def test_a_policy_in_the_file_covers_every_module(host: Host) -> None:
    host.place("root/lib/modules", SOUND)
    wanted = Modules(names=(SOUND,), on_failure=OnFailure.ABORT)
    with pytest.raises(OcelotError, match=r"xsnd\.ko"):
        host.load(wanted, Kernel(xsnd=errno.ENODEV), root=DISK)


def test_a_missing_file_is_named_with_its_folder(host: Host) -> None:
    host.place("root/lib/modules", SOUND)
    with pytest.raises(OcelotError) as caught:
        host.load(Modules(names=("kernel/fs/nix.ko",)), Kernel(), root=DISK)
    assert caught.value.message == (f'cannot find the module "kernel/fs/nix.ko" below "{host.folder}/root/lib/modules"')


def test_a_module_whose_init_hangs_is_left_behind_and_the_rest_is_loaded(host: Host) -> None:
    host.place("root/lib/modules", "k/xa.ko", "k/xhang.ko", "k/xb.ko")
    kernel = Kernel()
    released = threading.Event()

    def load(path: str, parameters: str) -> None:
        if "xhang" in path:
            assert released.wait(20)
        kernel.load(path, parameters)

    wanted = Modules(names=("k/xa.ko", "k/xhang.ko", "k/xb.ko"), timeout=0.1)
    trio.run(LoadModules(wanted, load=load).apply, host.machine)
    released.set()
    assert kernel.names[:2] == ["xa", "xb"]
    assert kernel.names.count("xb") == 1
    assert len(host.warnings) == 1
    assert "xhang.ko" in host.warnings[0]
    assert "did not return within 0.1s" in host.warnings[0]


def test_a_thread_that_was_left_behind_loads_nothing_more() -> None:
    progress = module_loading.Progress()
    kernel = Kernel()

    def load(path: str, parameters: str) -> None:
        kernel.load(path, parameters)
        progress.abandoned = True

    module_loading.load_all(
        (module_loading.Job("xa.ko", "/xa.ko"), module_loading.Job("xb.ko", "/xb.ko")), progress, load
    )
    assert (kernel.names, progress.done) == (["xa"], 0)


def test_a_trial_loads_nothing(host: Host) -> None:
    host.machine.trial = True
    kernel = Kernel()
    host.load(Modules(names=("k/xa.ko",)), kernel)
    assert kernel.loaded == []
    assert host.notes == ["not done in a trial: load k/xa.ko from /lib/modules, and what they depend on"]


@pytest.mark.parametrize(
    ("root", "path"),
    [
        (VirtiofsMount(tag="x"), "kernel/fs/fuse/virtiofs.ko"),
        (NinePMount(tag="x"), "kernel/net/9p/9pnet_virtio.ko"),
        (NfsMount(server="1.2.3.4", export="/"), "kernel/drivers/net/virtio_net.ko"),
        (DISK, "kernel/fs/ext4/ext4.ko"),
        (VirtiofsMount(tag="x", overlay=True), "kernel/fs/overlayfs/overlay.ko"),
    ],
)
def test_each_kind_of_root_knows_its_modules(root: object, path: str) -> None:
    needs = modules.needs_of(root)  # type: ignore[arg-type]
    assert path.startswith(needs)
    assert "kernel/drivers/virtio/virtio_pci.ko".startswith(needs)
    assert not "kernel/sound/snd.ko".startswith(needs)


def test_without_modules_there_is_nothing_to_do() -> None:
    assert modules.plan_modules(None) == ()
    assert modules.plan_modules(Modules()) == ()


# -- loading one file ------------------------------------------------------------------------------


def test_compressed_modules_are_decompressed_here() -> None:
    import zstandard

    content = b"\x7fELF module" * 1000
    stream = zstandard.ZstdCompressor().compressobj()
    without_size = stream.compress(content) + stream.flush()
    for suffix, packed in (
        (".xz", lzma.compress(content, check=lzma.CHECK_CRC32)),
        (".gz", gzip.compress(content)),
        (".zst", zstandard.compress(content)),
        (".zst", without_size),
    ):
        assert module_loading.decompress(packed, suffix, "x") == content


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_damaged_module_is_an_error_of_ours(suffix: str) -> None:
    with pytest.raises(OcelotError, match=r'cannot decompress the module "k/xa\.ko"'):
        module_loading.decompress(b"not compressed at all", suffix, "k/xa.ko")


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_module_that_is_cut_off_is_an_error_of_ours(suffix: str) -> None:
    zstandard = pytest.importorskip("zstandard")
    pack = {".xz": lzma.compress, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix]
    packed = pack(os.urandom(5000))
    with pytest.raises(OcelotError, match=r'cannot decompress the module "/m\.ko'):
        module_loading.decompress(packed[:3000], suffix, f"/m.ko{suffix}")


def test_the_kernel_is_asked_which_compression_it_undoes(tmp_path: Path) -> None:
    switch = tmp_path / "compression"
    switch.write_text("zstd\n")
    assert module_loading.kernel_decompresses(".zst", str(switch))
    assert not module_loading.kernel_decompresses(".xz", str(switch))
    assert not module_loading.kernel_decompresses(".xz", str(tmp_path / "none"))


def explained(number: int, lines: tuple[str, ...] = (), dep: str | None = None, path: str = "/dev/null") -> str:
    return str(module_loading.explain(path, OSError(number, os.strerror(number)), lines, dep))


def test_an_unknown_symbol_names_the_module_that_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "xext4.ko"
    file.touch()
    dep = "k/xext4.ko: k/xjbd2.ko\nk/xjbd2.ko:\n"
    lines = (
        "xext4: Unknown symbol jbd2_a (err -2)",
        "xext4: Unknown symbol jbd2_b (err -2)",
        "other: Unknown symbol q",
    )
    assert explained(errno.ENOENT, lines, dep, str(file)) == (
        f'cannot load the module "{file}": unknown symbol jbd2_a, jbd2_b, which comes from k/xjbd2.ko '
        "(add it to names, and to the image)"
    )


def test_an_unknown_symbol_without_a_dep_file_proposes_one(tmp_path: Path) -> None:
    file = tmp_path / "xext4.ko"
    file.touch()
    text = explained(errno.ENOENT, ("xext4: Unknown symbol jbd2_a (err -2)",), None, str(file))
    assert "unknown symbol jbd2_a" in text
    assert "give depFilePath a modules.dep" in text


def test_a_module_on_the_blacklist_of_the_kernel_says_so() -> None:
    refused = OSError(errno.EPERM, "Operation not permitted")
    found = module_loading.explain("/m/x-a.ko", refused, ["Module x_a is blacklisted"])
    assert "the kernel command line forbids it" in found.message
    assert "module_blacklist=" in found.hint
    assert "CAP_SYS_MODULE" in module_loading.explain("/m/x-a.ko", refused, ["Module other is blacklisted"]).hint


def test_a_module_of_another_kernel_says_which_this_is() -> None:
    line = "null: version magic '5.10.0 SMP' should be '6.1.0 SMP'"
    text = explained(errno.ENOEXEC, (line,))
    assert f"this kernel is {RELEASE}" in text
    assert line in text
