"""``make bench``: prints what it does, then two tables, as people and the README read them."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from integration.bench import boots, desk, picture, readme, report, systems
from integration.bench.figures import Figure, Table
from integration.lab import cache
from integration.lab.vm import ACCEL, ConsoleError
from ocelot.errors import OcelotError

STEPS = tuple(range(80, 161, 8))
"""MiB that are tried for the least memory."""

LIMIT = 9 * 2**20
"""What an initramfs without kernel modules may weigh, in bytes."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Size and speed, next to others in the same run.")
    parser.add_argument("--runs", type=int, default=3, help="boots of each system (3)")
    parser.add_argument("--only", choices=["boot", "desk"], help="only one of the tables")
    parser.add_argument("--quick", action="store_true", help="on this machine: a tenth of the time, and of the truth")
    parser.add_argument("--measurement", choices=list(desk.MEASUREMENTS), help="on this machine: only this one")
    parser.add_argument("-o", "--output", help="write the tables there too")
    parser.add_argument("--json", metavar="FILE", help="write what was measured on this machine there")
    parser.add_argument("--svg", metavar="FILE", help="draw what was measured on this machine there")
    parser.add_argument(
        "--readme", action="store_true", help="write the tables of this machine, and the picture, into the README"
    )
    parser.add_argument(
        "--from", dest="earlier", metavar="FILE", help="measure nothing: this is the --json of an earlier run"
    )
    options = parser.parse_args()
    if options.readme and (options.quick or options.measurement or options.only == "boot"):
        parser.error("--readme is for a whole run on this machine: without --quick, --measurement and --only boot")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then too
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    tables: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ocelot-bench-") as name:
        if options.only != "desk" and not options.earlier:
            tables.append(machines(Path(name), options.runs, say).markdown())
        if options.only != "boot":
            tables.append(_at_home(Path(name), options, say))
    text = "\n\n".join(tables)
    print(f"\n{text}\n")
    if options.output:
        Path(options.output).write_text(f"{text}\n")
    return 0


# -- in virtual machines ---------------------------------------------------------------------------


def machines(folder: Path, runs: int, say: Callable[[str], None]) -> Table:
    kernel = cache.kernel()
    if kernel is None:
        raise OcelotError("cannot boot: there is no kernel in the cache", hint="run: make machine")
    columns = ["ocelot", "busybox script", "systemd", "systemd-bare"]
    table = Table(f"A microVM ({ACCEL}, one CPU, Debian's kernel {kernel.version}), medians of {runs}", columns)
    made = _systems(folder, kernel, table, say)
    taken: dict[str, list[boots.Boot]] = {system.name: [] for system in made}
    for number in range(1, runs + 1):  # in turns, so that a busy minute of the host falls on all of them
        for system in made:
            one = boots.boot(system, kernel, folder)
            taken[system.name].append(one)
            say(f"run {number}: {system.name} starts its service {one.service:.2f} s after /init")
    _speed(table, taken)
    for line in _longest(taken["ocelot"][-1]):
        say(line)
    _sizes(table, made)
    least: dict[str, Figure | str] = {}
    for system in made:
        found, failed = boots.least_memory(system, kernel, folder, STEPS, say)
        least[system.name.replace("-", "_")] = (
            f"{found} MiB{'' if failed else ' or less'}" if found else f"more than {failed} MiB"
        )
    table.add("least memory that boots and supervises", **least)
    _explain(table, made[0].size)
    return table


def _systems(folder: Path, kernel: cache.Kernel, table: Table, say: Callable[[str], None]) -> list[systems.System]:
    say("building the initramfs of ocelot (its compressed base is kept in the cache)")
    made = [systems.ocelot(folder, kernel), systems.busybox(folder, kernel)]
    try:
        say("building the root of systemd")
        made += [systems.systemd(folder, kernel, bare=bare, say=say) for bare in (False, True)]
    except (OSError, subprocess.CalledProcessError) as error:
        table.notes.append(f"systemd could not be measured: its Debian could not be made ({error}).")
    return made


def _speed(table: Table, taken: dict[str, list[boots.Boot]]) -> None:
    def row(what: str, unit: str, pick: Callable[[boots.Boot], float], *, skip: str = "") -> None:
        cells: dict[str, Figure | str] = {
            name.replace("-", "_"): Figure(tuple(pick(one) for one in found), unit)
            for name, found in taken.items()
            if name != skip
        }
        table.add(what, **cells)

    row(
        "/init started to the service's first instruction, less waits for the disk",
        "s",
        lambda one: one.service - one.waits,
    )
    row("kernel's first message to /init (with unpacking)", "s", lambda one: one.kernel)
    row("memory in use afterwards, kernel included", "MiB", lambda one: one.held)
    row("of it PID 1 (PSS)", "MiB", lambda one: one.init, skip="busybox")
    row("PID 1 and its helpers (PSS)", "MiB", lambda one: one.everything, skip="busybox")


def _longest(one: boots.Boot) -> list[str]:
    """Where ocelot's time went, for whoever reads the run: the spans that have none inside."""
    inner = {span["phase"] for span in one.spans}
    leaves = [
        (span["end"] - span["start"], f"{span['phase']}.{span['name']}".lstrip("."))
        for span in one.spans
        if f"{span['phase']}.{span['name']}".lstrip(".") not in inner and span["end"] is not None
    ]
    return [f"  ocelot: {seconds:.2f} s {name}" for seconds, name in sorted(leaves, reverse=True)[:6]]


def _sizes(table: Table, made: list[systems.System]) -> None:
    cells: dict[str, Figure | str] = {
        system.name.replace("-", "_"): Figure((system.size / 2**20,), "MiB") for system in made[:2]
    }
    cells["systemd"] = cells["systemd_bare"] = "(as busybox)"
    table.add("initramfs without kernel modules (zstd)", **cells)


def _explain(table: Table, size: int) -> None:
    verdict = "kept" if size <= LIMIT else "broken"
    table.notes += [
        "All do the same work: load virtio_blk and ext4 with what they need, mount the ext4 root, switch, start one service; "
        "ocelot also opens the host's exit port and watches the power button.",
        "systemd and systemd-bare get their root from the busybox initramfs. systemd: a simple service as people write it, "
        "so udev, the journal and tmpfiles come first. systemd-bare: DefaultDependencies=no and nothing else in the machine.",
        "The busybox script becomes its service: nothing is left that could reap, restart or power off.",
        f"The limit for the initramfs, {LIMIT / 2**20:.0f} MiB, is {verdict}.",
    ]


# -- on this machine -------------------------------------------------------------------------------


def _at_home(folder: Path, options: argparse.Namespace, say: Callable[[str], None]) -> str:
    effort = desk.QUICK if options.quick else desk.Effort()
    if options.earlier:
        results = report.read(json.loads(Path(options.earlier).read_text()))
    else:
        results = desk.measure(folder, effort, say, only=options.measurement)
    if options.json:
        Path(options.json).write_text(json.dumps(report.document(results), indent=1) + "\n")
    if options.svg:
        Path(options.svg).write_text(picture.svg(results))
    if options.readme:
        readme.write(results, cache.CHECKOUT)
    return report.markdown(results)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OcelotError, ConsoleError, OSError) as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        sys.exit(1)
