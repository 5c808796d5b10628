"""From the configuration of a stream to its sink.

What not everybody needs is imported when somebody does: ``logfile``, ``forwarding`` (syslog, kernel log), and ``formats`` for what
is made of lines on their way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ocelot import log
from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.output.sinks import Counters, FileSink, Shared, Sink

if TYPE_CHECKING:
    from supervisor.output.formats import Labels
    from supervisor.output.logfile import SharedFile
    from supervisor.output.shared_logs import LogFiles


class Surroundings(Protocol):
    """What the sinks of a set share; ``relay.Relay`` is it. Each is made when the first stream needs it."""

    @property
    def files(self) -> LogFiles: ...

    def labels(self, *, colour: bool) -> Labels: ...


def sink_for(
    config: structs.Stream,
    *,
    name: str,
    stream: str,
    inherit: Writer,
    around: Surroundings,
    counters: Counters,
    label: bool = False,
) -> Sink | None:
    """The sink for one stream of the process ``name``; None where nothing is relayed (direct, null).

    ``label``: name the process in front of its lines where people read them.
    Raises OcelotError for a destination that cannot be, or a format or compression that this ocelot cannot do.
    """
    sink: Sink
    match config.destination:
        case structs.Inherit():
            if label and config.format == "text" and log.for_people(inherit.fileno()):
                from supervisor.output.formats import Labelled

                colour = log.wants_colour(inherit.fileno())
                return Labelled(inherit, name, stream, around.labels(colour=colour))
            sink = Shared(inherit)
        case structs.File(path=path):
            if config.rotation is not None and config.rotation.compression != "none":
                from supervisor.output.rotation import compressor

                compressor(config.rotation.compression)
            sink = _file_sink(around.files.join(path, config.rotation), counters)
        case structs.Syslog(address=address):
            from supervisor.output.forwarding import SyslogSink, udp_address

            if address.startswith("udp://"):
                udp_address(address)
            return SyslogSink(address, name, stream)
        case structs.Kmsg():
            from supervisor.output.forwarding import KmsgSink

            return KmsgSink(name, stream)
        case _:
            return None
    if config.format == "json":
        from supervisor.output.formats import JsonLines

        return JsonLines(sink, name, stream)
    return sink


def _file_sink(file: SharedFile, counters: Counters) -> FileSink:
    from supervisor.output.logfile import LogFile

    if isinstance(file, LogFile):
        return FileSink(file, counters)
    from supervisor.output.aside import AsideFile, AsideSink

    assert isinstance(file, AsideFile)
    return AsideSink(file, counters)
