"""The switch of the root, done for real in namespaces of its own, on a pretended initramfs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from bootstrap.guards import Check, Guards
from bootstrap.steps import Machine
from bootstrap.switch_root import Switch, switch_root
from ocelot.errors import OcelotError
from ocelot.linux.identity import Identity

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

INSIDE = Path(__file__).with_name("switch_root_inside.py")


def inside(scenario: str, tmp_path: Path, *words: str) -> dict[str, Any]:
    """What a scenario reports. A mount of it that appears on the host fails every test."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-B", str(INSIDE)]
    done = subprocess.run(
        [*command, str(tmp_path / "stage"), scenario, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(INSIDE.parent.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = Path("/proc/self/mountinfo").read_text()
    assert not any(word in table for word in (str(tmp_path), "/sysroot", "/run/ocelot"))
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # The checkout is mounted there for Python's sake; if it lies below /tmp, it is in the way of the move and says so
    own = str(INSIDE.parent.parent)
    if "warnings" in report:
        report["warnings"] = [warning for warning in report["warnings"] if not warning.startswith(own)]
    return report


def test_moves_the_kernel_file_systems_and_frees_all_but_the_runtime(tmp_path: Path) -> None:
    seen = inside("plain", tmp_path)
    assert seen["warnings"] == []
    assert {"/proc", "/sys", "/dev", "/run", "/tmp", "/run/ocelot/runtime"} <= set(seen["targets"])
    assert seen["dev"] is True
    assert seen["root_type"] == "tmpfs"
    assert seen["runtime"] == "the runtime"
    assert seen["remaining"] == [
        "/run",
        "/run/ocelot",
        "/run/ocelot/runtime",
        "/run/ocelot/runtime/bin",
        "/run/ocelot/runtime/bin/python3",
    ]


def test_leaves_a_root_that_allows_user_namespaces_and_is_shared(tmp_path: Path) -> None:
    seen = inside("plain", tmp_path)
    assert seen["user_namespace"] == "works"
    assert seen["root_shared"] is True


def test_mounts_of_pre_switch_appear_at_the_same_path(tmp_path: Path) -> None:
    seen = inside("plain", tmp_path)
    assert {"/data", "/data/inner"} <= set(seen["targets"])
    assert "/sysroot" not in seen["targets"]


def test_layers_of_an_overlay_root_on_the_initramfs_survive(tmp_path: Path) -> None:
    seen = inside("overlay_layers", tmp_path)
    assert seen["lower"] == "from the lower layer"
    assert seen["upper"] == "written after the switch"
    assert "/layers/upper/etc/new" in seen["remaining"]
    assert not any(path.startswith("/lib-of-ours") for path in seen["remaining"])


def test_a_mount_that_the_root_is_made_of_moves_below_run(tmp_path: Path) -> None:
    seen = inside("overlay_on_a_disk", tmp_path)
    assert seen["lower"] == "from the disk"
    assert seen["disk"] == "from the disk"
    assert "/disk" not in seen["targets"]


def test_a_root_that_is_a_folder_of_the_initramfs_survives(tmp_path: Path) -> None:
    seen = inside("bind_of_the_initramfs", tmp_path)
    assert seen["name"] == "on the initramfs"
    assert "/init" not in seen["remaining"]


def test_links_of_the_new_root_resolve_within_it(tmp_path: Path) -> None:
    seen = inside("links_in_the_new_root", tmp_path)
    assert seen["tmp_is_mount"] is True
    assert "/var/tmp/of-the-initramfs" not in seen["remaining"]


def test_a_read_only_root_with_mount_points_stays_as_it_is(tmp_path: Path) -> None:
    seen = inside("read_only_with_mount_points", tmp_path)
    assert seen["warnings"] == []
    assert seen["root_type"] == "tmpfs"
    assert seen["root_read_only"] is True


def test_a_read_only_root_without_mount_points_gets_an_overlay_and_a_warning(tmp_path: Path) -> None:
    seen = inside("read_only_without_mount_points", tmp_path)
    assert seen["root_type"] == "overlay"
    assert (seen["written"], seen["name"]) == ("x", "read-only")
    [warning] = seen["warnings"]
    assert "overlay in memory" in warning


def test_modules_of_the_initramfs_stay_when_post_switch_wants_some(tmp_path: Path) -> None:
    seen = inside("modules_are_kept", tmp_path)
    assert seen["initramfs_modules"] == "/run/ocelot/modules"
    assert seen["module"] == "module"


def test_refuses_a_root_that_is_no_initramfs_of_ours_and_mounts_nothing(tmp_path: Path) -> None:
    seen = inside("without_marker", tmp_path)
    assert "/etc/ocelot/initramfs is missing" in seen["error"]
    assert "/sysroot" not in seen["targets"]


def test_refuses_in_a_pid_namespace_that_is_not_the_first(tmp_path: Path) -> None:
    seen = inside("default_guards", tmp_path)
    assert "not the init of the machine" in seen["error"]
    assert "/sysroot" not in seen["targets"]


def test_refuses_as_an_ordinary_process_and_changes_nothing() -> None:
    said: list[str] = []
    machine = Machine(None, Identity.MACHINE, said.append, said.append)  # type: ignore[arg-type]
    with pytest.raises(OcelotError, match="not the init of the machine"):
        trio.run(switch_root, Switch("/"), machine)
    with pytest.raises(OcelotError, match="not the init of the machine"):
        trio.run(Check().apply, machine)
    assert "/sysroot" not in Path("/proc/self/mountinfo").read_text()
    assert os.path.isdir("/proc/self")
    assert said == []


def test_refuses_to_leave_a_real_file_system() -> None:
    with pytest.raises(OcelotError, match="a real file system, not an initramfs"):
        Guards(require=lambda _deed: None, magics=frozenset((0,))).check()


@pytest.mark.parametrize("words", [(), ("by-mount-id",)])
def test_freeing_crosses_no_mount_and_spares_what_is_in_use(words: tuple[str, ...], tmp_path: Path) -> None:
    seen = inside("freeing", tmp_path, *words)
    kept = {
        "/old/mounted/file": "on another file system",
        "/elsewhere/file": "the source of a bind, seen elsewhere",
        "/old/inside/file": "same device, mounted inside",
        "/old/point": "a file that is bound",
        "/old/layers/upper/file": "a layer",
        "/precious-outside/file": "outside",
    }
    assert kept.items() <= seen["contents"].items()
    assert not any(path.startswith("/junk") for path in seen["remaining"])
    assert seen["problems"] == []
