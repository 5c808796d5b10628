"""The environment map of a phase: holds for every later step and process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootstrap.steps import Machine, Step
from ocelot.config.structs import OnFailure


@dataclass(frozen=True, slots=True)
class SetVariable:
    key: str
    value: str
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None

    @property
    def name(self) -> str:
        return f"environment {self.key}"

    def describe(self) -> str:
        return f"set {self.key}={self.value} for everything that follows"

    async def apply(self, machine: Machine) -> None:
        # Not our own environment: PID 1 has no use for it, and setenv(3) is not safe beside threads.
        machine.environment[self.key] = self.value


def plan_environment(variables: Mapping[str, str]) -> tuple[Step, ...]:
    return tuple(SetVariable(key, value) for key, value in variables.items())
