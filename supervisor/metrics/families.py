"""The families of figures, made from what is known at one moment. Their names are documented in the README.

Cardinality is bounded: labels are the names of processes, and words of small closed sets. A process that is not supervised
any more has no series.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ocelot import __version__
from ocelot.states import Cause, State
from ocelot.wire.protocol import BootTimeline, ProcessStatus
from supervisor.metrics.cgroup_figures import Pressure
from supervisor.metrics.figures import OwnFigures, Usage
from supervisor.metrics.loop_lag import LoopLag

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from supervisor.controlled import LogSource

_COMMON_CAUSES = (Cause.EXIT, Cause.SIGNAL, Cause.SPAWN_FAILED, Cause.OPERATOR)
"""Counted from 0 for every process, so that the first restart is an increase; others appear when they happen."""


def _gauge(name: str, help: str, labels: tuple[str, ...] = ()) -> Any:
    from prometheus_client.metrics_core import GaugeMetricFamily

    return GaugeMetricFamily(name, help, labels=labels)


def _counter(name: str, help: str, labels: tuple[str, ...] = ()) -> Any:
    """``name`` without ``_total``, which the sample gets."""
    from prometheus_client.metrics_core import CounterMetricFamily

    return CounterMetricFamily(name, help, labels=labels)


def processes(statuses: Iterable[ProcessStatus]) -> Iterator[Metric]:
    """What the supervisor itself knows of each process."""
    by_name = ("process",)
    up = _gauge("ocelot_process_up", "Whether the process runs (1) or not (0).", by_name)
    ready = _gauge("ocelot_process_ready", "Whether it is ready, as far as anybody can tell.", by_name)
    state = _gauge("ocelot_process_state", "1 for the state that the process is in.", (*by_name, "state"))
    restarts = _counter("ocelot_process_restarts", "Times it was started again, by cause.", (*by_name, "cause"))
    last_exit = _gauge("ocelot_process_last_exit_status", "How it last ended, 128 + n for a signal.", by_name)
    started = _gauge("ocelot_process_start_time_seconds", "When it was started, since the epoch.", by_name)
    for process in statuses:
        labels = (process.name,)
        up.add_metric(labels, 1.0 if process.pid is not None else 0.0)
        ready.add_metric(labels, 1.0 if process.ready else 0.0)
        for known in State:
            state.add_metric((process.name, known.value), 1.0 if process.state == known else 0.0)
        counts = dict.fromkeys((cause.value for cause in _COMMON_CAUSES), 0) | process.restarts_by_cause
        for cause, count in sorted(counts.items()):
            restarts.add_metric((process.name, cause), count)
        if process.last_exit is not None:
            last_exit.add_metric(labels, process.last_exit.status)
        if process.started_at is not None and process.pid is not None:
            started.add_metric(labels, process.started_at)
    yield from (up, ready, state, restarts, last_exit, started)


def probes(statuses: Iterable[ProcessStatus]) -> Iterator[Metric]:
    """What the probes found. Latencies as a sum and a number, so that any span can be averaged."""
    by_probe = ("process", "probe")
    success = _gauge("ocelot_probe_success", "Whether the last look of the probe was a success.", by_probe)
    latency = _gauge("ocelot_probe_latency_seconds", "How long the last look of the probe took.", by_probe)
    runs = _counter("ocelot_probe_runs", "Looks of the probe, by what they found.", (*by_probe, "result"))
    spent = _counter("ocelot_probe_seconds", "How long all looks of the probe took together.", by_probe)
    for status in statuses:
        for probe in status.health.probes if status.health is not None else ():
            labels = (status.name, probe.role)
            if probe.ok is not None:
                success.add_metric(labels, 1.0 if probe.ok else 0.0)
            if probe.latency is not None:
                latency.add_metric(labels, probe.latency)
            runs.add_metric((*labels, "success"), probe.runs - probe.misses)
            runs.add_metric((*labels, "failure"), probe.misses)
            spent.add_metric(labels, probe.seconds)
    yield from (success, latency, runs, spent)


def schedules(statuses: Iterable[ProcessStatus]) -> Iterator[Metric]:
    """When the processes with a schedule run next, and what they missed."""
    due = _gauge("ocelot_process_next_run_seconds", "When it is to run next, since the epoch.", ("process",))
    skipped = _counter("ocelot_process_skipped_runs", "Times at which the run before still went on.", ("process",))
    for status in statuses:
        if status.schedule is None:
            continue
        if status.schedule.next_run is not None:
            due.add_metric((status.name,), status.schedule.next_run)
        skipped.add_metric((status.name,), status.schedule.skipped)
    yield from (due, skipped)


def usage(usages: Mapping[str, Usage]) -> Iterator[Metric]:
    """What each process uses, with its children."""
    yield from _counted(usages)
    by_name = ("process",)
    for name, help, value in (
        (
            "resident_memory_bytes",
            "Resident memory of the process and its children; shared pages count for each.",
            "resident_memory",
        ),
        ("virtual_memory_bytes", "Virtual memory of the process and its children.", "virtual_memory"),
        (
            "proportional_memory_bytes",
            "Resident memory with shared pages shared out (PSS); asked for with pss=true.",
            "pss",
        ),
        ("open_fds", "Descriptors that the process and its children hold.", "open_fds"),
        ("threads", "Threads of the process and its children.", "threads"),
        ("tasks", "The process and its children: how many there are.", "processes"),
    ):
        family = _gauge(f"ocelot_process_{name}", help, by_name)
        for process, used in usages.items():
            figure = getattr(used, value)
            if figure is not None:
                family.add_metric((process,), figure)
        yield family
    yield from _cgroups(usages)


def _counted(usages: Mapping[str, Usage]) -> Iterator[Metric]:
    by_name = ("process",)
    cpu = _counter("ocelot_process_cpu_seconds", "Processor time of the process and its children.", (*by_name, "mode"))
    read = _counter("ocelot_process_read_bytes", "What it and its children read from storage.", by_name)
    written = _counter("ocelot_process_written_bytes", "What it and its children wrote to storage.", by_name)
    switches = _counter(
        "ocelot_process_context_switches", "Context switches of it and its children.", (*by_name, "kind")
    )
    for process, used in usages.items():
        counted = used.counted
        cpu.add_metric((process, "user"), counted.user_seconds)
        cpu.add_metric((process, "system"), counted.system_seconds)
        if counted.read_bytes is not None:
            read.add_metric((process,), counted.read_bytes)
        if counted.written_bytes is not None:
            written.add_metric((process,), counted.written_bytes)
        switches.add_metric((process, "voluntary"), counted.voluntary_switches)
        switches.add_metric((process, "involuntary"), counted.involuntary_switches)
    yield from (cpu, read, written, switches)


def _cgroups(usages: Mapping[str, Usage]) -> Iterator[Metric]:
    by_name = ("process",)
    groups = {process: used.cgroup for process, used in usages.items() if used.cgroup is not None}
    for name, help, value in (
        ("memory_bytes", "Memory that is charged to its cgroup, caches included.", "memory"),
        ("memory_peak_bytes", "The most that was ever charged to its cgroup.", "memory_peak"),
        ("memory_limit_bytes", "What its cgroup may use at most (memoryMax).", "memory_max"),
    ):
        family = _gauge(f"ocelot_process_cgroup_{name}", help, by_name)
        for process, group in groups.items():
            if getattr(group, value) is not None:
                family.add_metric((process,), getattr(group, value))
        yield family
    throttled = _counter("ocelot_process_cgroup_throttled_seconds", "Time that cpuMax held its cgroup back.", by_name)
    kills = _counter(
        "ocelot_process_cgroup_oom_kills", "Processes in its cgroup that the kernel killed for memory.", by_name
    )
    pressure = _counter(
        "ocelot_process_pressure_seconds",
        "Time that some or all in its cgroup waited (PSI).",
        (*by_name, "resource", "kind"),
    )
    for process, group in groups.items():
        if group.throttled_seconds is not None:
            throttled.add_metric((process,), group.throttled_seconds)
        if group.oom_kills is not None:
            kills.add_metric((process,), group.oom_kills)
        _add_pressure(pressure, (process,), group.pressure)
    yield from (throttled, kills, pressure)


def _add_pressure(family: Any, labels: tuple[str, ...], pressure: Mapping[str, Pressure]) -> None:
    for resource, found in pressure.items():
        family.add_metric((*labels, resource, "some"), found.some)
        if found.full is not None:
            family.add_metric((*labels, resource, "full"), found.full)


def outputs(sources: Iterable[tuple[str, LogSource]]) -> Iterator[Metric]:
    """What the processes wrote, and what became of it."""
    labels = ("process", "stream")
    relayed = _counter("ocelot_process_output_bytes", "What it wrote through ocelot.", labels)
    dropped = _counter("ocelot_process_output_dropped_bytes", "How much of it did not reach its destination.", labels)
    rotations = _counter("ocelot_process_output_rotations", "Times that its log file made way for a new one.", labels)
    failing = _gauge(
        "ocelot_process_output_failing", "1 while nothing of it reaches its destination, else absent.", labels
    )
    for name, source in sources:
        for stream, counters in source.counters.items():
            relayed.add_metric((name, stream), counters.bytes)
            dropped.add_metric((name, stream), counters.dropped)
            rotations.add_metric((name, stream), counters.rotations)
            if counters.problem:
                failing.add_metric((name, stream), 1)
    yield from (relayed, dropped, rotations, failing)


def boot(timeline: BootTimeline) -> Iterator[Metric]:
    """Seconds from the first span of each phase to its last."""
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


def machine(pressure: Mapping[str, Pressure], memory: Mapping[str, int]) -> Iterator[Metric]:
    """The machine as a whole: who runs ocelot in a microVM need not run another exporter beside it."""
    family = _counter(
        "ocelot_machine_pressure_seconds", "Time that some or all tasks waited (PSI).", ("resource", "kind")
    )
    _add_pressure(family, (), pressure)
    yield family
    for key, name, help in (
        ("MemTotal", "total", "Memory of the machine."),
        ("MemAvailable", "available", "Memory that programs could still get without swapping."),
    ):
        if key in memory:
            gauge = _gauge(f"ocelot_machine_memory_{name}_bytes", help)
            gauge.add_metric((), memory[key])
            yield gauge


def ocelot(counters: Mapping[str, float], own: OwnFigures, lag: LoopLag) -> Iterator[Metric]:
    """ocelot itself; the ``process_`` names are those that Prometheus' own clients use."""
    from prometheus_client.metrics_core import HistogramMetricFamily

    info = _gauge("ocelot_build_info", "Always 1; who answers.", ("version", "python"))
    info.add_metric((__version__, ".".join(map(str, sys.version_info[:3]))), 1)
    yield info
    for name, value in sorted(counters.items()):
        counter = _counter(f"ocelot_{name}", f"{name.replace('_', ' ').capitalize()} since ocelot started.")
        counter.add_metric((), value)
        yield counter
    histogram = HistogramMetricFamily(
        "ocelot_loop_busy_seconds",
        "How long the event loop was busy before it looked again: what an event may have waited.",
    )
    histogram.add_metric((), lag.buckets(), lag.total)
    yield histogram
    longest = _gauge("ocelot_loop_busy_max_seconds", "The longest that the event loop was busy at a stretch.")
    longest.add_metric((), lag.longest)
    yield longest
    cpu = _counter("process_cpu_seconds", "Processor time of ocelot itself.")
    cpu.add_metric((), own.cpu_seconds)
    yield cpu
    for name, help, figure in (
        ("process_resident_memory_bytes", "Resident memory of ocelot itself.", own.resident_memory),
        ("process_virtual_memory_bytes", "Virtual memory of ocelot itself.", own.virtual_memory),
        ("process_open_fds", "Descriptors that ocelot itself holds.", own.open_fds),
        ("process_max_fds", "Descriptors that ocelot itself may hold.", own.max_fds),
        ("process_threads", "Threads of ocelot itself.", own.threads),
        ("process_start_time_seconds", "When ocelot itself was started, since the epoch.", own.start_time),
    ):
        gauge = _gauge(name, help)
        gauge.add_metric((), figure)
        yield gauge
