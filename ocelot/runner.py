"""How a boot runs a program: what ``bootstrap`` asks for and ``supervisor`` does, which do not know each other.

Nothing but a name for both of them, so nobody imports it at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ocelot.states import ExitStatus


class Runner(Protocol):
    """Runs programs to their end. ``supervisor.process.programs.Programs`` is one, so that one reaper owns every status."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str],
        working_directory: str | None = None,
        timeout: float | None = None,
        terminal: str | None = None,
    ) -> ExitStatus:
        """Run ``argv`` in a session of its own until it ends, and return how it ended.

        ``argv[0]`` without a slash is looked up on PATH of ``environment``, which is the whole environment of the child.
        Its output is relayed to the console and the log under ``name``. ``terminal`` is the path of a tty that becomes
        its controlling terminal and its standard streams instead. After ``timeout`` seconds, or when cancelled, its whole
        process group gets SIGTERM, two seconds later SIGKILL. Raises SpawnError, or trio.TooSlowError after such a timeout,
        when nothing of its process group is left.
        """
