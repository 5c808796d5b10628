"""Three ways to the same work: load virtio_blk and ext4, mount the ext4 root, switch to it, start one service.

ocelot, a busybox shell script in an initramfs, and Debian's systemd on a minimal Debian. systemd gets its root from the same
busybox script, so that it is measured at what it is best at and not for what Debian's initramfs-tools does before it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from integration.lab import cache, roots
from ocelot.image import cpio, kernel_modules
from ocelot.image.compression import compress
from ocelot.image.initramfs import Recipe
from ocelot.image.initramfs import build as build_image

MODULES = ("virtio_pci", "virtio_blk", "ext4")
SHELL = "/bin/busybox-bench"
"""A static busybox that all roots have, so that the service starts as quickly everywhere."""

_SERVICE = f"""\
#!{SHELL} sh
echo bench-service > /dev/kmsg
PATH=/bin:/sbin:/usr/bin:/run/ocelot/bin
again=no
[ -e /run/bench-once ] && again=yes
: > /run/bench-once
busybox() {{ {SHELL} "$@"; }}
busybox sleep 2
{{
    echo
    busybox dmesg | busybox grep -E 'Run /init|bench-'
    busybox grep -E 'MemTotal|MemFree|MemAvailable' /proc/meminfo
    for folder in /proc/[0-9]*; do
        read -r name < $folder/comm
        case $name in busybox-bench|grep|service) continue;; esac
        pss=$(busybox grep ^Pss: $folder/smaps_rollup)
        [ -n "$pss" ] && echo "bench-pss $name $pss"
    done
    [ -x /run/ocelot/bin/ocelotctl ] && [ $again = no ] && echo "bench-boot $(ocelotctl boot --json | busybox tr -d '\\n')"
    echo "bench-again $again"
    echo bench-end
}} > /dev/console 2> /dev/null
[ $again = no ] && [ $$ != 1 ] && exit 1
busybox sleep 1000
"""

_OCELOT = f"""\
switchRoot:
  rootFileSystem: {{ type: device, device: /dev/vda, fstype: ext4 }}
postSwitch:
  handoff:
    mode: supervise
    processes:
      bench:
        program: {SHELL}
        arguments: [sh, /service]
        restartPolicy: {{ type: Always, backoff: 0s }}
"""

_SHELL_INIT = """\
#!/bin/busybox sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module"; done < /modules/order
echo bench-wait > /dev/kmsg
while [ ! -b /dev/vda ]; do usleep 1000; done
echo bench-found > /dev/kmsg
mount -t ext4 /dev/vda /sysroot
mount -t tmpfs run /sysroot/run
mount --move /dev /sysroot/dev
mount --move /proc /sysroot/proc
mount --move /sys /sysroot/sys
echo bench-switch > /dev/kmsg
exec switch_root /sysroot NEXT
"""

_UNIT = f"""\
[Unit]
Description=the service that is measured
[Service]
ExecStart={SHELL} sh /service
Restart=always
RestartSec=0
"""

_BARE_UNIT = _UNIT.replace("[Service]", "DefaultDependencies=no\n[Service]")
_TARGET = "[Unit]\nDescription=nothing but one service\nRequires=bench.service\nAfter=bench.service\n"


@dataclass(frozen=True)
class System:
    """``initrd``: for timing, with modules. ``image``: its ext4 root, to be copied for each boot. ``size``: of its
    initramfs without modules (bytes, zstd)."""

    name: str
    initrd: Path
    image: Path
    size: int


Say = Callable[[str], None]


def ocelot(folder: Path, kernel: cache.Kernel) -> System:
    """ocelot's own initramfs, as ``ocelot initramfs build`` makes it."""
    config = folder / "bootstrap.yaml"
    config.write_text(_OCELOT)
    keep = str(cache.folder() / "runtime")
    whole = Recipe(str(config), str(folder / "ocelot"), kernel.version, str(kernel.modules_root), cache=keep)
    build_image(whole)
    alone = build_image(Recipe(str(config), str(folder / "ocelot-alone"), cache=keep))
    return System("ocelot", folder / "ocelot", _small_root(folder), alone.size)


def busybox(folder: Path, kernel: cache.Kernel) -> System:
    """A shell script that does the same and becomes the service."""
    script = _SHELL_INIT.replace("NEXT", f"{SHELL} sh /service")
    whole, alone = _shell_initramfs(script, kernel)
    (folder / "busybox").write_bytes(whole)
    return System("busybox", folder / "busybox", _small_root(folder), len(alone))


def systemd(folder: Path, kernel: cache.Kernel, *, bare: bool, say: Say) -> System:
    """Debian's systemd. ``bare``: its default target holds the service alone, with nothing of what precedes it else.

    Raises CalledProcessError or OSError when debootstrap cannot make the root.
    """
    script = _SHELL_INIT.replace("NEXT", "/sbin/init")
    whole, alone = _shell_initramfs(script, kernel)
    name = "systemd-bare" if bare else "systemd"
    (folder / name).write_bytes(whole)
    return System(name, folder / name, _systemd_root(folder / f"{name}.ext4", bare, say), len(alone))


def _shell_initramfs(script: str, kernel: cache.Kernel) -> tuple[bytes, bytes]:
    """The initramfs of a script, with and without modules, as zstd -19."""
    base = [
        cpio.file("init", script.encode(), 0o755),
        cpio.file("bin/busybox", roots.BUSYBOX.read_bytes(), 0o755),
        cpio.character_device("dev/console", 5, 1),
        cpio.character_device("dev/null", 1, 3, 0o666),
        *(cpio.folder(name) for name in ("dev", "proc", "sys", "run", "sysroot")),
        *(cpio.link(f"bin/{name}", "busybox") for name in ("sh", "mount", "insmod", "usleep", "switch_root")),
    ]
    tree = kernel_modules.read_tree(str(kernel.modules_root), kernel.version)
    paths = tree.load_order([path for name in MODULES if (path := tree.find(name))])
    modules = [entry for entry in kernel_modules.entries(tree, paths) if entry.path.endswith(".ko")]
    flat = {os.path.basename(entry.path): entry.data for entry in modules}
    order = "".join(f"{os.path.basename(kernel_modules.placed(path))}\n" for path in paths)
    more = [cpio.file(f"modules/{name}", data) for name, data in flat.items()]
    return _packed([*base, *more, cpio.file("modules/order", order.encode())]), _packed(base)


def _packed(entries: Iterable[cpio.Entry]) -> bytes:
    return compress(b"".join(cpio.write(cpio.arrange(entries))), "zstd", level=19)


def _small_root(folder: Path) -> Path:
    image = folder / "small.ext4"
    if not image.exists():
        tree = roots.busybox(folder / "small")
        _add_service(tree)
        roots.ext4(tree, image, megabytes=32)
    return image


def _add_service(tree: Path) -> None:
    shutil.copy2(roots.BUSYBOX, tree / SHELL.lstrip("/"))
    service = tree / "service"
    service.write_text(_SERVICE)
    service.chmod(0o755)


def _systemd_root(image: Path, bare: bool, say: Say) -> Path:
    """A copy of the cached Debian with the measured service as its default target, as an ext4 image."""
    debian = _debian(say)
    with tempfile.TemporaryDirectory(prefix="ocelot-bench-", dir=debian.parent) as name:
        tree = Path(name) / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", debian, tree], check=True)
        _add_service(tree)
        units = tree / "etc/systemd/system"
        (units / "bench.service").write_text(_BARE_UNIT if bare else _UNIT)
        target = _TARGET if not bare else _TARGET.replace("\nRequires", "\nDefaultDependencies=no\nRequires", 1)
        (units / "bench.target").write_text(target)
        (units / "default.target").unlink(missing_ok=True)
        (units / "default.target").symlink_to("bench.target")
        (tree / "etc/fstab").write_text("")
        (tree / "etc/machine-id").write_text("5f0c1d6c8c1e4f5c9d5c3f1f2b7a9e10\n")  # not the first boot of this machine
        return roots.ext4(tree, image, megabytes=640)


def _debian(say: Say) -> Path:
    """A minimal system of this one's release with systemd in the cache, made once; needs root."""
    release = cache.release()
    tree = cache.folder() / f"{release}-systemd"
    if tree.is_dir():
        return tree
    debootstrap = cache.tool("debootstrap")
    if debootstrap is None:
        raise OSError("there is no debootstrap on this machine")
    say("making a Debian with systemd (debootstrap; once, a minute)")
    cache.folder().mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="systemd-", dir=cache.folder()))
    argv = [debootstrap, "--variant=minbase", "--include=systemd,systemd-sysv,udev,dbus", release, str(unfinished)]
    try:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        unfinished.chmod(0o755)
        for useless in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(unfinished / useless, ignore_errors=True)
        unfinished.rename(tree)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return tree
