"""What setup.sh laid into the cache: the kernels, the servers that are unpacked but not installed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """``$OCELOT_CACHE``, else ``ocelot`` in the XDG cache folder."""
    if chosen := os.environ.get("OCELOT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocelot"


@dataclass(frozen=True)
class Kernel:
    """``modules_root`` holds ``lib/modules/VERSION``."""

    image: Path
    version: str
    modules_root: Path

    @property
    def modules(self) -> Path:
        return self.modules_root / "lib/modules" / self.version

    def built_in(self, name: str) -> bool:
        """Whether the kernel has in itself what others have as a module."""
        return f"/{name}.ko\n" in (self.modules / "modules.builtin").read_text()


def kernel(flavour: str = "") -> Kernel | None:
    """The distribution's kernel (nothing of ext4 or virtio built in on Debian), or Debian's ``cloud``: it has nvme and ext4."""
    root = folder() / (f"kernel-{flavour}" if flavour else "kernel")
    try:
        version = (root / "version").read_text().strip()
    except FileNotFoundError:
        return None
    return Kernel(root / "vmlinuz", version, root)


def release() -> str:
    """The code name of this Debian or Ubuntu, of which others like it can be made (debootstrap); bookworm elsewhere."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return "bookworm"
    return system.get("VERSION_CODENAME", "bookworm") if system["ID"] in ("debian", "ubuntu") else "bookworm"


@dataclass(frozen=True)
class Daemon:
    """A program of the host, or one from an unpacked package, with the environment it needs to find its libraries."""

    program: Path
    root: Path
    environment: dict[str, str]


def daemon(package: str, program: str) -> Daemon | None:
    """``program`` as installed, else as unpacked by setup.sh; None when there is neither.

    An absolute path, or a pattern of one for a folder with a version in it: then the newest.
    """
    if installed := newest(Path("/"), program):
        return Daemon(installed, Path("/"), dict(os.environ))
    root = folder() / package
    unpacked = newest(root, program)
    if unpacked is None:
        return None
    folders = [str(path) for path in (*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*"))]
    folders += [
        str(path) for path in root.glob(f"usr/lib/{package}")
    ]  # where Ubuntu has libraries of nfs-ganesha's own
    return Daemon(unpacked, root, {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)})


def closed_to_others(path: Path) -> bool:
    """Whether another user cannot come to what lies there: Debian's /root and Ubuntu's homes let nobody in."""
    return any(not folder.stat().st_mode & 0o001 for folder in path.parents)


def open_to_others(found: Daemon, folder: Path) -> Daemon:
    """A daemon that any user may run: as it is, or copied into ``folder`` from where only its owner may go."""
    if not closed_to_others(found.program):
        return found
    copy = folder / found.root.name
    # Without PostgreSQL's compiler of queries, which is most of it
    shutil.copytree(found.root, copy, symlinks=True, ignore=shutil.ignore_patterns("libLLVM*", "llvmjit*", "bitcode"))
    libraries = found.environment["LD_LIBRARY_PATH"].replace(str(found.root), str(copy))
    program = copy / found.program.relative_to(found.root)
    return Daemon(program, copy, {**found.environment, "LD_LIBRARY_PATH": libraries})


def is_tmpfs(path: Path) -> bool:
    """Whether ``path`` lies in memory."""
    argv = ["stat", "--file-system", "--format=%T", str(path)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip() == "tmpfs"


def newest(root: Path, pattern: str) -> Path | None:
    """The last of the files below ``root`` that fit ``pattern``."""
    return max(root.glob(pattern.lstrip("/")), default=None)


def tool(*names: str) -> str | None:
    """The first of ``names`` that the host has, looked up in the sbin folders too."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/libexec:/usr/lib/qemu"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)
