"""Replicas: one entry of the configuration that stands for several processes, ``web[0]`` to ``web[n-1]``.

An entry with ``replicas`` has an index even if there is only one, so that scaling never renames what runs.
"""

from __future__ import annotations

import msgspec

from ocelot.config import structs
from ocelot.config.ordering import MAX_REPLICAS
from ocelot.errors import ControlError

VARIABLE = "OCELOT_REPLICA"
"""The environment variable that tells a replica its number, from 0."""


def base_of(name: str) -> str:
    """The name in the configuration of the process ``name``: brackets cannot be part of it."""
    return name.partition("[")[0]


def instances(name: str, config: structs.Process) -> dict[str, structs.Process]:
    """The processes that the entry ``name`` stands for, each with its own configuration."""
    if config.replicas is None:
        return {name: config}
    found = {}
    for index in range(config.replicas):
        variables = {VARIABLE: str(index), **config.environment_variables}
        found[f"{name}[{index}]"] = msgspec.structs.replace(config, environment_variables=variables)
    return found


def scaled(name: str, config: structs.Process, replicas: int) -> structs.Process:
    """The entry ``name`` with so many replicas. Raises ControlError."""
    if config.replicas is None:
        hint = "give it `replicas: 1` in the configuration first"
        raise ControlError(f'cannot scale "{name}": it has no replicas', hint=hint, status=409, kind="no-replicas")
    if not 0 <= replicas <= MAX_REPLICAS:
        message = f'cannot scale "{name}" to {replicas} replicas'
        raise ControlError(message, hint=f"write a number from 0 to {MAX_REPLICAS}", status=400, kind="bad-request")
    return msgspec.structs.replace(config, replicas=replicas)
