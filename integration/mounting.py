"""Mounts for real, for tests: each case in a mount namespace of its own.

A case is an async function that runs in a child interpreter below ``unshare``, with a scratch tmpfs; what it asserts
fails there and is shown here.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from bootstrap import mounts
from bootstrap.steps import Machine
from ocelot.config.structs import Mount
from ocelot.errors import OcelotError
from ocelot.linux import mountinfo, syscalls
from ocelot.linux.identity import Identity
from ocelot.linux.mountinfo import MountInfo
from ocelot.runner import Runner

CHECKOUT = Path(__file__).parent.parent
RUN = "from integration.mounting import main; main()"
Case = Callable[[Path, Machine], Awaitable[None]]


def inside(case: Case, *arguments: str) -> None:
    """Run ``case`` in a mount namespace of its own; fail with what it printed."""
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            sys.executable,
            "-c",
            RUN,
            case.__module__,
            case.__name__,
            *arguments,
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{case.__name__} failed:\n{textwrap.indent(done.stdout + done.stderr, '    ')}"


class NoPrograms:
    """These steps start none."""


def machine(identity: Identity = Identity.MACHINE, root: str = "") -> Machine:
    runner: Runner = NoPrograms()  # type: ignore[assignment]
    return Machine(runner, identity, warn=WARNINGS.append, info=print, root=root)


WARNINGS: list[str] = []


async def do(to: Machine, *wanted: Mount) -> None:
    for step in mounts.plan_mounts(wanted):
        await step.apply(to)


def at(path: Path | str) -> MountInfo:
    found = mountinfo.mount_at(str(path))
    assert found is not None, f"nothing is mounted on {path}"
    return found


async def refusal(to: Machine, wanted: Mount) -> OcelotError:
    with pytest.raises(OcelotError) as caught:
        await do(to, wanted)
    return caught.value


def main() -> None:
    """In the namespace: the case that the command line names, by its module and its name."""
    module = importlib.import_module(sys.argv.pop(1))  # what follows the case are its own arguments, from argv[2] on
    scratch = Path(os.environ.get("TMPDIR", "/tmp")) / f"ocelot-mounts-{os.getpid()}"
    scratch.mkdir()
    try:
        syscalls.mount("scratch", str(scratch), "tmpfs")
        # Layers of overlays go below /run, which is the machine's.
        syscalls.mount("run", "/run", "tmpfs")
        trio.run(getattr(module, sys.argv[1]), scratch, machine())
    finally:
        syscalls.umount2(str(scratch), syscalls.MNT_DETACH)
        scratch.rmdir()
