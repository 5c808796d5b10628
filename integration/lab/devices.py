"""What can be plugged into a virtual machine: disks, shared folders, and the host daemons that some of them need."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.lab import cache


@dataclass(frozen=True)
class Command:
    """A host process that a device needs; ``socket`` appears when it is ready."""

    argv: Sequence[str]
    socket: Path | None = None
    env: Mapping[str, str] | None = None


class Device(ABC):
    """One piece of hardware. ``shares_memory``: the daemon behind it reads the guest's memory (vhost-user)."""

    shares_memory = False

    def daemon(self, folder: Path) -> Command | None:
        """The host process it needs, if any; its sockets lie in ``folder``, which is the machine's own."""
        return None

    @abstractmethod
    def options(self, number: int, bus: str, folder: Path) -> list[str]:
        """QEMU's options for it. ``bus`` is ``pci`` or ``device`` (virtio-mmio)."""


@dataclass(frozen=True)
class Drive(Device):
    """A disk. ``attachment``: virtio, or nvme (which the cloud kernel has built in)."""

    image: Path
    read_only: bool = False
    attachment: str = "virtio"

    def options(self, number: int, bus: str, folder: Path) -> list[str]:
        read_only = ",read-only=on" if self.read_only else ""
        node = ["-blockdev", f"driver=raw,node-name=d{number},file.driver=file,file.filename={self.image}{read_only}"]
        if self.attachment == "nvme":
            return [*node, "-device", f"nvme,drive=d{number},serial=ocelot{number}"]
        return [*node, "-device", f"virtio-blk-{bus},drive=d{number}"]


@dataclass(frozen=True)
class NineP(Device):
    """A folder of the host over 9p. ``security``: none maps nothing (QEMU's own user owns what is written)."""

    shared: Path
    tag: str = "rootfs"

    def options(self, number: int, bus: str, folder: Path) -> list[str]:
        export = f"local,id=f{number},path={self.shared},security_model=none,multidevs=remap"
        return ["-fsdev", export, "-device", f"virtio-9p-{bus},fsdev=f{number},mount_tag={self.tag}"]


@dataclass(frozen=True)
class Virtiofs(Device):
    """A folder of the host over virtiofs, through a virtiofsd of its own."""

    shared: Path
    tag: str = "rootfs"

    shares_memory = True

    def _socket(self, folder: Path) -> Path:
        return folder / f"fs-{self.tag}.sock"

    def daemon(self, folder: Path) -> Command:
        program = virtiofsd()
        assert program is not None, "there is no virtiofsd"
        path = self._socket(folder)
        if program.startswith("/usr/lib/qemu"):  # the one in C, up to QEMU 7
            argv = [program, f"--socket-path={path}", "-o", f"source={self.shared}", "-o", "cache=auto"]
        else:  # the one in Rust
            argv = [program, "--socket-path", str(path), "--shared-dir", str(self.shared), "--cache", "auto"]
            if os.geteuid() != 0:
                argv += ["--sandbox", "none"]
        return Command(argv, path)

    def options(self, number: int, bus: str, folder: Path) -> list[str]:
        chardev = f"socket,id=fs{number},path={self._socket(folder)}"
        return ["-chardev", chardev, "-device", f"vhost-user-fs-{bus},chardev=fs{number},tag={self.tag}"]


def virtiofsd() -> str | None:
    """The virtiofsd of this host; Debian 12 has the one in C beside QEMU, later systems the one in Rust."""
    for program in ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"):
        if Path(program).exists() and (os.geteuid() == 0 or "libexec" in program):
            return program
    return None


_GANESHA = """
NFS_CORE_PARAM {{
    Protocols = 4;
    NFS_Port = {port};
    Bind_addr = 127.0.0.1;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    Plugins_Dir = "{plugins}";
    allow_set_io_flusher_fail = true; # it needs CAP_SYS_RESOURCE
}}
# Names come from the C library: the other way needs a plug-in that is looked for where it would be installed
NFSv4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = "{folder}"; Minor_Versions = 1, 2; UseGetpwnam = true; }}
EXPORT {{
    Export_Id = 1;
    Path = "{shared}";
    Pseudo = "/root";
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys;
    FSAL {{ Name = VFS; }}
}}
"""


@contextmanager
def nfs_server(shared: Path) -> Iterator[int]:
    """Serve ``shared`` as ``/root`` over NFS 4.2 on 127.0.0.1 (10.0.2.2 for guests); yields the port. Needs root."""
    ganesha = cache.daemon("ganesha", "/usr/bin/ganesha.nfsd")
    assert ganesha is not None, "there is no nfs-ganesha"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ocelot-nfs-") as name:
        folder = Path(name)
        plugins = next(iter(ganesha.root.glob("usr/lib/*/ganesha")), ganesha.root / "usr/lib/ganesha")
        conf = folder / "ganesha.conf"
        conf.write_text(_GANESHA.format(port=port, plugins=plugins, shared=shared, folder=folder))
        log = folder / "ganesha.log"
        argv = [str(ganesha.program), "-F", "-f", str(conf), "-L", str(log), "-p", str(folder / "pid")]
        with subprocess.Popen(argv, env=ganesha.environment, stdin=subprocess.DEVNULL) as process:
            try:
                await_port(port, process, log)
                yield port
            finally:
                process.kill()


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until somebody listens on ``port`` of 127.0.0.1."""
    for _ in itertools.repeat(None, 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}: {log.read_text() if log.exists() else 'no log'}")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
