"""Boots in virtual machines: how long from the kernel's start of /init to the service, and what memory is left after it.

All times are those of the guest's kernel log, in which /init's start and the service's first instruction both stand.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.bench.systems import System
from integration.lab import cache
from integration.lab.devices import Drive
from integration.lab.vm import ConsoleError, Hardware, Vm


@dataclass(frozen=True)
class Boot:
    """One boot. Seconds: ``kernel`` up to /init, ``service`` from there, ``waits`` for the disk within that. MiB: the rest."""

    kernel: float
    service: float
    waits: float
    init: float
    everything: float
    held: float
    spans: tuple[dict[str, Any], ...]


def boot(system: System, kernel: cache.Kernel, folder: Path, *, memory: int = 512, within: float = 90) -> Boot:
    """Boot once on a fresh copy of the root. Raises ConsoleError when the service does not come, twice, in time."""
    disk = folder / "disk.ext4"
    shutil.copyfile(system.image, disk)
    with Vm(kernel, system.initrd, hardware=Hardware(memory=memory), devices=[Drive(disk)]) as vm:
        vm.expect("^bench-end", within)
        first = len(vm.console)
        if system.name != "busybox":  # whose service is PID 1 itself
            vm.expect("^bench-again yes", within)
        return _read(vm.console[:first])


def _read(console: str) -> Boot:
    marks = {name: float(at) for at, name in re.findall(r"^\[ *([\d.]+)\] .*?(Run /init|bench-\w+)", console, re.M)}
    start = marks["Run /init"]
    found = re.search(r"^bench-boot (\{.*\})$", console, re.M)
    spans = tuple(json.loads(found[1])["spans"]) if found else ()
    waits = marks.get("bench-found", 0.0) - marks.get("bench-wait", 0.0)
    waits += sum(float(found[1]) for span in spans if (found := re.match(r"([\d.]+) s of it waiting", span["detail"])))
    resident = [
        (name, int(size) / 1024) for name, size in re.findall(r"^bench-pss (\S+) Pss: +(\d+) kB", console, re.M)
    ]
    memory = {name: int(size) / 1024 for name, size in re.findall(r"^(Mem\w+): +(\d+) kB", console, re.M)}
    return Boot(
        kernel=start,
        service=marks["bench-service"] - start,
        waits=waits,
        init=resident[0][1] if resident else 0.0,
        everything=sum(size for _, size in resident),
        held=memory["MemTotal"] - memory["MemAvailable"],
        spans=spans,
    )


def least_memory(
    system: System, kernel: cache.Kernel, folder: Path, steps: Sequence[int], say: Callable[[str], None]
) -> tuple[int | None, int]:
    """The least of ``steps`` (MiB, ascending) in which the service starts and is restarted, found by halving.

    Also the greatest that did not work, or 0.
    """
    low, high = -1, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        works = True
        try:
            boot(system, kernel, folder, memory=steps[middle])
        except (ConsoleError, KeyError):
            works = False
        say(f"{system.name} in {steps[middle]} MiB: {'boots and supervises' if works else 'does not'}")
        low, high = (low, middle) if works else (middle, high)
    return steps[high] if high < len(steps) else None, steps[low] if low >= 0 else 0
