"""``ocelot bootstrap try``: the whole life of a boot on a desk, and nothing of the host is touched by it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.lab import cache

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHECKOUT = Path(__file__).parent.parent
BUSYBOX = shutil.which("busybox")

# What the kernel itself changes all the time.
VOLATILE = (
    "random",
    "ns_last_pid",
    "pty/nr",
    "file-nr",
    "inode-nr",
    "inode-state",
    "dentry-state",
    "aio-nr",
    "nr_open",
    "fs/quota/",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system with nothing but busybox: no Python and no C library."""
    if BUSYBOX is None:
        pytest.skip("needs busybox")
    folder = tmp_path / "root"
    for name in ("bin", "etc"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for name in ("sh", "cat", "chmod", "echo", "hostname", "ls", "mknod", "rm", "sleep", "sysctl", "touch", "id"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/name").write_text("the real root\n")
    return folder


@pytest.fixture(autouse=True)
def untouched_host(root: Path) -> Iterator[None]:
    """Every test here compares the host before and after."""
    before = host(root)
    yield
    after = host(root)
    for key, value in before.items():
        assert after[key] == value, key


def host(root: Path) -> dict[str, Any]:
    return {
        "mounts": mounts(root),
        "modules": sorted(line.split()[0] for line in Path("/proc/modules").read_text().splitlines())
        if os.path.exists("/proc/modules")
        else [],
        "hostname": os.uname().nodename,
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "nodes": {path: os.stat(path).st_mode for path in ("/dev/null", "/dev/zero", "/dev/tty")},
        "files": tree(root),
        "settings": settings(),
    }


def mounts(root: Path) -> list[str]:
    """The mounts that a trial could have left behind: others may come and go on a busy machine."""
    exact = ("/", "/proc", "/sys", "/run", "/dev", "/mnt", "/media", "/srv", "/sysroot")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4] in exact or "ocelot" in line or str(root.parent) in line]


def tree(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
    return found


def settings() -> dict[str, bytes]:
    found = {}
    for folder, _, files in os.walk("/proc/sys"):
        for name in files:
            path = f"{folder}/{name}"
            if any(word in path for word in VOLATILE):
                continue
            try:
                found[path] = Path(path).read_bytes()
            except OSError:
                continue
    return found


def command(file: Path, root: Path) -> list[str]:
    return [sys.executable, "-m", "ocelot", "bootstrap", "try", str(file), "--root", str(root)]


def attempt(text: str, root: Path) -> subprocess.CompletedProcess[str]:
    file = root.parent / "bootstrap.yaml"
    file.write_text(text)
    return subprocess.run(
        command(file, root), capture_output=True, text=True, timeout=60, cwd=CHECKOUT, check=False, errors="replace"
    )


ROOT = "switchRoot: {rootFileSystem: {type: virtiofs, tag: rootfs}}\n"
EXIT_THREE = """
  handoff:
    mode: supervise
    processes:
      one: {program: /bin/sh, arguments: [-c, 'cat /etc/name; exit 3'], essential: true}
"""


def test_lives_the_whole_life_and_ends_with_its_status(root: Path) -> None:
    done = attempt(
        ROOT
        + "preSwitch:\n  hooks: [{name: before, command: /bin/sh, arguments: [-c, 'echo in the initramfs']}]\n"
        + "postSwitch:\n  tmpfiles: [{path: /var/made, content: made}]\n"
        + "  hooks: [{name: after, command: /bin/sh, arguments: [-c, 'echo after $$; cat /var/made; ls /usr']}]"
        + EXIT_THREE,
        root,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    for line in ("in the initramfs", "made", "the real root"):
        assert line in said
    assert "/usr: No such file" in said  # the folders of the host did not come along
    assert 'the folder stands for: mount "rootfs" on /sysroot, type virtiofs' in said


def test_settings_of_the_namespace_are_made_and_those_of_the_host_are_shown(root: Path) -> None:
    done = attempt(
        ROOT
        + "preSwitch: {sysctl: {net.core.somaxconn: 777, kernel.panic: 99}}\n"
        + "postSwitch:\n  hooks: [{name: h, command: /bin/cat, arguments: [/proc/sys/net/core/somaxconn]}]"
        + EXIT_THREE,
        root,
    )
    said = done.stdout + done.stderr
    assert "777" in done.stdout
    assert "not done in a trial, it is the host's: write '99' to /proc/sys/kernel/panic" in said


def test_an_overlay_can_be_mounted_on_a_root_that_is_one_here(root: Path) -> None:
    done = attempt(
        ROOT
        + "postSwitch:\n  mounts: [{type: overlay, lower: /etc, upper: /up/u, work: /up/w, target: /merged}]\n"
        + "  hooks: [{name: h, command: /bin/sh, arguments: [-c, 'cat /merged/name; echo x > /merged/y && echo wrote']}]"
        + EXIT_THREE,
        root,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert (done.stdout.count("the real root"), "wrote" in done.stdout) == (2, True)


def test_modules_and_device_nodes_are_shown_and_not_made(root: Path) -> None:
    done = attempt(
        ROOT
        + "preSwitch:\n  modules: {mode: scan, names: [dummy]}\n"
        + "  tmpfiles: [{path: /dev/disk, type: b, target: '254:0'}]\n"
        + "postSwitch:\n  hooks: [{name: h, command: /bin/sh, arguments: [-c, 'ls /dev; echo $?']}]"
        + EXIT_THREE,
        root,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "not done in a trial: load" in said
    assert "it reaches a device of the host: make block device /dev/disk" in said
    assert "disk\n" not in done.stdout


def test_hooks_cannot_reach_the_host_either(root: Path) -> None:
    script = (
        "sysctl -w kernel.panic=99; echo panic $?; hostname trial; chmod 600 /dev/null; echo chmod $?; "
        "mknod /tmp/disk b 254 0; echo mknod $?; rm -rf /bin/cat /etc; touch /etc-gone; ls /"
    )
    done = attempt(
        ROOT
        + f"postSwitch:\n  hooks: [{{name: h, command: /bin/sh, arguments: [-c, '{script}']}}]\n"
        + "  handoff: {mode: exec, program: /bin/sh, arguments: [-c, 'ls /etc-gone && exit 4']}\n",
        root,
    )
    said = done.stdout + done.stderr
    for line in ("panic 1", "chmod 1", "mknod 1", "/etc-gone"):
        assert line in said
    assert done.returncode == 4, said


def test_flags_of_the_root_hold(root: Path) -> None:
    done = attempt(
        "switchRoot: {rootFileSystem: {type: virtiofs, tag: rootfs, readOnly: true, noExec: false}}\n"
        + "postSwitch:\n  handoff: {mode: exec, program: /bin/sh, arguments: [-c, 'touch /new || exit 5']}\n",
        root,
    )
    # The folder lacks /proc and the like, so the read-only root is covered by an overlay, with a warning.
    assert "overlay in memory" in done.stdout + done.stderr
    complete = root.parent / "complete"
    shutil.copytree(root, complete, symlinks=True)
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (complete / name).mkdir()
    before = tree(complete)
    again = attempt((root.parent / "bootstrap.yaml").read_text(), complete)
    assert tree(complete) == before
    assert again.returncode == 5, again.stdout + again.stderr
    assert "overlay in memory" not in again.stdout + again.stderr


def test_without_switch_root_the_folder_is_the_root(root: Path) -> None:
    done = attempt("postSwitch:" + EXIT_THREE, root)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the real root" in done.stdout


def test_an_abort_ends_it_with_the_phase_and_a_failure(root: Path) -> None:
    done = attempt(
        ROOT + "postSwitch:\n  hooks: [{name: bad, command: /bin/sh, arguments: [-c, 'exit 9'], onFailure: Abort}]"
        "\n  handoff: {mode: shell}\n",
        root,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert 'cannot complete hook "bad": /bin/sh exited with status 9' in said
    assert "postSwitch.hooks" in said


def test_ends_in_order_when_it_is_asked_to(root: Path) -> None:
    file = root.parent / "bootstrap.yaml"
    file.write_text(
        ROOT + "postSwitch:\n  handoff:\n    mode: supervise\n    processes:\n"
        "      one: {program: /bin/sh, arguments: [-c, 'echo is up; trap \"exit 0\" TERM; while :; do sleep 0.1; done']}\n"
    )
    with subprocess.Popen(
        command(file, root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=CHECKOUT
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "is up" in line:
                process.send_signal(signal.SIGTERM)
                break
        rest = process.communicate(timeout=30)[0]
    assert process.returncode == 0, "".join(said) + rest
    assert "going down" in rest


def test_a_folder_that_is_none_is_refused(root: Path) -> None:
    file = root.parent / "bootstrap.yaml"
    file.write_text("postSwitch:" + EXIT_THREE)
    done = subprocess.run(command(file, root / "etc/name"), capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == 1
    assert "is not a folder" in done.stderr


# What a checkout's environment holds for those who work on it, most of it large
DESK_ONLY = ("mypy*", "*__mypyc*", "ruff*", "pip*", "hypothesis*", "setuptools*", "zstandard*", "pygments*", "*pytest*")


def open_to_others(packages: str, folder: Path) -> list[str]:
    """Where any user finds ocelot and its packages: as they are, or copied into ``folder`` from where only the owner may go."""
    if not cache.closed_to_others(CHECKOUT / "ocelot"):
        return [str(CHECKOUT), packages]
    for name in ("ocelot", "bootstrap", "supervisor"):
        shutil.copytree(CHECKOUT / name, folder / name)
    shutil.copytree(packages, folder / "packages", ignore=shutil.ignore_patterns(*DESK_ONLY))
    folder.chmod(0o755)
    return [str(folder), str(folder / "packages")]


def test_needs_no_root() -> None:
    """In a user namespace, as a user to whom nothing here belongs."""
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    if not os.access(python, os.X_OK) or shutil.which("setpriv") is None or BUSYBOX is None:
        pytest.skip("needs a Python of this version that any user may run, setpriv and busybox")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with tempfile.TemporaryDirectory(dir="/tmp") as name, tempfile.TemporaryDirectory(dir="/tmp") as copy:
        places = open_to_others(packages, Path(copy))
        folder = Path(name)
        (folder / "root/bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, folder / "root/bin/busybox")
        (folder / "root/bin/sh").symlink_to("busybox")
        script = "echo as $(/bin/busybox id -u); exit 6"
        (folder / "bootstrap.yaml").write_text(
            f"{ROOT}postSwitch:\n  handoff: {{mode: exec, program: /bin/sh, arguments: [-c, '{script}']}}\n"
        )
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        before = tree(folder)
        environment = {
            "PYTHONPATH": ":".join(places),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
        }
        words = [python, *command(folder / "bootstrap.yaml", folder / "root")[1:]]
        done = subprocess.run(
            [*nobody, *words], env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert tree(folder) == before
    assert done.returncode == 6, done.stdout + done.stderr
    assert "as 0" in done.stdout
