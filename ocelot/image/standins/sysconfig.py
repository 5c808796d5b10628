"""Stands in for ``sysconfig``: where zoneinfo looks for the time zones of the root file system (``PYTHONTZPATH``)."""

from __future__ import annotations


def get_config_var(name: str) -> str | None:
    return "/usr/share/zoneinfo:/usr/lib/zoneinfo:/usr/share/lib/zoneinfo:/etc/zoneinfo" if name == "TZPATH" else None
