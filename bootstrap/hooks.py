"""Hooks: programs that the configuration runs between the built-in steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from bootstrap.steps import Machine, Step
from ocelot.config.structs import Hook, OnFailure
from ocelot.config.values import format_duration
from ocelot.errors import OcelotError
from ocelot.linux.inherited import Inherited


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run a hook to its end. Its environment is that of the phases so far with its own on top."""

    hook: Hook
    on_failure: OnFailure
    timeout: float | None

    @property
    def name(self) -> str:
        return f"hook {self.hook.name}"

    def describe(self) -> str:
        words = " ".join(_shown(word) for word in (self.hook.command, *self.hook.arguments))
        where = f" in {self.hook.working_directory}" if self.hook.working_directory else ""
        limit = f" (at most {format_duration(self.timeout)})" if self.timeout is not None else ""
        return f"run {words}{where}{limit}"

    async def apply(self, machine: Machine) -> None:
        """Raises OcelotError when it cannot be started, fails, or is not done in time (its group is killed then)."""
        hook = self.hook
        environment = Inherited(environment=machine.environment).child_environment(hook.environment)
        try:
            status = await machine.runner.run(
                (hook.command, *hook.arguments),
                name=hook.name,
                environment=environment,
                working_directory=hook.working_directory,
                timeout=self.timeout,
            )
        except trio.TooSlowError as error:
            limit = format_duration(self.timeout or 0)
            raise OcelotError(
                f'cannot complete hook "{hook.name}": it was still running after {limit} and was killed',
                hint="raise its timeout or find out what it waits for",
            ) from error
        if not status.success:
            raise OcelotError(f'cannot complete hook "{hook.name}": {hook.command} {status}')


def plan_hooks(hooks: Sequence[Hook]) -> tuple[Step, ...]:
    return tuple(RunHook(hook, hook.on_failure or OnFailure.WARN, hook.timeout) for hook in hooks)


def _shown(word: str) -> str:
    plain = word and all(char.isalnum() or char in "-_./=:,+@%" for char in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"
