"""The pure parts of a shutdown: who is left, in which order, and how the machine ends."""

from __future__ import annotations

import os
from pathlib import Path

from bootstrap import file_systems, shutdown
from ocelot.linux import mountinfo

TABLE = """\
20 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
21 20 0:5 / /proc rw - proc proc rw
22 20 0:6 / /sys rw - sysfs sysfs rw
23 20 0:7 / /dev rw - devtmpfs devtmpfs rw
24 20 0:8 / /run rw - tmpfs tmpfs rw
25 24 0:2 /run/ocelot/runtime /run/ocelot/runtime rw - rootfs rootfs rw
26 20 254:2 / /data rw - xfs /dev/vda2 rw
27 26 0:9 / /data/cache rw - tmpfs tmpfs rw
28 20 0:10 / /nfs rw - nfs4 server:/x rw
29 24 254:3 / /run/ocelot/lower ro - squashfs /dev/vdb ro
30 26 254:4 / /data/deep/er rw - ext4 /dev/vda3 ro
"""


def test_mounts_are_dealt_with_children_first_and_the_kernels_own_stay() -> None:
    order = [mount.target for mount in file_systems.order(mountinfo.parse(TABLE))]
    assert set(order) == {"/", "/data", "/data/cache", "/nfs", "/run/ocelot/lower", "/data/deep/er"}
    assert order[-1] == "/"
    assert order.index("/data/cache") < order.index("/data")
    assert order.index("/data/deep/er") < order.index("/data")


def test_only_file_systems_that_keep_data_here_and_can_be_written_are_a_worry() -> None:
    assert sorted(file_systems.still_writable(lambda: mountinfo.parse(TABLE))) == ["/", "/data"]


def test_swap_is_switched_off_as_far_as_memory_has_room_for_it(tmp_path: Path) -> None:
    path = tmp_path / "swaps"
    path.write_text(
        "Filename\tType\tSize\tUsed\tPriority\n"
        "/dev/vda5 partition 900 30 -2\n/dev/vda6 partition 900 21 -3\n/swap\\040file file 900 20 -4\n"
    )
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 200 kB\nMemFree: 90 kB\nMemAvailable: 100 kB\n")
    assert file_systems.swaps(str(path), meminfo=str(meminfo)) == ["/dev/vda5", "/swap file"]
    assert file_systems.swaps(str(tmp_path / "none"), meminfo=str(meminfo)) == []
    assert file_systems.swaps(str(path), meminfo=str(tmp_path / "none")) == []
    path.write_text("Filename\tType\tSize\tUsed\tPriority\nsomething else\n")
    assert file_systems.swaps(str(path), meminfo=str(meminfo)) == []


def make_process(proc: Path, pid: int, name: str, state: str, flags: int) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} 1 {pid} {pid} 0 -1 {flags} 0 0\n")


def test_kernel_threads_zombies_and_ourselves_are_not_waited_for(tmp_path: Path) -> None:
    make_process(tmp_path, 2, "kthreadd", "S", 0x208040)
    make_process(tmp_path, 50, "sleep", "S", 0x400000)
    make_process(tmp_path, 51, "dead", "Z", 0x40000C)
    make_process(tmp_path, 52, "odd) S 1 (name", "D", 0x400000)
    make_process(tmp_path, os.getpid(), "ocelot", "R", 0x400000)
    (tmp_path / "53").mkdir()  # has just gone
    (tmp_path / "uptime").touch()
    assert sorted(shutdown.other_processes(str(tmp_path))) == [50, 52]


def test_a_pc_without_acpi_cannot_power_off(tmp_path: Path) -> None:
    assert shutdown.can_power_off(sysfs=str(tmp_path), machine="x86_64")  # nothing is mounted there
    (tmp_path / "firmware").mkdir()
    assert not shutdown.can_power_off(sysfs=str(tmp_path), machine="x86_64")
    assert shutdown.can_power_off(sysfs=str(tmp_path), machine="aarch64")
    (tmp_path / "firmware" / "acpi").mkdir()
    assert shutdown.can_power_off(sysfs=str(tmp_path), machine="x86_64")
