"""cgroup folders as the kernel lays them out, made of plain files."""

import os
import pathlib

import pytest
import trio

from ocelot.config.privileges import IoMax, Resources
from ocelot.errors import OcelotError
from supervisor.children.cgroups import Leaf, Place, find, io_line, settings

V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def group(folder: pathlib.Path, controllers: str = "cpu io memory pids", enabled: str = "", procs: str = "") -> None:
    """A cgroup with its files; existing folders are what mkdir would have made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(enabled)
    (folder / "cgroup.procs").write_text(procs)
    (folder / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    for name in ("memory.max", "memory.high", "cpu.max", "pids.max", "io.max", "cgroup.kill"):
        (folder / name).write_text("")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    """The root of a hierarchy with the leaf of ``web``."""
    group(tmp_path, enabled="cpu")
    group(tmp_path / "ocelot")
    group(tmp_path / "ocelot" / "web.process")
    return Place(str(tmp_path), root=True)


def written(place: Place, name: str) -> str:
    return pathlib.Path(place.folder, name).read_text()


@pytest.mark.parametrize(
    ("mountinfo", "cgroup", "expected"),
    [
        ("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/\n", "/sys/fs/cgroup"),
        ("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a/b c\n", "/sys/fs/cgroup/a/b c"),
        ("30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a\n", "/sys/fs/cgroup"),
        ("30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a/x\n", "/sys/fs/cgroup/x"),
        ("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/ocelot.self\n", "/sys/fs/cgroup"),
        (
            V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "4:memory:/x\n0::/\n",
            "/sys/fs/cgroup/unified",
        ),
    ],
)
def test_finds_the_cgroup_that_we_were_started_in(tmp_path, mountinfo, cgroup, expected):
    (tmp_path / "mountinfo").write_text(mountinfo)
    (tmp_path / "cgroup").write_text(cgroup)
    assert find(str(tmp_path)).folder == expected


def test_without_cgroup_v2_there_is_a_reason(tmp_path):
    (tmp_path / "mountinfo").write_text(V1)
    (tmp_path / "cgroup").write_text("4:memory:/x\n")
    with pytest.raises(OcelotError, match="there is no cgroup v2 on this machine"):
        find(str(tmp_path))


def test_only_the_root_of_the_hierarchy_lacks_a_type(tmp_path):
    (tmp_path / "mountinfo").write_text(f"30 23 0:26 / {tmp_path}/fs rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    assert find(str(tmp_path)).root
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs" / "cgroup.type").write_text("domain\n")
    assert not find(str(tmp_path)).root


def test_limits_are_written_as_the_kernel_reads_them():
    resources = Resources(memory_max=32 << 20, memory_high=30 << 20, cpu_max=1.5, pids_max=20)
    assert settings(resources) == {
        "memory.max": "33554432",
        "memory.high": "31457280",
        "cpu.max": "150000 100000",
        "pids.max": "20",
    }
    assert settings(Resources()) == {
        "memory.max": "max",
        "memory.high": "max",
        "cpu.max": "max 100000",
        "pids.max": "max",
    }
    assert io_line(IoMax(device="253:0", rbps=10**6, wiops=5)) == "253:0 rbps=1000000 wbps=max riops=max wiops=5"


def test_a_leaf_gets_its_limits_and_the_controllers_for_them_all_the_way_down(place):
    leaf = Leaf("web", Resources(memory_max=1000, pids_max=3, io_max=(IoMax(device="8:0", rbps=1),)), place)
    assert leaf.prepare() == f"{place.folder}/ocelot/web.process"
    assert written(place, "cgroup.subtree_control") == "+memory +pids +io"
    assert written(place, "ocelot/cgroup.subtree_control") == "+memory +pids +io"
    assert written(place, "ocelot/web.process/memory.max") == "1000"
    assert written(place, "ocelot/web.process/cpu.max") == "max 100000"
    assert written(place, "ocelot/web.process/io.max") == "8:0 rbps=1 wbps=max riops=max wiops=max"


def test_what_is_enabled_already_is_left_alone(place):
    group(pathlib.Path(place.folder), enabled="cpu memory")
    Leaf("web", Resources(memory_max=1000), place).prepare()
    assert written(place, "cgroup.subtree_control") == "cpu memory"


def test_no_limit_needs_no_controller(place):
    group(pathlib.Path(place.folder), controllers="")
    group(pathlib.Path(place.folder, "ocelot"), controllers="")
    for name in ("memory.max", "memory.high", "cpu.max", "pids.max", "io.max"):
        os.unlink(f"{place.folder}/ocelot/web.process/{name}")
    Leaf("web", Resources(), place).prepare()
    assert written(place, "cgroup.subtree_control") == ""


@pytest.mark.parametrize(("root", "words"), [(True, "this kernel gives"), (False, "was started in has no")])
def test_a_controller_that_is_not_there_is_named(place, root, words):
    group(pathlib.Path(place.folder), controllers="cpu")
    leaf = Leaf("web", Resources(memory_max=1, cpu_max=1, pids_max=1), Place(place.folder, root))
    with pytest.raises(OcelotError, match=f"{words}.* controller memory, pids") as caught:
        leaf.prepare()
    assert caught.value.hint


def test_in_a_container_ocelot_first_moves_itself(place):
    folder = pathlib.Path(place.folder)
    group(folder, procs=f"{os.getpid()}\n")
    group(folder / "ocelot.self")
    Leaf("web", Resources(memory_max=1000), Place(place.folder, root=False)).prepare()
    assert written(place, "ocelot.self/cgroup.procs") == str(os.getpid())
    assert written(place, "cgroup.subtree_control") == "+memory"


def test_foreign_processes_are_not_moved(place):
    folder = pathlib.Path(place.folder)
    group(folder, procs=f"{os.getpid()}\n1\n")
    group(folder / "ocelot.self")
    with pytest.raises(OcelotError, match="1 foreign processes") as caught:
        Leaf("web", Resources(memory_max=1000), Place(place.folder, root=False)).prepare()
    assert "systemd-run --scope -p Delegate=yes" in caught.value.hint
    assert written(place, "ocelot.self/cgroup.procs") == ""
    assert written(place, "cgroup.subtree_control") == ""


def test_without_a_limit_nobody_is_moved(place):
    group(pathlib.Path(place.folder), procs="1\n")
    Leaf("web", Resources(), Place(place.folder, root=False)).prepare()
    assert not os.path.exists(f"{place.folder}/ocelot.self")


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    leaf = Leaf("web", Resources(), Place(str(tmp_path / "nowhere"), root=True))
    with pytest.raises(OcelotError, match="cannot make the cgroup of web: No such file or directory"):
        leaf.prepare()


def test_only_what_the_kernel_killed_since_the_start_counts(place):
    events = pathlib.Path(place.folder, "ocelot/web.process/memory.events")
    events.write_text("oom 3\noom_kill 2\n")
    leaf = Leaf("web", Resources(memory_max=1000), place)
    leaf.prepare()
    assert leaf.oom_kills() == 0
    events.write_text("oom 4\noom_kill 3\n")
    assert leaf.oom_kills() == 1
    leaf.prepare()
    assert leaf.oom_kills() == 0


def test_processes_below_belong_to_it(place):
    folder = pathlib.Path(place.folder, "ocelot/web.process")
    group(folder, procs="10\n0\n")
    group(folder / "inner", procs="11\n")
    assert sorted(Leaf("web", Resources(), place).processes()) == [10, 11]


def test_a_leaf_that_is_gone_has_nobody(place):
    leaf = Leaf("other", Resources(), place)
    assert (leaf.populated(), leaf.processes(), leaf.oom_kills(), leaf.remove()) == (False, [], 0, True)


def test_waits_until_the_last_one_has_left(place):
    events = pathlib.Path(place.folder, "ocelot/web.process/cgroup.events")

    def say(populated, frozen):
        events.write_text(f"populated {populated}\nfrozen {frozen}\n")

    say(1, 0)
    leaf = Leaf("web", Resources(), place)
    order = []

    async def watch():
        await leaf.emptied()
        order.append("emptied")

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            say(1, 1)
            await trio.testing.wait_all_tasks_blocked()
            order.append("left")
            say(0, 0)

    trio.run(main)
    assert order == ["left", "emptied"]


def test_removes_what_the_process_has_made_below_too(tmp_path):
    (tmp_path / "ocelot" / "web.process" / "a" / "b").mkdir(parents=True)
    leaf = Leaf("web", Resources(), Place(str(tmp_path), root=True))
    assert leaf.remove()
    assert os.listdir(tmp_path) == []


def test_the_last_leaf_but_one_leaves_the_others_alone(tmp_path):
    for name in ("web", "db"):
        (tmp_path / "ocelot" / f"{name}.process").mkdir(parents=True)
    assert Leaf("web", Resources(), Place(str(tmp_path), root=True)).remove()
    assert os.listdir(tmp_path / "ocelot") == ["db.process"]


def test_a_leaf_that_is_in_use_stays(place):
    assert not Leaf("web", Resources(), place).remove()  # its files are in the way, as a living process would be
    assert os.path.isdir(f"{place.folder}/ocelot/web.process")
