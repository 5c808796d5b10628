"""What belongs to a process, put together: its output, its health, its sockets, its schedule.

Each of them is imported only for a process whose configuration asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.linux.descriptors import Writer
from supervisor.lifecycle import Change
from supervisor.output.process_output import Output
from supervisor.output.relay import Relay
from supervisor.process.supervised import Process
from supervisor.process.surroundings import Schedule, Sockets, Surroundings
from supervisor.replicas import base_of

if TYPE_CHECKING:
    from supervisor.snapshots import SocketSnapshot

OutputFactory = Callable[[str, structs.Log], Output]
"""For processes without a terminal of their own."""


class Assembly:
    """Makes processes. ``outputs``: by the name of the process. ``publish`` is told of every change of theirs.

    Sockets belong to the entry of the configuration: its replicas share them, and they stay open when it is scaled to none.
    """

    def __init__(
        self,
        around: Surroundings,
        publish: Callable[[Change], None],
        *,
        stdout: Writer,
        stderr: Writer,
        relay: Relay,
        make_output: OutputFactory | None = None,
    ) -> None:
        self.outputs: dict[str, Output] = {}
        self._listening: dict[str, Sockets] = {}  # by the name of the entry
        self._around = around
        self._publish = publish
        self._relay = relay
        self._make_output = make_output or partial(Output, stdout=stdout, stderr=stderr, relay=relay)
        self._stdout, self._stderr = stdout, stderr

    def make(self, name: str, config: structs.Process) -> Process:
        self.outputs[name] = self._output(name, config)
        process = Process(name, config, self._around, self.outputs[name], self._publish)
        self._look_after(process)
        process.schedule = schedule_of(process)
        return process

    def _output(self, name: str, config: structs.Process) -> Output:
        if config.stdin != "pty":
            return self._make_output(name, config.log)
        from supervisor.output.terminal_output import TerminalOutput

        return TerminalOutput(name, config.log, stdout=self._stdout, stderr=self._stderr, relay=self._relay)

    def renew(self, process: Process, before: structs.Process) -> None:
        """Before its first start with a new configuration: what was made from the one ``before``."""
        config = process.config
        if config.log != before.log or (config.stdin == "pty") != (before.stdin == "pty"):
            old, new = self.outputs[process.name], self._output(process.name, config)
            new.succeed(old)
            old.close()
            process.output = self.outputs[process.name] = new
        if process.health is not None:
            process.health.close()
            process.health = None
        if process.listening is not None and config.sockets != before.sockets:
            process.listening.renew(config.sockets)
            if not config.sockets:
                process.listening = None
        self._look_after(process)

    def discard(self, process: Process, entry: structs.Process | None) -> None:
        """It is down for good: close what belongs to it. ``entry``: what its name in the configuration means by now."""
        if process.schedule is not None:
            process.schedule.close()
        process.let_go()
        self.outputs.pop(process.name).close()
        self.settle(base_of(process.name), entry)

    def settle(self, base: str, entry: structs.Process | None) -> None:
        """The sockets of an entry that has no process now are those that it says, until it is gone."""
        if base not in self._listening or any(base_of(name) == base for name in self.outputs):
            return
        if entry is not None and entry.sockets:
            self._listening[base].renew(entry.sockets)
        else:
            self._listening.pop(base).close()

    def release(self, base: str, entry: structs.Process) -> None:
        """The sockets that ``entry`` does not have any more are for others now, before anything is started again."""
        if base in self._listening:
            self._listening[base].renew(entry.sockets)

    def close(self) -> None:
        """Everything is down: close what belonged to more than one."""
        for each in self._listening.values():
            each.close()

    def idle_sockets(self) -> dict[str, list[SocketSnapshot]]:
        """Those of entries that have no process now, and so nobody else who tells of them."""
        bases = {base_of(name) for name in self.outputs} if self._listening else ()
        return {base: each.snapshot() for base, each in self._listening.items() if base not in bases}

    def restore_idle(self, kept: Mapping[str, list[SocketSnapshot]], configs: Mapping[str, structs.Process]) -> None:
        """Hold what :meth:`idle_sockets` has told of."""
        for base, sockets in kept.items():
            self._listen(base, configs[base]).restore(sockets)

    def _look_after(self, process: Process) -> None:
        """Give it a health if its configuration says how to know it; what that needs is imported only then."""
        config = process.config
        if config.readiness_probe or config.liveness_probe or config.startup_probe or config.notify:
            from supervisor.health.process_health import attend

            process.health = attend(
                process.name,
                config,
                self._around,
                output=self.outputs[process.name],
                relay=self._relay,
                changed=process.readiness_changed,
            )
        if config.sockets and process.listening is None:
            process.listening = self._listen(base_of(process.name), config)

    def _listen(self, base: str, config: structs.Process) -> Sockets:
        if base in self._listening:
            self._listening[base].renew(config.sockets)
        else:
            from supervisor.process.sockets import Listening

            self._listening[base] = Listening(config.sockets)
        return self._listening[base]


def schedule_of(process: Process) -> Schedule | None:
    """A new one, which does not tick yet; None if it has none."""
    if process.config.schedule is None:
        return None
    from supervisor.schedule import Scheduled

    return Scheduled(process, process.config.schedule)
