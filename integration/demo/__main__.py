"""``make boot`` and ``make shell``: build an initramfs, boot it, look at it from inside and outside, power it off."""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from integration.demo import tree
from integration.lab import cache, roots
from integration.lab.devices import Device, Drive
from integration.lab.vm import ACCEL, ConsoleError, Ending, Hardware, Vm
from ocelot import log
from ocelot.errors import OcelotError

CONFIG = Path(__file__).with_name("bootstrap.yaml")
SHELL_CONFIG = CONFIG.with_name("shell.yaml")
NETWORK = "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none"
WEB, METRICS, VISITOR = 80, 9464, 8023


class Story:
    """Tells what happens, in colour on a terminal, and remembers what went wrong."""

    def __init__(self) -> None:
        self._colour = log.wants_colour(1)
        self._began = time.monotonic()
        self.failures: list[str] = []

    def chapter(self, title: str) -> None:
        seconds = time.monotonic() - self._began
        self._print(f"\n==> {title}", "1;36", f"  [{seconds:.0f} s]")

    def command(self, where: str, command: str) -> None:
        self._print(f"{where}$ {command}", "1")

    def show(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"    {line}", flush=True)

    def check(self, what: str, good: bool) -> None:
        self._print(f"  {'ok' if good else 'FAILED'}: {what}", "32" if good else "1;31")
        if not good:
            self.failures.append(what)

    def _print(self, text: str, style: str, rest: str = "") -> None:
        print((f"\x1b[{style}m{text}\x1b[0m" if self._colour else text) + rest, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make boot", description="Boot a microVM whose PID 1 is ocelot.")
    parser.add_argument("--shell", action="store_true", help="an interactive guest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ocelot-demo-") as name:
        try:
            return _shell(Path(name)) if options.shell else _demonstrate(Path(name))
        except (OcelotError, ConsoleError, OSError, subprocess.CalledProcessError) as error:
            print(f"\nfailed: {error}", file=sys.stderr)
            return 1


def _demonstrate(folder: Path) -> int:
    story = Story()
    story.chapter("A root file system: busybox, nginx, four scripts, no Python")
    disk = _disk(folder, story)
    story.chapter("An initramfs: ocelot, its runtime, the configuration, the kernel modules that it needs")
    initrd = folder / "initramfs"
    _build_initramfs(CONFIG, initrd, story)
    story.chapter(f"A microVM ({ACCEL}); this is its console")
    hardware = Hardware(forwards=(WEB, METRICS, VISITOR))
    with _machine(initrd, Drive(disk), hardware) as vm:
        _boot(vm, story)
        _look_inside(vm, story)
        _look_from_outside(vm, story)
        ending = _power_off(vm, story)
    _judge(ending, disk, story)
    if story.failures:
        story.chapter(f"{len(story.failures)} of the steps failed: {'; '.join(story.failures)}")
        return 1
    story.chapter("Done. Try also: make shell, and make boot ACCEL=kvm")
    return 0


def _disk(folder: Path, story: Story) -> Path:
    made = tree.make(folder / "tree")
    image = roots.ext4(made, folder / "demo.ext4", megabytes=96, label="demo")
    files = sum(1 for path in made.rglob("*") if path.is_file() and not path.is_symlink())
    story.show(f"{files} files, an ext4 disk with the label demo")
    return image


def _kernel() -> cache.Kernel:
    kernel = cache.kernel()
    if kernel is None:
        raise OcelotError("cannot boot: there is no kernel in the cache", hint="run: make machine")
    return kernel


def _build_initramfs(config: Path, output: Path, story: Story) -> None:
    kernel = _kernel()
    argv = ["initramfs", "build", "-f", str(config), "-o", str(output), "--kernel-version", kernel.version]
    argv += ["--modules-root", str(kernel.modules_root), "--compress", "zstd", "--level", "3"]
    story.command(
        "host", "ocelot " + " ".join(argv).replace(str(output.parent) + "/", "").replace(str(cache.CHECKOUT) + "/", "")
    )
    done = subprocess.run([sys.executable, "-m", "ocelot", *argv], capture_output=True, text=True, cwd=cache.CHECKOUT)
    story.show(done.stdout + done.stderr)
    if done.returncode != 0:
        raise OcelotError("cannot build the initramfs")


def _machine(initrd: Path, disk: Device, hardware: Hardware) -> Vm:
    return Vm(_kernel(), initrd, arguments=NETWORK, hardware=hardware, devices=[disk])


def _boot(vm: Vm, story: Story) -> None:
    shown = 0

    def follow(pattern: str, within: float = 120) -> None:
        nonlocal shown
        deadline = time.monotonic() + within
        while True:
            lines = vm.console.split("\n")[:-1]
            for line in lines[shown:]:
                story.show(line)
            shown = len(lines)
            if re.search(pattern, "\n".join(lines)):
                return
            vm.expect(r"\n", max(0.1, deadline - time.monotonic()))

    follow("the page is written")
    follow("this is too much")
    _retry(lambda: _fetch(vm, WEB), "the web server")


def _look_inside(vm: Vm, story: Story) -> None:
    story.chapter("Inside the guest: where the time went")
    story.command("guest", "ocelotctl boot")
    timeline = _ask(vm, "ocelotctl boot")
    story.show(timeline)
    story.check("the timeline has the switch of the root", "switchRoot" in timeline)
    story.chapter("Inside the guest: the processes, after flaky has crashed at least once")
    _retry(lambda: re.search(r"flaky +\S.*", _ask(vm, "ocelotctl status")), "flaky")
    story.command("guest", "ocelotctl status")
    status = _ask(vm, "ocelotctl status")
    story.show(status)
    for name in ("prepare", "web", "flaky", "visitor"):
        story.check(f"{name} is there", name in status)
    story.command("guest", "cat /proc/1/comm; ls /bin /lib | grep -c python; free -m")
    story.show(_ask(vm, "cat /proc/1/comm; ls /bin /lib | grep -c python; free -m"))


def _look_from_outside(vm: Vm, story: Story) -> None:
    story.chapter("From the host: the web page, and the metrics")
    story.command("host", f"curl http://127.0.0.1:{vm.port(WEB)}/")
    page = _fetch(vm, WEB)
    story.show(page)
    story.check("nginx answers with what the oneshot wrote", "hello from a microVM" in page)
    story.command("host", f"curl http://127.0.0.1:{vm.port(METRICS)}/metrics")
    metrics = _fetch(vm, METRICS, "/metrics")
    lines = [line for line in metrics.splitlines() if line and not line.startswith("#")]
    story.show("\n".join(line for line in lines if re.search(r"flaky|web", line) and not line.endswith(" 0.0")))
    story.show(f"... {len(lines)} samples")
    restarts = [line for line in lines if "restarts" in line and "flaky" in line]
    story.check("flaky was restarted", any(float(line.split()[-1]) >= 1 for line in restarts))


def _power_off(vm: Vm, story: Story) -> Ending:
    story.chapter("Powering off, in order; the console again")
    story.command("guest", "ocelotctl poweroff")
    before = len(vm.console)
    _ask(vm, "ocelotctl poweroff")
    ending = vm.wait(90)
    story.show(ending.console[before:])
    return ending


def _judge(ending: Ending, disk: Path, story: Story) -> None:
    story.chapter("What the guest reported to the host")
    story.show(ending.port)
    story.check(f"the exit status is {ending.status}", ending.status == 0)
    story.check("the machine was powered off by itself", ending.how == "guest-shutdown")
    story.check("the disk's journal needs no recovery", not roots.needs_recovery(disk))


def _shell(folder: Path) -> int:
    """An interactive guest: its serial console is this terminal."""
    story = Story()
    disk = _disk(folder, story)
    initrd = folder / "initramfs"
    _build_initramfs(SHELL_CONFIG, initrd, story)
    vm = Vm(_kernel(), initrd, hardware=Hardware(), devices=[Drive(disk)])
    story.chapter(f"A microVM ({ACCEL}) with a shell; exit powers it off, Ctrl-A X ends QEMU at once")
    story.show("Try: ocelotctl status, ocelotctl boot, ocelotctl logs web, wget -qO- 127.0.0.1")
    argv = ["mon:stdio" if word == "chardev:console" else word for word in vm.command()]
    at = argv.index("stdio,id=console,signal=off")
    try:
        status = subprocess.call(argv[: at - 1] + argv[at + 1 :])
        report = vm.folder / "exit"
        if report.exists():
            story.chapter("What the guest reported to the host")
            story.show(report.read_text())
    finally:
        vm.close()
    return status


def _ask(vm: Vm, command: str) -> str:
    """Run a command in the guest, through the process ``visitor``, and return what it printed."""
    with socket.create_connection(("127.0.0.1", vm.port(VISITOR)), timeout=60) as connection:
        connection.sendall(command.encode() + b"\n")
        with connection.makefile("rb") as answer:
            return answer.read().decode(errors="replace")


def _fetch(vm: Vm, port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{vm.port(port)}{path}", timeout=20) as answer:
        content: bytes = answer.read()
        return content.decode()


def _retry(attempt: Callable[[], object], what: str, within: float = 60) -> None:
    """Try until it works; the guest's services come up one after the other."""
    deadline = time.monotonic() + within
    while True:
        try:
            if attempt():
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise OcelotError(f"cannot reach {what} in the guest: {error}") from error
        if time.monotonic() > deadline:
            raise OcelotError(f"cannot see what was expected of {what} in the guest")
        time.sleep(0.5)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
