"""Modules go in with what they need, in the order in which they load."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from ocelot.errors import OcelotError
from ocelot.image.kernel_modules import Tree, entries, parse_alias, read_tree, versions

DEP = """\
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.gz kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko.gz:
kernel/fs/netfs/netfs.ko:
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko
kernel/lib/crc16.ko:
kernel/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
kernel/a.ko: kernel/b.ko
kernel/b.ko: kernel/a.ko
"""
SOFT = "softdep ext4 pre: crypto-crc32c post: later\n"
ALIAS = "alias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\nalias pci:v1* nothing\n"


@pytest.fixture
def root(tmp_path: Path) -> str:
    folder = tmp_path / "lib/modules/6.1"
    for line in DEP.splitlines():
        path = folder / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        pack = {".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(path.name.encode()))
    for name, text in {"dep": DEP, "softdep": SOFT, "alias": ALIAS, "builtin": "kernel/fs/virtio-fs.ko\n"}.items():
        (folder / f"modules.{name}").write_text(text)
    return str(tmp_path)


@pytest.fixture
def tree(root: str) -> Tree:
    return read_tree(root, "6.1")


def test_what_is_needed_comes_first(tree: Tree) -> None:
    order = tree.load_order(["kernel/fs/9p/9p.ko.xz"])
    assert order == ("kernel/fs/netfs/netfs.ko", "kernel/net/9p/9pnet.ko.gz", "kernel/fs/9p/9p.ko.xz")


def test_a_soft_dependency_that_is_an_alias_takes_the_generic_provider(tree: Tree) -> None:
    order = tree.load_order(["kernel/fs/ext4/ext4.ko"])
    assert order == ("kernel/crypto/crc32c_generic.ko", "kernel/lib/crc16.ko", "kernel/fs/ext4/ext4.ko")


def test_a_soft_dependency_may_come_afterwards(root: str) -> None:
    Path(root, "lib/modules/6.1/modules.softdep").write_text("softdep 9p pre: crc16 post: ext4\n")
    tree = read_tree(root, "6.1")
    order = tree.load_order(["kernel/fs/9p/9p.ko.xz"])
    assert [path.rpartition("/")[2].partition(".")[0] for path in order] == ["crc16", "netfs", "9pnet", "9p", "ext4"]
    found = {entry.path: entry.data for entry in entries(tree, order)}
    assert found["lib/modules/6.1/modules.softdep"] == b"softdep 9p pre: crc16 post: ext4\n"


def test_a_cycle_ends(tree: Tree) -> None:
    assert sorted(tree.load_order(["kernel/a.ko"])) == ["kernel/a.ko", "kernel/b.ko"]


@pytest.mark.parametrize("name", ["9p", "kernel/fs/9p/9p.ko", "kernel/fs/9p/9p.ko.zst", "kernel/fs/9p/9p.ko.xz"])
def test_a_module_is_found_by_name_and_with_any_suffix(tree: Tree, name: str) -> None:
    assert tree.find(name) == "kernel/fs/9p/9p.ko.xz"


def test_names_know_no_dashes(tree: Tree) -> None:
    assert tree.find("crc32c_intel") == "kernel/crypto/crc32c-intel.ko"
    assert tree.is_builtin("virtio_fs")
    assert not tree.is_builtin("9p")


def test_modules_go_in_decompressed_unless_they_are_kept(tree: Tree) -> None:
    paths = tree.load_order(["kernel/fs/9p/9p.ko.xz"])
    plain = {entry.path: entry.data for entry in entries(tree, paths)}
    assert plain["lib/modules/6.1/kernel/fs/9p/9p.ko"] == b"9p.ko.xz"
    assert plain["lib/modules/6.1/kernel/net/9p/9pnet.ko"] == b"9pnet.ko.gz"
    assert (
        b"kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko\n" in plain["lib/modules/6.1/modules.dep"]
    )
    kept = {entry.path: entry.data for entry in entries(tree, paths, {"kernel/fs/9p/9p.ko.xz"})}
    assert lzma.decompress(kept["lib/modules/6.1/kernel/fs/9p/9p.ko.xz"]) == b"9p.ko.xz"
    assert kept["lib/modules/6.1/modules.dep"].startswith(b"kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko ")


def test_the_reduced_softdep_names_modules(tree: Tree) -> None:
    found = {entry.path: entry.data for entry in entries(tree, tree.load_order(["kernel/fs/ext4/ext4.ko"]))}
    assert found["lib/modules/6.1/modules.softdep"] == b"softdep ext4 pre: crc32c_generic\n"


def test_a_kernel_that_is_not_there_names_those_that_are(root: str) -> None:
    assert versions(root) == ("6.1",)
    with pytest.raises(OcelotError, match=r'modules of kernel "7"') as caught:
        read_tree(root, "7")
    assert "6.1" in caught.value.hint


def test_without_modules_dep_depmod_is_named(root: str) -> None:
    Path(root, "lib/modules/6.1/modules.dep").unlink()
    with pytest.raises(OcelotError, match=r"modules\.dep") as caught:
        read_tree(root, "6.1")
    assert "depmod -b" in caught.value.hint


def test_aliases_with_patterns_are_left_out() -> None:
    assert parse_alias(ALIAS) == {"crypto-crc32c": ("crc32c_intel", "crc32c_generic")}


def test_a_damaged_module_is_named(tree: Tree) -> None:
    path = "kernel/fs/9p/9p.ko.xz"
    Path(tree.folder, path).write_bytes(lzma.compress(b"module")[:-1])
    with pytest.raises(OcelotError, match=rf'cannot unpack the kernel module ".*/{path}": .* ends early'):
        list(entries(tree, [path]))
