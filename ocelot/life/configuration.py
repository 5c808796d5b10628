"""The configuration file of a life as PID 1: read once, its problems told on the console and in the kernel log."""

from __future__ import annotations

import os

from msgspec.structs import replace

from ocelot import log
from ocelot.config import structs
from ocelot.config.loading import Kind, load_file
from ocelot.errors import BootError

DEFAULT_FILE = "/etc/ocelot/bootstrap.yaml"


def control(config: structs.Sections, named: str | None) -> structs.Control:
    """The control section, with its socket as it is: ``named`` on the command line, in the file, or by who we are."""
    if named is None and os.geteuid() != 0:
        from ocelot.wire.client import DEFAULT_SOCKET, socket_of_user

        if config.control.socket == DEFAULT_SOCKET:
            named = socket_of_user()
    return config.control if named is None else replace(config.control, socket=named)


def load(path: str, kind: Kind) -> structs.Bootstrap | structs.SuperviseFile:
    """What the file at ``path`` says. Raises BootError when it cannot be used."""
    loaded = load_file(path, kind, booting=True)
    for finding in loaded.warnings:
        log.warn(finding.located(path))
    if loaded.config is not None:
        return loaded.config
    if len(loaded.errors) == 1:
        only = loaded.errors[0]
        raise BootError(replace(only, hint="").located(path), hint=only.hint, phase="configuration")
    for finding in loaded.errors:
        log.error(finding.located(path))
    raise BootError(
        f'cannot use "{path}": {len(loaded.errors)} problems',
        hint=f"ocelot {kind} validate shows each with its line",
        phase="configuration",
    )
