"""The configuration file of a life as PID 1: read once, its problems told on the console and in the kernel log."""

from __future__ import annotations

from ocelot import log
from ocelot.config import structs
from ocelot.config.loading import Kind, load_file
from ocelot.errors import BootError

DEFAULT_FILE = "/etc/ocelot/bootstrap.yaml"


def load(path: str, kind: Kind) -> structs.Bootstrap | structs.SuperviseFile:
    """What the file at ``path`` says. Raises BootError when it cannot be used."""
    loaded = load_file(path, kind, booting=True)
    for finding in loaded.warnings:
        log.warn(finding.located(path))
    for finding in loaded.errors:
        log.error(finding.located(path))
    if loaded.config is None:
        number = len(loaded.errors)
        raise BootError(
            f'cannot use "{path}": {"1 problem" if number == 1 else f"{number} problems"}',
            hint=f"check it with ocelot {kind} validate",
            phase="configuration",
        )
    return loaded.config
