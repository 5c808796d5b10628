"""The manual pages, made from what they describe: the command lines, and the records of the configuration. So they cannot rot."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable, Mapping

PAGES = ("ocelot.1", "ocelotctl.1", "ocelot-bootstrap.5")


def page(name: str, trees: Mapping[str, ArgumentParser]) -> str:
    """One of :data:`PAGES` as man(7) source. ``trees``: the command lines, by the name of the program."""
    from ocelot.manual import commands, keys

    pages: Mapping[str, Callable[[], str]] = {
        "ocelot.1": lambda: commands.ocelot(trees["ocelot"]),
        "ocelotctl.1": lambda: commands.ocelotctl(trees["ocelotctl"]),
        "ocelot-bootstrap.5": keys.bootstrap,
    }
    return pages[name]()


def install(folder: str, trees: Mapping[str, ArgumentParser]) -> list[str]:
    """Write all pages below ``folder``, as ``man1/ocelot.1``; the paths. Raises OSError."""
    paths = []
    for name in PAGES:
        path = os.path.join(folder, f"man{name[-1]}", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(name, trees))
        paths.append(path)
    return paths
