"""Which packages of a runtime an initramfs has a use for: what is not needed would lie in the memory of the machine for good.

A reload can bring a configuration that needs more: it is refused then, in words. A runtime for a container or a disk has
them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from ocelot.config.structs import Bootstrap, Grpc, HttpGet, Probe, Process, Supervise

_EXTRAS = {
    "cron": ("cronsim",),
    "grpc": ("h2", "hpack", "hyperframe"),
    "lz4": ("lz4",),
    "zstd": ("zstandard",),
}
"""The packages behind a feature."""


def left_out(config: Bootstrap, *, compressed_modules: bool) -> frozenset[str]:
    """The packages that ``config`` does not need. ``compressed_modules``: modules may have to be read that zstd compressed."""
    wanted = {feature for process in _processes(config) for feature in _features(process)}
    if compressed_modules:
        wanted.add("zstd")
    return frozenset(name for feature, names in _EXTRAS.items() if feature not in wanted for name in names)


def speaks_tls(config: Bootstrap) -> bool:
    """Whether a process has an https probe."""
    return any(
        isinstance(probe.handler, HttpGet) and probe.handler.scheme == "https"
        for process in _processes(config)
        for probe in _probes(process)
    )


def _features(process: Process) -> Iterator[str]:
    if process.schedule is not None and process.schedule.cron is not None:
        yield "cron"
    if any(isinstance(probe.handler, Grpc) for probe in _probes(process)):
        yield "grpc"
    for stream in (process.log.stdout, process.log.stderr):
        if stream.rotation is not None and stream.rotation.compression == "lz4":
            yield "lz4"


def _processes(config: Bootstrap) -> tuple[Process, ...]:
    handoff = config.post_switch.handoff
    return tuple(handoff.processes.values()) if isinstance(handoff, Supervise) else ()


def _probes(process: Process) -> Iterator[Probe]:
    for probe in (process.startup_probe, process.readiness_probe, process.liveness_probe):
        if probe is not None:
            yield probe
