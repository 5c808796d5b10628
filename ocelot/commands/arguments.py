"""What the commands of ``ocelot`` share: how they are added to the tree, and what is said where a tool was left out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from ocelot.errors import OcelotError
from ocelot.help import Formatter

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Add the command ``name``, which ``run`` carries out. ``help`` is a line without a capital and a full stop."""
    sub = commands.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".", formatter_class=formatter, epilog=epilog
    )
    sub.set_defaults(run=run)
    return sub


def formatter(prog: str) -> argparse.HelpFormatter:
    """Keeps lists in descriptions and epilogs as they are, and fills their sentences."""
    return Formatter(prog)


def not_here(what: str, error: ModuleNotFoundError | None = None) -> OcelotError:
    """Why ``what`` cannot be done: a package is missing (``error``), or the runtime of an image leaves it out."""
    if error is not None and not (error.name or "").startswith("ocelot."):
        return OcelotError(f"cannot {what}: the package {error.name} is not installed", hint="see the extras of ocelot")
    return OcelotError(f"cannot {what}: that is not part of this runtime", hint="use ocelot on a desk")
