"""What a VM test is written with: a configuration, a root, and ``boot``.

def test_a_root_over_9p(lab: Lab) -> None:
    vm = lab.boot(CONFIG, devices=[NineP(lab.busybox())])
    vm.expect("hello from the guest")
    assert vm.wait().status == 0
"""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.lab import cache, initramfs, roots
from integration.lab.devices import Device, nfs_server
from integration.lab.vm import Hardware, Vm

PC = Hardware()


class Lab:
    """The machines and trees of one test. Everything is below ``folder``; machines end with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.machines: list[Vm] = []
        self._stack = stack
        self._names = 0

    def kernel(self, flavour: str = "") -> cache.Kernel:
        found = cache.kernel(flavour)
        if found is None:
            pytest.skip(f"no {flavour or 'generic'} kernel in the cache: make machine")
        return found

    def path(self, name: str) -> Path:
        """A name in the test's folder that nobody has used."""
        self._names += 1
        return self.folder / f"{self._names}-{name}"

    def busybox(self, *, mount_points: bool = True) -> Path:
        return roots.busybox(self.path("busybox"), mount_points=mount_points)

    def ext4(self, tree: Path, *, megabytes: int = 64, label: str = "", uuid: str = "") -> Path:
        return roots.ext4(tree, self.path("root.ext4"), megabytes=megabytes, label=label, uuid=uuid)

    def squashfs(self, tree: Path) -> Path:
        image = roots.squashfs(tree, self.path("root.squashfs"))
        if image is None:
            pytest.skip("no mksquashfs")
        return image

    def nfs(self, tree: Path) -> int:
        """Serve ``tree`` over NFS as ``10.0.2.2:/root``; returns the port."""
        if cache.daemon("ganesha", "/usr/bin/ganesha.nfsd") is None:
            pytest.skip("no nfs-ganesha")
        if not Path("/etc/mtab").exists():
            pytest.skip("nfs-ganesha exports nothing where there is no /etc/mtab (ln -s /proc/self/mounts /etc/mtab)")
        if cache.is_tmpfs(tree):  # as /tmp is on Debian 13; nfs-ganesha exports none
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nfs-", dir=cache.folder()))
            tree = shutil.copytree(tree, Path(folder) / "root", symlinks=True)
        return self._stack.enter_context(nfs_server(tree))

    def boot(
        self,
        config: str,
        *,
        devices: Sequence[Device] = (),
        arguments: str = "",
        hardware: Hardware = PC,
        includes: Sequence[tuple[str, str]] = (),
        without: Sequence[str] = (),
    ) -> Vm:
        """Build an initramfs with the bootstrap file ``config`` (YAML) and start a machine with it."""
        file = self.path("bootstrap.yaml")
        file.write_text(textwrap.dedent(config))
        kernel = self.kernel()
        initrd = initramfs.build(file, self.path("initramfs"), kernel, includes=includes, without=without)
        return self.start(Vm(kernel, initrd, arguments=arguments, hardware=hardware, devices=devices))

    def start(self, vm: Vm) -> Vm:
        self.machines.append(vm)
        return self._stack.enter_context(vm)

    def consoles(self) -> str:
        """What the machines said, for the report of a failed test."""
        return "\n".join(f"--- {vm.arguments or 'console'}\n{vm.console}" for vm in self.machines)
