"""The figures for Prometheus, collected when it asks.

prometheus_client is imported at the first scrape, and only its registry, its families and its OpenMetrics writer: the
package's own ``__init__`` pulls in http.server, wsgiref, ssl and urllib, 3 MiB and 59 modules that nothing here uses (0.2 MiB
and 9 modules remain). So its text format 0.0.4, which lies behind those, is written here; a test compares the two.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ocelot import __version__
from ocelot.states import State
from ocelot.wire.protocol import BootTimeline, ProcessStatus
from ocelot.wire.routes import OPENMETRICS, TEXT_METRICS
from supervisor.control import Controlled, LogSource
from supervisor.figures import Figures, own_start_time, read_all

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

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


async def expose(machine: Controlled, accept: str) -> tuple[bytes, str]:
    """The figures as text, and its media type: OpenMetrics 1.0 if ``accept`` names it, else the text format 0.0.4."""
    registry = await collect(machine)
    if "application/openmetrics-text" in accept:
        from prometheus_client.openmetrics.exposition import generate_latest

        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        return text, OPENMETRICS
    return text_format(registry.collect()), TEXT_METRICS


async def collect(machine: Controlled) -> CollectorRegistry:
    """A registry that holds the figures of now."""
    _prepare()
    from prometheus_client.registry import CollectorRegistry

    processes = machine.status().processes
    me = os.getpid()
    figures = await read_all([me, *(process.pid for process in processes if process.pid is not None)])
    supervisor = machine.supervisor
    families = [
        *_processes(processes, figures),
        *_outputs(supervisor.outputs.items() if supervisor is not None else ()),
        *_boot(machine.timeline()),
        *_ocelot(machine, figures.get(me)),
    ]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return registry


class _Collected:
    """A collector of families that are already there: the registry wants one, and asks it synchronously."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, help: str, labels: tuple[str, ...] = ()) -> Any:
    from prometheus_client.metrics_core import GaugeMetricFamily

    return GaugeMetricFamily(name, help, labels=labels)


def _counter(name: str, help: str, labels: tuple[str, ...] = ()) -> Any:
    """``name`` without ``_total``, which the sample gets."""
    from prometheus_client.metrics_core import CounterMetricFamily

    return CounterMetricFamily(name, help, labels=labels)


def _processes(processes: list[ProcessStatus], figures: dict[int, Figures]) -> Iterator[Metric]:
    by_name = ("process",)
    up = _gauge("ocelot_process_up", "Whether the process runs (1) or not (0).", by_name)
    state = _gauge("ocelot_process_state", "1 for the state that the process is in.", (*by_name, "state"))
    restarts = _counter("ocelot_process_restarts", "Times it was started again, by cause.", (*by_name, "cause"))
    last_exit = _gauge("ocelot_process_last_exit_status", "How it last ended, 128 + n for a signal.", by_name)
    started = _gauge("ocelot_process_start_time_seconds", "When it was started, since the epoch.", by_name)
    for process in processes:
        labels = (process.name,)
        up.add_metric(labels, 1.0 if process.pid is not None else 0.0)
        for known in State:
            state.add_metric((process.name, known.value), 1.0 if process.state == known else 0.0)
        for cause, count in sorted(process.restarts_by_cause.items()):
            restarts.add_metric((process.name, cause), count)
        if process.last_exit is not None:
            last_exit.add_metric(labels, process.last_exit.status)
        if process.started_at is not None and process.pid is not None:
            started.add_metric(labels, process.started_at)
    yield from (up, state, restarts, last_exit, started)
    yield from _usage(processes, figures)


def _usage(processes: list[ProcessStatus], figures: dict[int, Figures]) -> Iterator[Metric]:
    by_name = ("process",)
    cpu = _counter("ocelot_process_cpu_seconds", "Processor time of its main process.", by_name)
    memory = _gauge("ocelot_process_resident_memory_bytes", "Resident memory of its main process.", by_name)
    fds = _gauge("ocelot_process_open_fds", "Descriptors that its main process holds.", by_name)
    threads = _gauge("ocelot_process_threads", "Threads of its main process.", by_name)
    for process in processes:
        found = figures.get(process.pid) if process.pid is not None else None
        if found is None:
            continue
        labels = (process.name,)
        cpu.add_metric(labels, found.cpu_seconds)
        memory.add_metric(labels, found.resident_memory)
        threads.add_metric(labels, found.threads)
        if found.open_fds is not None:
            fds.add_metric(labels, found.open_fds)
    yield from (cpu, memory, fds, threads)


def _outputs(outputs: Iterable[tuple[str, LogSource]]) -> Iterator[Metric]:
    labels = ("process", "stream")
    relayed = _counter("ocelot_process_output_bytes", "What it wrote through ocelot.", labels)
    dropped = _counter("ocelot_process_output_dropped_bytes", "How much of it did not reach its destination.", labels)
    for name, source in outputs:
        for stream, counters in source.counters.items():
            relayed.add_metric((name, stream), counters.bytes)
            dropped.add_metric((name, stream), counters.dropped)
    yield from (relayed, dropped)


def _boot(timeline: BootTimeline) -> Iterator[Metric]:
    phases = _gauge("ocelot_boot_phase_seconds", "How long each phase of the boot took.", ("phase",))
    extents: dict[str, tuple[float, float]] = {}
    for span in timeline.spans:
        if span.end is not None:
            phase = span.phase or span.name
            start, end = extents.get(phase, (span.start, span.end))
            extents[phase] = min(start, span.start), max(end, span.end)
    for phase, (start, end) in extents.items():
        phases.add_metric((phase,), end - start)
    yield phases


def _ocelot(machine: Controlled, own: Figures | None) -> Iterator[Metric]:
    info = _gauge("ocelot_build_info", "Always 1; who answers.", ("version", "python"))
    info.add_metric((__version__, ".".join(map(str, sys.version_info[:3]))), 1)
    yield info
    for name, value in sorted(machine.counters().items()):
        counter = _counter(f"ocelot_{name}", f"{name.replace('_', ' ').capitalize()} since ocelot started.")
        counter.add_metric((), value)
        yield counter
    if own is None:
        return
    cpu = _counter("process_cpu_seconds", "Processor time of ocelot itself.")
    cpu.add_metric((), own.cpu_seconds)
    yield cpu
    for name, help, figure in (
        ("process_resident_memory_bytes", "Resident memory of ocelot itself.", own.resident_memory),
        ("process_virtual_memory_bytes", "Virtual memory of ocelot itself.", own.virtual_memory),
        ("process_open_fds", "Descriptors that ocelot itself holds.", own.open_fds),
        ("process_threads", "Threads of ocelot itself.", own.threads),
        ("process_start_time_seconds", "When ocelot itself was started, since the epoch.", own_start_time()),
    ):
        if figure is not None:
            gauge = _gauge(name, help)
            gauge.add_metric((), figure)
            yield gauge


def text_format(families: Iterable[Metric]) -> bytes:
    """Counters and gauges in Prometheus' text format 0.0.4."""
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
