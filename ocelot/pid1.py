"""PID 1's life, from the first mount to the power-off, told in order.

One ``trio.run`` holds all of it: the reaper, the signals, the boot, the hand-off, the shutdown. The process that mounts
/proc is the one that supervises. Both wings meet here and only here: ``bootstrap`` gets to run programs through the
supervisor's spawn, so that one reaper owns every exit status.

What fails is caught once, in :meth:`Life.run`, told to the console, the kernel log and the host, and then the
``onFatal`` policy runs. Side tasks (control, metrics, the power button) may fail without taking the rest with them.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import trio

from bootstrap import console, handoff, phases
from bootstrap.steps import Machine
from bootstrap.timeline import Timeline
from ocelot import __version__, log
from ocelot.config.structs import Bootstrap, Exec, FatalAction, Sections, Shell, Supervise, SuperviseFile
from ocelot.errors import BootError, OcelotError, describe
from ocelot.linux.identity import Identity, identity
from ocelot.linux.inherited import Inherited, raise_own_limits
from ocelot.states import Cause, PowerVerb
from supervisor.programs import Programs
from supervisor.reaper import Reaper
