"""The kernel's file systems for real: on an empty root, in a container, in an ordinary process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootstrap import kernel_filesystems
from bootstrap.steps import Machine
from integration.mounting import at, do, inside, machine
from ocelot.config.structs import VirtualMount
from ocelot.errors import OcelotError
from ocelot.linux import mountinfo
from ocelot.linux.identity import Identity

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


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
