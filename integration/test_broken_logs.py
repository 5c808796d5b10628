"""Log files that cannot be opened: what is lost of them is told once and counted, and it goes on by itself when it can."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.desk import desk
from integration.reexecs import until

pytestmark = pytest.mark.root


def counting(path: Path, **more: Any) -> dict[str, Any]:
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
    log = {"stdout": {"destination": {"type": "file", "path": str(path)}, **more}}
    again = {"type": "Always", "backoff": "50ms", "multiplier": 1}
    return {"program": "/bin/sh", "arguments": ["-c", script], "log": log, "restartPolicy": again}


@pytest.mark.parametrize("on_full", ["drop", "block"])
def test_what_only_somebody_can_mend_is_dropped_until_then(tmp_path: Path, on_full: str) -> None:
    """Whatever onFull says: no service waits for a path that is wrong."""
    path = tmp_path / "logs" / "web.log"
    path.mkdir(parents=True)
    with desk(tmp_path, {"web": counting(path, onFull=on_full)}, metrics={"listen": None}) as machine:
        found = machine.until(lambda found: found["web"]["output"] and found["web"]["output"][0]["dropped"] > 20)
        assert found["web"]["output"][0]["problem"].startswith("Is a directory")
        assert "stdout: " in (shown := machine.ctl("status", "web").stdout)
        assert "bytes were dropped, and it cannot be written now: Is a directory" in shown
        failing = 'ocelot_process_output_failing{process="web",stream="stdout"} 1.0'
        assert failing in machine.curl("/metrics")[1]
        for _ in range(2):
            machine.ctl("signal", "KILL", "web")
            machine.until(lambda found: found["web"]["state"] == "running")
        path.rmdir()
        machine.until(lambda found: found["web"]["output"][0]["problem"] == "")
        until(lambda: "were dropped here" in path.read_text())
        assert failing not in machine.curl("/metrics")[1]
        said = machine.log.read_text()
        assert said.count("Is a directory") == 1
        assert said.count('the stdout of "web" is written again; ') == 1


@pytest.mark.parametrize("on_full", ["drop", "block"])
def test_a_disk_that_is_too_full_to_make_the_file_is_full(tmp_path: Path, on_full: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=2", "tmpfs", disk], check=True)
    try:
        (disk / "other").touch()
        path = disk / "web.log"
        with desk(tmp_path, {"web": counting(path, onFull=on_full)}) as machine:
            machine.until(lambda found: found["web"]["output"] and found["web"]["output"][0]["problem"])
            if on_full == "drop":
                machine.until(lambda found: found["web"]["output"][0]["dropped"])
            (disk / "other").unlink()
            until(lambda: path.exists() and len(path.read_text().splitlines()) > 20)
            found = machine.until(lambda found: not found["web"]["output"] or not found["web"]["output"][0]["problem"])
            lines = path.read_text().splitlines()
            if on_full == "block":
                assert lines == [str(number) for number in range(1, len(lines) + 1)], "it waited"
                assert found["web"]["output"] == []
            else:
                assert "were dropped here" in lines[0]
            assert machine.log.read_text().count("No space left on device") == 1
    finally:
        subprocess.run(["umount", disk], check=True)


OTHER = 61234
"""The owner of a folder, who is neither root nor ours."""


@pytest.mark.parametrize("there", [True, False])
def test_a_link_that_the_owner_of_the_folder_has_put_there_is_not_followed(tmp_path: Path, there: bool) -> None:
    """Else it could write as root, with the words of its service, to any file of the machine."""
    path, victim = _folder_of_another(tmp_path) / "web.log", tmp_path / "victim"
    path.symlink_to(victim)
    os.lchown(path, OTHER, OTHER)
    if there:
        victim.write_text("as it was\n")
    with desk(tmp_path, {"web": counting(path)}) as machine:
        found = machine.until(lambda found: found["web"]["output"] and found["web"]["output"][0]["dropped"])
        assert f"it is a symbolic link of uid {OTHER}, which is not followed" in found["web"]["output"][0]["problem"]
        assert victim.exists() == there
        path.unlink()
        until(lambda: path.exists() and "were dropped here" in path.read_text())
        path.unlink()
        path.symlink_to(victim)
        os.lchown(path, OTHER, OTHER)
        machine.ctl("signal", "KILL", "web")
        machine.until(lambda found: found["web"]["output"] and found["web"]["output"][0]["problem"])
    assert not there or victim.read_text() == "as it was\n"


def test_links_of_root_are_followed_to_what_is_there_or_can_be_made(tmp_path: Path) -> None:
    path = _folder_of_another(tmp_path) / "web.log"
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to("../second")
    (tmp_path / "second").symlink_to(tmp_path / "elsewhere" / "web.log")
    with desk(tmp_path, {"web": counting(path), "out": counting(Path("/dev/stdout"))}) as machine:
        until(lambda: (tmp_path / "elsewhere" / "web.log").exists())
        until(lambda: "\n3\n" in machine.log.read_text())


def test_another_name_of_a_file_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    """The kernel lets everybody make such a link, unless fs.protected_hardlinks is set."""
    path, victim = _folder_of_another(tmp_path) / "web.log", tmp_path / "victim"
    victim.write_text("as it was\n")
    path.hardlink_to(victim)
    with desk(tmp_path, {"web": counting(path, rotation={"maxSizeBytes": "1MB"})}) as machine:
        found = machine.until(lambda found: found["web"]["output"] and found["web"]["output"][0]["dropped"])
        assert "it has other names too" in found["web"]["output"][0]["problem"]
        path.unlink()
        until(lambda: path.exists() and "were dropped here" in path.read_text())
    assert victim.read_text() == "as it was\n"


def test_a_rotation_that_a_crash_interrupted_in_a_folder_of_another_is_undone(tmp_path: Path) -> None:
    path = _folder_of_another(tmp_path) / "web.log"
    path.write_text("before\n")
    Path(f"{path}.20261123T094500Z-1").hardlink_to(path)
    with desk(tmp_path, {"web": counting(path, rotation={"maxSizeBytes": "1MB"})}):
        until(lambda: path.read_text().startswith("before\n1\n2\n"))
    assert [each.name for each in path.parent.iterdir()] == ["web.log"]


def _folder_of_another(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    os.chown(folder, OTHER, OTHER)
    return folder
