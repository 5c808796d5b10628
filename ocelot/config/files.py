"""Whether the files that a configuration names are there."""

from __future__ import annotations

from ocelot.config import structs
from ocelot.config.findings import Findings
from ocelot.config.nodes import Node


def check_files(
    config: structs.Bootstrap | structs.SuperviseFile, document: Node | None, findings: Findings, root: str | None
) -> None:
    """Add what is missing below ``root`` (or here) to the findings."""
