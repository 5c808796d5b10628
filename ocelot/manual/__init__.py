"""The manual pages, made from what they describe: the command lines, and the records of the configuration. So they cannot rot."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

PAGES = ("ocelot.1", "ocelotctl.1", "ocelot-bootstrap.5")


def page(name: str) -> str:
    """One of :data:`PAGES` as man(7) source."""
    from ocelot.manual import commands, keys

    pages: Mapping[str, Callable[[], str]] = {
        "ocelot.1": commands.ocelot,
        "ocelotctl.1": commands.ocelotctl,
        "ocelot-bootstrap.5": keys.bootstrap,
    }
    return pages[name]()


def install(folder: str) -> list[str]:
    """Write all pages below ``folder``, as ``man1/ocelot.1``; the paths. Raises OSError."""
    paths = []
    for name in PAGES:
        path = os.path.join(folder, f"man{name[-1]}", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(name))
        paths.append(path)
    return paths
