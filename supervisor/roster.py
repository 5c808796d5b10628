"""The processes of a set by name: made from their configuration, added, replaced and forgotten while the set lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ocelot.config import structs
from ocelot.errors import ControlError
from ocelot.states import Goal
from supervisor.process.supervised import Process
from supervisor.replicas import base_of, instances

if TYPE_CHECKING:
    from supervisor.dependencies import Dependencies

Make = Callable[[str, structs.Process], Process]


class Roster:
    """``configs`` by the names of the configuration, ``processes`` by their own, both in the same order.

    ``dependencies`` is None as long as nobody depends on anybody.
    """

    def __init__(self, configs: Mapping[str, structs.Process], make: Make) -> None:
        self.configs = dict(configs)
        self.processes: dict[str, Process] = {}
        self.dependencies: Dependencies | None = None
        self._make = make
        for name, config in configs.items():
            for each, own in instances(name, config).items():
                self.processes[each] = make(each, own)
        self._connect()

    def find(self, name: str) -> Process:
        """The process of that name. Raises ControlError."""
        try:
            return self.processes[name]
        except KeyError:
            raise no_such_process(name) from None

    def members(self, base: str) -> Sequence[Process]:
        """The processes that a name of the configuration stands for."""
        config = self.configs.get(base)
        if config is None:
            return ()
        if config.replicas is None:
            return (self.processes[base],) if base in self.processes else ()
        names = (f"{base}[{index}]" for index in range(config.replicas))
        return [self.processes[name] for name in names if name in self.processes]

    def stays_down(self, base: str, config: structs.Process) -> bool:
        """Whether an operator has stopped the entry ``base``, and a reload after which it means ``config`` does not undo that."""
        members = self.members(base)
        stopped = all(process.goal is Goal.DOWN for process in members) and bool(members)
        return stopped and config.restart_policy.type is not structs.RestartType.ALWAYS

    @property
    def groups(self) -> dict[str, list[str]]:
        """The names of the replicas, for each entry that has them."""
        return {
            base: [process.name for process in self.members(base)]
            for base, config in self.configs.items()
            if config.replicas is not None
        }

    def set(
        self, base: str, config: structs.Process
    ) -> tuple[list[Process], list[tuple[Process, structs.Process]], list[Process]]:
        """Let ``base`` mean ``config`` from now on.

        Returns the processes that are new, those that stay (with the configuration that they are to get), and those that are to
        go, the last ones first. These are found until :meth:`drop`.
        """
        wanted = instances(base, config)
        present = {name: process for name, process in self.processes.items() if base_of(name) == base}
        self.configs[base] = config
        added = []
        for name, own in wanted.items():
            if name not in present:
                self.processes[name] = self._make(name, own)
                added.append(self.processes[name])
        self._sort()
        self._connect()
        staying = [(process, wanted[name]) for name, process in present.items() if name in wanted]
        return added, staying, [process for name, process in reversed(present.items()) if name not in wanted]

    def wants(self, name: str) -> bool:
        """Whether the configuration as it holds now has a process of that name."""
        base = base_of(name)
        config = self.configs.get(base)
        if config is None or config.replicas is None:
            return config is not None and name == base
        index = name[len(base) + 1 : -1]
        return index.isdecimal() and int(index) < config.replicas

    def forget(self, base: str) -> list[Process]:
        """``base`` means nothing any more. Returns its processes, which are found until :meth:`drop`."""
        going = [process for name, process in self.processes.items() if base_of(name) == base]
        del self.configs[base]
        self._connect()
        return going

    def drop(self, process: Process) -> None:
        """It has ended and is gone."""
        if self.processes.get(process.name) is process:
            del self.processes[process.name]

    def _sort(self) -> None:
        places = {base: place for place, base in enumerate(self.configs)}
        kept = sorted(self.processes.items(), key=lambda item: places.get(base_of(item[0]), len(places)))
        self.processes.clear()
        self.processes.update(kept)

    def _connect(self) -> None:
        """Give every process the gate that it has by now."""
        if not any(config.depends_on for config in self.configs.values()):
            if self.dependencies is None:
                return
            self.dependencies = None
        else:
            from supervisor.dependencies import Dependencies

            self.dependencies = Dependencies(self.configs, self.members)
        for name, process in self.processes.items():
            process.gate = self.dependencies.gate(base_of(name), name) if self.dependencies is not None else None
            process.look_again()


def no_such_process(name: str) -> ControlError:
    """What is said of a name that nobody has (HTTP 404)."""
    entry = base_of(name)
    hint = "see status for the names" if entry == name else f'name the entry, "{entry}"'
    return ControlError(f'cannot find the process "{name}"', hint=hint, status=404, kind="no-such-process")
