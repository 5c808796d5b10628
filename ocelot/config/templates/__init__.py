"""Configuration files to start from: complete, commented, and booting as they are printed.

They are put together from parts, so that the modes differ in their hand-off and in nothing else.
"""

from __future__ import annotations

import os.path
from typing import Literal

Mode = Literal["supervise", "shell", "exec"]

MODES: tuple[Mode, ...] = ("supervise", "shell", "exec")


def text(kind: Literal["bootstrap", "supervise"], mode: str = "supervise") -> str:
    """The template for a file of ``kind``; ``mode`` picks the hand-off of a bootstrap file. Raises ValueError."""
    if mode not in MODES:
        raise ValueError(f'there is no template for mode "{mode}": write supervise, shell or exec')
    if kind == "supervise":
        processes = "\n".join(line.removeprefix("    ") for line in _part("processes").splitlines())
        return _part("supervise") + processes + "\n" + _part("sections")
    title = f"# Configuration of `ocelot bootstrap`, {mode} mode\n"
    processes = _part("processes") if mode == "supervise" else ""
    return title + _part("bootstrap") + _part(f"handoff-{mode}") + processes + _part("sections")


def _part(name: str) -> str:
    # beside this file, and not by importlib.resources, whose import costs more than the whole command
    with open(os.path.join(os.path.dirname(__file__), f"{name}.yaml"), encoding="utf-8") as file:
        return file.read()
