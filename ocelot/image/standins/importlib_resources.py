"""Stands in for ``importlib.resources``, of which zoneinfo asks only for the package tzdata: a runtime has none.

The time zones are those of the root file system (``sysconfig``). Without this, a zone that is not there would be an
ImportError instead of a ZoneInfoNotFoundError.
"""

from __future__ import annotations

from typing import NoReturn


def files(package: str) -> NoReturn:
    """As for a package that is not installed."""
    raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def open_binary(package: str, resource: str) -> NoReturn:
    """What Python 3.11 calls instead."""
    files(package)


def open_text(package: str, resource: str) -> NoReturn:
    files(package)
