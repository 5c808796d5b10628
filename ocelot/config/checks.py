"""What several keys mean together."""

from __future__ import annotations

from ocelot.config import structs
from ocelot.config.findings import Findings
from ocelot.config.nodes import Node


def check(config: structs.Bootstrap | structs.SuperviseFile, document: Node | None, findings: Findings) -> None:
    """Add what is wrong with ``config`` to the findings; ``document`` tells where."""
