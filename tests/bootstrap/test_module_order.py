"""The load order of modules, from the files of depmod(8)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bootstrap.module_order import Resolution, module_name, parse_softdep, resolve

DEP = """\
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/lib/crc16.ko:
kernel/crypto/crc32c_generic.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/sched/act_mpls.ko:
kernel/net/mpls/mpls_gso.ko:
"""
SOFTDEP = """\
# Soft dependencies extracted from modules themselves.
softdep ext4 pre: crypto-crc32c
softdep act_mpls post: mpls_gso
softdep cifs gcm
"""
ALIAS = """\
alias crypto-crc32c crc32c_intel
alias crypto-crc32c-generic crc32c_generic
alias crypto-crc32c crc32c_generic
alias xcrypto-crc32c jbd2
"""
BUILTIN = "kernel/fs/fuse/fuse.ko\nkernel/crypto/sha256_generic.ko\n"
FILES = {line.partition(":")[0] for line in DEP.splitlines()}


def solve(*names: str, dep: str | None = DEP, files: set[str] | None = None, softdep: str = SOFTDEP) -> Resolution:
    present = FILES if files is None else files
    return resolve(
        names,
        dep_text=dep,
        softdep_text=softdep,
        builtin_text=BUILTIN,
        alias_text=ALIAS,
        exists=lambda path: path in present,
    )


def order(resolution: Resolution) -> list[str]:
    return [module_name(path) for path in resolution.order]


def test_what_a_module_needs_comes_first() -> None:
    found = order(solve("kernel/drivers/block/virtio_blk.ko"))
    assert found == ["virtio_ring", "virtio", "virtio_blk"]


def test_names_out_of_order_are_sorted() -> None:
    found = order(solve("kernel/drivers/block/virtio_blk.ko", "kernel/drivers/virtio/virtio_ring.ko"))
    assert found == ["virtio_ring", "virtio", "virtio_blk"]


def test_soft_dependencies_are_found_by_alias_and_may_fail() -> None:
    found = solve("kernel/fs/ext4/ext4.ko")
    assert order(found) == ["crc32c_intel", "crc32c_generic", "jbd2", "mbcache", "crc16", "ext4"]
    assert {module_name(path) for path in found.soft} == {"crc32c_intel", "crc32c_generic"}


def test_a_soft_dependency_that_is_also_listed_is_not_soft() -> None:
    found = solve("kernel/fs/ext4/ext4.ko", "kernel/crypto/crc32c_generic.ko")
    assert {module_name(path) for path in found.soft} == {"crc32c_intel"}


def test_a_soft_dependency_may_come_after() -> None:
    assert order(solve("kernel/net/sched/act_mpls.ko")) == ["act_mpls", "mpls_gso"]


def test_soft_dependencies_that_are_not_there_are_left_out() -> None:
    found = solve("kernel/fs/ext4/ext4.ko", files=FILES - {"kernel/crypto/crc32c_generic.ko"})
    assert "crc32c_generic" not in order(found)
    assert found.warnings == ()


def test_another_compression_of_the_same_module_is_taken_with_a_warning() -> None:
    dep = "kernel/a.ko.zst: kernel/b.ko.zst\nkernel/b.ko.zst:\n"
    found = solve("kernel/a.ko.xz", dep=dep, files={"kernel/a.ko.zst", "kernel/b.ko.zst"})
    assert found.order == ("kernel/b.ko.zst", "kernel/a.ko.zst")
    assert found.warnings == ('1 module is not there as the file says, taking "kernel/a.ko.zst" for "kernel/a.ko.xz"',)


def test_many_of_another_compression_are_one_warning_and_those_without_any_are_none() -> None:
    dep = "kernel/a.ko.gz:\nkernel/b.ko.gz:\nkernel/c.ko:\n"
    files = {"kernel/a.ko.gz", "kernel/b.ko.gz", "kernel/c.ko"}
    found = solve("kernel/a.ko.xz", "kernel/b.ko.xz", "kernel/c.ko.xz", dep=dep, files=files)
    assert found.order == ("kernel/a.ko.gz", "kernel/b.ko.gz", "kernel/c.ko")
    assert found.warnings == (
        "2 modules are not there as the file says, taking "
        '"kernel/a.ko.gz" for "kernel/a.ko.xz", "kernel/b.ko.gz" for "kernel/b.ko.xz"',
    )


def test_the_dep_file_may_have_been_written_for_another_compression() -> None:
    dep = "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n"
    found = solve("kernel/a.ko.gz", dep=dep, files={"kernel/a.ko.gz", "kernel/b.ko.gz"})
    assert found.order == ("kernel/b.ko.gz", "kernel/a.ko.gz")


def test_a_bare_name_is_found_through_the_dep_file() -> None:
    assert solve("crc32c-intel").order == ("kernel/arch/x86/crypto/crc32c-intel.ko",)


def test_built_in_modules_are_neither_loaded_nor_missing() -> None:
    found = solve("kernel/fs/fuse/fuse.ko.xz")
    assert (found.order, found.builtin, found.missing) == ((), ("kernel/fs/fuse/fuse.ko.xz",), ())


def test_what_is_nowhere_is_missing() -> None:
    assert solve("kernel/fs/nix.ko", "nix").missing == ("kernel/fs/nix.ko", "nix")


def test_a_dependency_that_is_nowhere_is_a_warning_that_names_both() -> None:
    found = solve("kernel/fs/ext4/ext4.ko", files=FILES - {"kernel/fs/mbcache.ko"})
    assert found.warnings == ('module "ext4" depends on "kernel/fs/mbcache.ko", which is not there',)


def test_a_cycle_is_shown_as_a_path_and_everything_is_still_in_the_order() -> None:
    dep = "kernel/a.ko: kernel/b.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko: kernel/a.ko\n"
    found = solve("kernel/a.ko", dep=dep, files={"kernel/a.ko", "kernel/b.ko", "kernel/c.ko"})
    assert found.warnings == ("modules depend on each other: a -> b -> c -> a; loading them in the order found",)
    assert order(found) == ["c", "b", "a"]


def test_without_a_dep_file_names_stay_as_written_and_known_mistakes_are_told() -> None:
    names = ("kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko")
    found = solve(*names, dep=None)
    assert found.order == names
    assert found.warnings == (
        'module "virtio_ring" is listed after "virtio", which needs it; a modules.dep would sort them',
    )


def test_it_is_known_for_whom_a_module_is_loaded() -> None:
    found = solve("kernel/drivers/block/virtio_blk.ko", "kernel/fs/ext4/ext4.ko")
    assert found.required_by["kernel/drivers/virtio/virtio_ring.ko"] == ("kernel/drivers/block/virtio_blk.ko",)


def test_a_module_outside_the_dep_file_is_loaded_with_a_warning() -> None:
    found = solve("extra/mine.ko", files={*FILES, "extra/mine.ko"})
    assert found.order == ("extra/mine.ko",)
    assert len(found.warnings) == 1
    assert '"extra/mine.ko" is not in the dep file' in found.warnings[0]


def test_softdep_lines_of_one_module_add_up() -> None:
    table = parse_softdep("softdep a pre: b c post: d\nsoftdep a pre: e\n")
    assert table == {"a": (("b", "c", "e"), ("d",))}


def test_module_names_are_the_kernels() -> None:
    assert module_name("kernel/arch/x86/crypto/crc32c-intel.ko.zst") == "crc32c_intel"


@st.composite
def acyclic(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A modules.dep in which a module needs only ones with smaller numbers, and some names from it."""
    count = draw(st.integers(1, 12))
    needs = [draw(st.sets(st.integers(0, max(0, n - 1)), max_size=4)) if n else set() for n in range(count)]
    lines = draw(st.permutations([f"k/m{n}.ko: {' '.join(f'k/m{d}.ko' for d in needs[n])}" for n in range(count)]))
    names = draw(st.lists(st.sampled_from([f"k/m{n}.ko" for n in range(count)]), min_size=1, unique=True))
    return "\n".join(lines), names


@given(acyclic())
def test_in_any_graph_without_cycles_needs_come_before_their_users(case: tuple[str, list[str]]) -> None:
    dep, names = case
    found = resolve(names, dep_text=dep, exists=lambda _: True)
    assert set(names) <= set(found.order)
    assert len(set(found.order)) == len(found.order)
    place = {path: index for index, path in enumerate(found.order)}
    for line in dep.splitlines():
        path, _, rest = line.partition(":")
        if path in place:
            assert all(place[needed] < place[path] for needed in rest.split())
    assert found.warnings == ()
