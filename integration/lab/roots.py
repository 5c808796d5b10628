"""Root file systems for guests: trees made in a moment from static programs, and images of them.

None of them has a Python. A tree belongs to the test that made it; nothing is shared, so a guest may write to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from integration.lab import cache

BUSYBOX = Path("/bin/busybox")
MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp")

_PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
_GROUP = "root:x:0:\ntty:x:5:\nwww-data:x:33:\n"


def busybox(tree: Path, *, mount_points: bool = True) -> Path:
    """A tree with a static busybox under all its names, /etc/passwd and /etc/group, and nothing else."""
    for folder in (
        "bin",
        "sbin",
        "etc",
        "root",
        "var/www",
        "mnt",
        "srv",
        "usr/bin",
        *(MOUNT_POINTS if mount_points else ()),
    ):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy2(BUSYBOX, tree / "bin/busybox")
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        link = tree / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    (tree / "sbin/init").symlink_to("/bin/busybox")
    (tree / "etc/passwd").write_text(_PASSWD)
    (tree / "etc/group").write_text(_GROUP)
    return tree


def bare(tree: Path) -> Path:
    """A tree that holds one static program, /busybox, and no folder at all."""
    tree.mkdir(parents=True, exist_ok=True)
    shutil.copy2(BUSYBOX, tree / "busybox")
    return tree


def musl(tree: Path, source: str) -> Path | None:
    """A tree whose only libc is musl, with ``source`` (C) compiled to /hello; None without musl-gcc."""
    compiler = cache.tool("musl-gcc")
    loader = next(iter(Path("/lib").glob("ld-musl-*.so.1")), None)
    if compiler is None or loader is None:
        return None
    (tree / "lib").mkdir(parents=True)
    subprocess.run([compiler, "-x", "c", "-", "-o", str(tree / "hello")], input=source.encode(), check=True)
    shutil.copy2(loader.resolve(), tree / "lib" / loader.name)
    return tree


def modules(tree: Path, kernel: cache.Kernel, *names: str) -> None:
    """Put kernel modules and a modules.dep for them into the tree."""
    folder = tree / "lib/modules" / kernel.version
    for name in names:
        path = next(kernel.modules.rglob(f"{name}.ko*")).relative_to(kernel.modules)
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy2(kernel.modules / path, folder / path)
    depmod = cache.tool("depmod")
    assert depmod is not None
    subprocess.run([depmod, "-b", str(tree), kernel.version], check=True)


def script(tree: Path, name: str, text: str) -> None:
    """Write an executable shell script into the tree; ``name`` is its absolute path in the guest."""
    path = tree / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def ext4(tree: Path, image: Path, *, megabytes: int = 64, label: str = "", uuid: str = "") -> Path:
    """An ext4 image of ``tree``, made without mounting anything. Files belong to root in it."""
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    options = [*(("-L", label) if label else ()), *(("-U", uuid) if uuid else ())]
    mkfs = cache.tool("mkfs.ext4")
    assert mkfs is not None
    subprocess.run(
        [mkfs, "-q", "-F", "-d", str(tree), "-E", "root_owner=0:0,lazy_itable_init=1", *options, str(image)],
        check=True,
        capture_output=True,
    )
    return image


def squashfs(tree: Path, image: Path) -> Path | None:
    """A squashfs image of ``tree``; None without mksquashfs."""
    program = cache.tool("mksquashfs")
    if program is None:
        return None
    argv = [program, str(tree), str(image), "-noappend", "-quiet", "-no-progress", "-all-root", "-comp", "zstd"]
    subprocess.run(argv, check=True, capture_output=True)
    return image


def needs_recovery(image: Path) -> bool:
    """Whether the journal of an ext4 image would have to be replayed: it was not unmounted or made read-only."""
    dumpe2fs = cache.tool("dumpe2fs")
    assert dumpe2fs is not None
    shown = subprocess.run([dumpe2fs, "-h", str(image)], check=True, capture_output=True, text=True).stdout
    features = next(line for line in shown.splitlines() if line.startswith("Filesystem features:"))
    return "needs_recovery" in features.split()


def read_file(image: Path, name: str) -> str:
    """The content of a file in an ext4 image, read without mounting it."""
    debugfs = cache.tool("debugfs")
    assert debugfs is not None
    return subprocess.run([debugfs, "-R", f"cat {name}", str(image)], check=True, capture_output=True, text=True).stdout


def with_libraries(tree: Path, program: Path, environment: dict[str, str], destination: str) -> None:
    """Copy a dynamically linked program into the tree, with its libraries at the paths where its loader looks."""
    target = tree / destination.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, target)
    shown = subprocess.run(["ldd", program], check=True, capture_output=True, text=True, env=environment).stdout
    for line in shown.splitlines():
        words = line.split()
        path = next((word for word in words if word.startswith("/")), None)
        if path is None:
            continue
        # The loader's own path is wired into the program; the others go where every loader looks.
        loader = "=>" not in words
        place = tree / (path.lstrip("/") if loader else f"lib/{os.path.basename(path)}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy2(path, place)
