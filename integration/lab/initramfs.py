"""Initramfs files for the tests, built as ``ocelot initramfs build`` builds them, with the slow part kept in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from integration.lab import cache
from ocelot.image.initramfs import Recipe
from ocelot.image.initramfs import build as build_image


def build(
    config: Path,
    output: Path,
    kernel: cache.Kernel,
    *,
    includes: Sequence[tuple[str, str]] = (),
    without: Sequence[str] = (),
) -> Path:
    """Build ``output`` from the bootstrap file ``config`` for ``kernel``; a second or two once the runtime is cached.

    Not compressed: under emulation the guest would take longer to decompress it than QEMU takes to read it.
    """
    recipe = Recipe(
        file=str(config),
        output=str(output),
        kernel_version=kernel.version,
        modules_root=str(kernel.modules_root),
        includes=tuple(includes),
        compression="none",
        without=tuple(without),
        cache=str(cache.folder() / "runtime"),
    )
    build_image(recipe)
    return output
