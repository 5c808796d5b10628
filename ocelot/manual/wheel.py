"""Puts the manual pages into the wheel, below share/man: where pip, uv and pipx install them for man(1) to find.

A build hook of hatch: made while the wheel is made, so that no generated file is kept in the repository.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface[Any]):
    """What hatchling finds in this file and calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is built. Editable installations have no pages."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from ocelot.cli import trees
        from ocelot.manual import install

        self._folder = tempfile.TemporaryDirectory()
        for path in install(self._folder.name, trees()):
            build_data["shared_data"][path] = f"share/man/{os.path.relpath(path, self._folder.name)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After it was built."""
        if version != "editable":
            self._folder.cleanup()
