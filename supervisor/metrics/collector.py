"""The figures for Prometheus, collected when it asks.

prometheus_client is imported at the first scrape, and only its registry, its families and its OpenMetrics writer: the
package's own ``__init__`` pulls in http.server, wsgiref, ssl and urllib, 3 MiB and 59 modules that nothing here uses (0.2 MiB
and 9 modules remain). So its text format 0.0.4, which lies behind those, is written here; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocelot.wire.routes import OPENMETRICS, TEXT_METRICS
from supervisor.metrics import cgroup_figures, families, figures
from supervisor.metrics.loop_lag import LoopLag

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

    from supervisor.controlled import Controlled
    from supervisor.snapshots import MeasuresSnapshot

_PACKAGE = "prometheus_client"


def _prepare() -> None:
    """Let parts of prometheus_client be imported without running its ``__init__``."""
    if _PACKAGE in sys.modules:
        return
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec(_PACKAGE)
    if spec is not None:  # else the import that follows says that it is missing
        sys.modules[_PACKAGE] = module_from_spec(spec)


@dataclass
class Measures:
    """What is remembered between two scrapes; made by the first one, and kept by the machine."""

    meter: figures.Meter = field(default_factory=figures.Meter)
    lag: LoopLag = field(default_factory=LoopLag.install)

    def snapshot(self) -> MeasuresSnapshot:
        """For an image that replaces this one: its counters go on from here."""
        from supervisor.snapshots import MeasuresSnapshot

        lag = self.lag
        return MeasuresSnapshot(accounts=self.meter.snapshot(), busy=lag.counts, seconds=lag.total, longest=lag.longest)

    def restore(self, kept: MeasuresSnapshot) -> None:
        """Go on from where the image before this one was."""
        self.meter.restore(kept.accounts)
        self.lag.restore(kept.busy, kept.seconds, kept.longest)


def measures(machine: Controlled) -> Measures:
    """Those of ``machine``; the first call begins to measure the event loop."""
    if not isinstance(machine.measures, Measures):
        machine.measures = Measures()
    return machine.measures


async def read_usage(machine: Controlled, *, pss: bool = False) -> dict[str, figures.Usage]:
    """What every supervised process uses now, with its children, by name."""
    statuses = machine.status().processes
    meter = measures(machine).meter
    names = {status.name for status in statuses}
    meter.forget([name for name in meter.known if name not in names])
    supervisor = machine.supervisor
    return await meter.read(
        {status.name: status.pid for status in statuses if status.pid is not None},
        pss=pss,
        cgroups=supervisor.cgroups if supervisor is not None else None,
    )


async def expose(machine: Controlled, accept: str, *, pss: bool = False) -> tuple[bytes, str]:
    """The figures as text, and its media type: OpenMetrics 1.0 if ``accept`` names it, else the text format 0.0.4.

    ``pss``: with the proportional memory, which costs the kernel a walk over every page table.
    """
    registry = await collect(machine, pss=pss)
    if "application/openmetrics-text" in accept:
        from prometheus_client.openmetrics.exposition import generate_latest

        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        return text, OPENMETRICS
    return text_format(registry.collect()), TEXT_METRICS


async def collect(machine: Controlled, *, pss: bool = False) -> CollectorRegistry:
    """A registry that holds the figures of now."""
    _prepare()
    from prometheus_client.registry import CollectorRegistry

    usages = await read_usage(machine, pss=pss)
    supervisor = machine.supervisor
    statuses = machine.status().processes
    found = [
        *families.processes(statuses),
        *families.probes(statuses),
        *families.schedules(statuses),
        *families.usage(usages),
        *families.outputs(supervisor.outputs.items() if supervisor is not None else ()),
        *families.boot(machine.timeline()),
        *families.machine(cgroup_figures.pressure("/proc/pressure"), _memory()),
        *families.ocelot(machine.counters(), figures.own(), measures(machine).lag),
    ]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(found))
    return registry


def _memory() -> dict[str, int]:
    """/proc/meminfo in bytes, proc_meminfo(5)."""
    found = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdigit():
                found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


class _Collected:
    """A collector of families that are already there: the registry wants one, and asks it synchronously."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families


def text_format(families: Iterable[Metric]) -> bytes:
    """Counters, gauges and histograms in Prometheus' text format 0.0.4."""
    from prometheus_client.utils import floatToGoString

    lines = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"# HELP {name} {_escape(family.documentation)}\n# TYPE {name} {family.type}\n")
        for sample in family.samples:
            labels = ",".join(f'{key}="{_escape(value, quotes=True)}"' for key, value in sorted(sample.labels.items()))
            braces = f"{{{labels}}}" if labels else ""
            lines.append(f"{sample.name}{braces} {floatToGoString(sample.value)}\n")  # type: ignore[no-untyped-call]
    return "".join(lines).encode("utf-8", "replace")


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
