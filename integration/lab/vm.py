"""A virtual machine as a test sees it: what hardware it has, what its console says, how it ended.

QEMU's command line is hidden here. Software emulation (TCG) is the default since it works everywhere; OCELOT_ACCEL=kvm
is quicker where it works. ``-M microvm`` sometimes never says a word under emulation (its timer interrupt does not come):
such a start is tried again, and only such a start. Every process is ended by its own pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from integration.lab.cache import Kernel
from integration.lab.devices import Device, free_port

ACCEL = os.environ.get("OCELOT_ACCEL", "tcg")
SILENCE = 40.0
"""Seconds after which a microvm that has not given its sign of life is started again."""
PATIENCE = 90.0
"""How long a test waits for a line, in seconds: a boot takes 6 to 10 on an idle machine, and much more on a busy one."""

# Of the names before the lines of processes, and of colours, the tests want to know nothing
_LABEL = r"\x1b\[\d+m[^\x1b|\n]* (?:\x1b\[31m)?\|\x1b\[0m "
_ESCAPES = re.compile(rf"{_LABEL}|\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")
_PANIC = re.compile(r"Kernel panic|Attempted to kill init")


@dataclass(frozen=True)
class Hardware:
    """``machine``: pc, q35, microvm. ``memory`` in MiB. ``network``: a user-mode network, guest 10.0.2.15, host 10.0.2.2.

    ``forwards`` are guest TCP ports that the host can reach (see ``Vm.port``). ``alive``: a microvm that has not said this
    (regular expression) in time is started again. ``options`` goes to QEMU as it is.
    """

    machine: str = "pc"
    memory: int = 512
    cpus: int = 1
    exit_port: str | None = "org.ocelot.exit"
    network: bool = False
    forwards: tuple[int, ...] = ()
    alive: str = r"."
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a machine ended. ``how`` is QMP's reason: guest-shutdown (powered off), guest-reset, or "" when killed.

    ``port`` is everything the guest wrote on the exit port.
    """

    how: str
    returncode: int
    port: str
    console: str

    @property
    def report(self) -> dict[str, Any]:
        """The exit report: the last JSON line on the exit port."""
        lines = self.port.strip().splitlines()
        assert lines, f"the guest reported nothing on its exit port\n{tail(self.console)}"
        report = json.loads(lines[-1])
        assert isinstance(report, dict)
        return report

    @property
    def status(self) -> int:
        return int(self.report["status"])


class ConsoleError(AssertionError):
    """The console did not say what was expected of it; shows what it did say."""


class Vm:
    """One QEMU process and the daemons its devices need. Use it as a context manager; leaving ends everything."""

    def __init__(
        self,
        kernel: Kernel,
        initrd: Path | None,
        *,
        arguments: str = "",
        hardware: Hardware = Hardware(),
        devices: Sequence[Device] = (),
    ) -> None:
        self.kernel = kernel
        self.initrd = initrd
        self.arguments = arguments
        self.hardware = hardware
        self.devices = tuple(devices)
        self.folder = Path(tempfile.mkdtemp(prefix="ocelot-vm-"))  # short: it holds unix sockets
        self.ports = {port: free_port() for port in hardware.forwards}
        self.events: list[dict[str, Any]] = []
        self._console = bytearray()
        self._cursor = 0
        self._changed = threading.Condition()
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._qmp: socket.socket | None = None
        self._replies: list[dict[str, Any]] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        for attempt in range(1, 7):
            self._launch()
            if self.hardware.machine != "microvm" or self._is_alive():
                return
            print(f"the microvm gave no sign of life for {SILENCE:.0f} s (attempt {attempt}): starting it again")
            self._end_processes()
            self._console.clear()
        raise ConsoleError("the microvm gave no sign of life in six attempts")

    def _is_alive(self) -> bool:
        """A microvm that hangs in its first second says nothing at all; one that says something may still hang later."""
        return self._await(lambda: bool(self._console), 10) and self._await(
            lambda: bool(re.search(self.hardware.alive, clean(bytes(self._console)))), SILENCE
        )

    def _launch(self) -> None:
        for device in self.devices:
            if command := device.daemon(self.folder):
                log = (self.folder / f"{Path(command.argv[0]).name}.log").open("ab")
                self._daemons.append(
                    subprocess.Popen(command.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=command.env)
                )
                log.close()
                if command.socket is not None:
                    ready = command.socket
                    _wait_until(ready.exists, 10, f"{command.argv[0]} did not open its socket")
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=self.folder
            )
        self._spawn(self._read_console, self._process)
        self._connect_qmp()

    def command(self) -> list[str]:
        """QEMU's command line."""
        hardware = self.hardware
        bus = "device" if hardware.machine.startswith("microvm") else "pci"
        argv = ["qemu-system-x86_64", "-M", hardware.machine, "-accel", ACCEL]
        argv += ["-cpu", "host" if ACCEL == "kvm" else "max", "-smp", str(hardware.cpus), "-m", str(hardware.memory)]
        argv += ["-nodefaults", "-display", "none", "-no-reboot", "-no-user-config"]
        argv += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
        argv += ["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"]
        # A microvm says something at once, so that a silent one can be told; elsewhere the kernel's lines are left out. A busy
        # host delays the timer that the kernel would check for, and a kernel that believes it to be broken hangs.
        quiet = "" if bus == "device" else "quiet no_timer_check "
        # What hangs in an emulated microvm is the measuring of a clock that is not used afterwards
        if bus == "device" and ACCEL == "tcg":
            quiet = "tsc_early_khz=2000000 "
        argv += ["-kernel", str(self.kernel.image), "-append", f"console=ttyS0 panic=-1 {quiet}{self.arguments}"]
        if self.initrd is not None:
            argv += ["-initrd", str(self.initrd)]
        if any(device.shares_memory for device in self.devices):
            argv += ["-object", f"memory-backend-memfd,id=mem,size={hardware.memory}M,share=on"]
            argv += ["-machine", "memory-backend=mem"]
        if hardware.exit_port is not None:
            argv += ["-device", f"virtio-serial-{bus}", "-chardev", f"file,id=exit,path={self.folder}/exit"]
            argv += ["-device", f"virtserialport,chardev=exit,name={hardware.exit_port}"]
        if hardware.network or self.ports:
            forwards = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for guest, host in self.ports.items())
            argv += ["-netdev", f"user,id=net{forwards}", "-device", f"virtio-net-{bus},netdev=net"]
        for number, device in enumerate(self.devices):
            argv += device.options(number, bus, self.folder)
        return [*argv, *hardware.options]

    def close(self) -> None:
        """End QEMU and the daemons, now, and remove the folder."""
        self._end_processes()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_processes(self) -> None:
        for process in (self._process, *self._daemons):
            if process is not None and process.poll() is None:
                process.kill()
        for process in (self._process, *self._daemons):
            if process is not None:
                process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdin, self._process.stdout) if self._process is not None else ():
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self._qmp is not None:
            self._qmp.close()
        for left in ("qmp", "exit", *(path.name for path in self.folder.glob("*.sock"))):
            (self.folder / left).unlink(missing_ok=True)
        self._process, self._qmp = None, None
        self._daemons.clear()
        self._threads.clear()

    # -- the console ---------------------------------------------------------------------------------------------------

    @property
    def console(self) -> str:
        """Everything the guest has said, without terminal escapes and carriage returns."""
        with self._changed:
            return clean(bytes(self._console))

    def expect(self, pattern: str, within: float = PATIENCE) -> re.Match[str]:
        """Wait until the console says ``pattern`` (multi-line regular expression) after what was last expected."""
        compiled = re.compile(pattern, re.MULTILINE)
        found: list[re.Match[str]] = []

        def seen() -> bool:
            match = compiled.search(clean(bytes(self._console)), self._cursor)
            if match:
                found.append(match)
                self._cursor = match.end()
            return bool(match)

        if not self._await(seen, within):
            ended = "" if self._running() else " before the machine ended"
            raise ConsoleError(
                f"the console did not say {pattern!r} within {within:.0f} s{ended}\n{tail(self.console)}"
            )
        return found[0]

    def send(self, text: str) -> None:
        """Type ``text`` on the serial console."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def run(self, command: str, within: float = PATIENCE) -> str:
        """Type a shell command at a prompt and return what it printed: the guest must be at a shell on the console."""
        mark = f"{time.monotonic_ns()}"
        self.send(f"echo begin-''{mark}; {command}; echo end-''{mark} $?\n")
        start = self.expect(rf"^begin-{mark}\n", within).end()
        end = self.expect(rf"^end-{mark} \d+$", within)
        return self.console[start : end.start()]

    # -- what the host does to the machine -----------------------------------------------------------------------------

    def port(self, guest: int) -> int:
        """The port on 127.0.0.1 that reaches TCP port ``guest`` of the machine."""
        return self.ports[guest]

    def power_button(self) -> None:
        self.qmp("system_powerdown")

    def ctrl_alt_del(self) -> None:
        keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
        self.qmp("send-key", keys=keys)

    def switch_off(self) -> None:
        """Take the power from a machine that has halted."""
        self.qmp("quit")

    def plug(self, image: Path, *, node: str = "late") -> None:
        """Plug a disk in while the machine runs."""
        self.qmp(
            "blockdev-add",
            **{"driver": "raw", "node-name": node, "file": {"driver": "file", "filename": str(image)}},
        )
        self.qmp("device_add", driver="virtio-blk-pci", drive=node, id=f"{node}-disk")

    def qmp(self, command: str, **arguments: object) -> Any:
        """Send a QMP command and return what it returned."""
        assert self._qmp is not None
        with self._changed:
            before = len(self._replies)
        self._qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        if not self._await(lambda: len(self._replies) > before, 20):
            raise ConsoleError(f"QEMU did not answer {command}")
        reply = self._replies[before]
        if "error" in reply:
            raise ConsoleError(f"QEMU refused {command}: {reply['error']}")
        return reply["return"]

    # -- the end -------------------------------------------------------------------------------------------------------

    def wait(self, within: float = PATIENCE) -> Ending:
        """Wait until the machine is off. A kernel panic is always an error."""
        if not self._await(lambda: not self._running(), within):
            raise ConsoleError(f"the machine still runs after {within:.0f} s\n{tail(self.console)}")
        assert self._process is not None
        for thread in self._threads:
            thread.join(10)
        if _PANIC.search(self.console):
            raise ConsoleError(f"the kernel panicked\n{tail(self.console)}")
        reasons = [event["data"].get("reason", "") for event in self.events if event.get("event") == "SHUTDOWN"]
        exit_file = self.folder / "exit"
        return Ending(
            how=reasons[-1] if reasons else "",
            returncode=self._process.wait(),
            port=exit_file.read_text(errors="replace") if exit_file.exists() else "",
            console=self.console,
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _await(self, condition: Callable[[], bool], within: float) -> bool:
        """Wait for ``condition``, looked at whenever something changed; gives up early when the machine has ended."""
        deadline = time.monotonic() + within
        with self._changed:
            while not condition():
                ended = not self._running() and not any(thread.is_alive() for thread in self._threads)
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    return condition()
                self._changed.wait(min(left, 0.5))
        return True

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read_console(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 65536):
            with self._changed:
                self._console += data
                self._changed.notify_all()
        process.wait()
        with self._changed:
            self._changed.notify_all()

    def _connect_qmp(self) -> None:
        path = self.folder / "qmp"
        _wait_until(lambda: path.exists() or not self._running(), 20, "QEMU did not open its QMP socket")
        if not self._running():
            raise ConsoleError(f"QEMU ended at once: {(self.folder / 'qemu.log').read_text()}")
        self._qmp = socket.socket(socket.AF_UNIX)

        def connected() -> bool:  # the name is there a moment before anybody listens
            assert self._qmp is not None
            return self._qmp.connect_ex(str(path)) == 0

        _wait_until(connected, 10, "QEMU does not listen on its QMP socket")
        self._spawn(self._read_qmp, self._qmp)
        self.qmp("qmp_capabilities")

    def _read_qmp(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                with self._changed:
                    if "event" in message:
                        self.events.append(message)
                    elif "QMP" not in message:
                        self._replies.append(message)
                    self._changed.notify_all()


def clean(data: bytes) -> str:
    return _ESCAPES.sub("", data.decode(errors="replace"))


def tail(console: str, lines: int = 80) -> str:
    """The end of a console, framed, for an error message."""
    shown = console.rstrip().splitlines()[-lines:]
    return "\n".join(["--- console ---", *(f"| {line}" for line in shown), "---------------"])


def _wait_until(condition: Callable[[], bool], within: float, problem: str) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise ConsoleError(problem)
        time.sleep(0.02)
