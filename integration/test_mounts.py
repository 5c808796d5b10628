"""Mounts for real: flags and options, binds, overlays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootstrap.steps import Machine
from integration.mounting import WARNINGS, at, do, inside, refusal
from ocelot.config.structs import Atime, BindMount, OverlayMount, VirtualMount
from ocelot.linux import mountinfo, syscalls

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


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
    strict = VirtualMount(fstype="tmpfs", target=f"{here}/strict", no_suid=True, no_dev=True, options="nosymfollow")
    await do(to, strict)
    await do(to, BindMount(source=f"{here}/strict", target=f"{here}/kept", read_only=True))
    assert {"ro", "nosuid", "nodev", "nosymfollow"} <= set(at(here / "kept").options)
    error = await refusal(to, BindMount(source=f"{here}/nix", target=f"{here}/x"))
    assert f'there is no "{here}/nix" to bind' in error.message
    (here / "astray").symlink_to("nowhere")
    error = await refusal(to, BindMount(source=f"{here}/strict", target=f"{here}/astray"))
    assert error.message == f'cannot mount on "{here}/astray": it is a link to "nowhere", which leads nowhere'


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
