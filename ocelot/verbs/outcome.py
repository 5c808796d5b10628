"""How a command of ``ocelotctl`` ends: exit statuses, and the words on standard error."""

from __future__ import annotations

import sys

from ocelot.errors import ControlError, OcelotError
from ocelot.wire.client import problem

TYPE_CHECKING = False  # typing itself would cost as much as all of this
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OK, FAILED, USAGE, UNREACHABLE, NO_SUCH_PROCESS, DENIED, TIMED_OUT = range(7)
INTERRUPTED = 130

EXITS = f"""\
exit status:
  {OK}  done
  {FAILED}  it failed; for status with names: one of them is not up; for wait: one
     of them cannot arrive there any more; for health: something has failed
  {USAGE}  the command line was wrong
  {UNREACHABLE}  ocelot does not answer on the socket
  {NO_SUCH_PROCESS}  there is no such process
  {DENIED}  you may not do this
  {TIMED_OUT}  the time was up before it had taken effect
exec, shell and attach end with the status of the program, 128+n after signal n.
"""

_BY_KIND = {
    "bad-request": USAGE,
    "unreachable": UNREACHABLE,
    "no-such-process": NO_SUCH_PROCESS,
    "permission-denied": DENIED,
    "timeout": TIMED_OUT,
}


def complain(error: OcelotError, status: int) -> int:
    """Say on standard error what could not be done, and return ``status``."""
    print(f"ocelotctl: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return status


def exit_of(error: ControlError) -> int:
    """The exit status for what the control socket answered."""
    return _BY_KIND.get(error.kind, FAILED)


def look_at(process: Mapping[str, Any]) -> str:
    """The hint that says where to look when ``process``, as a status has it, could not do what was asked."""
    name, last = process["name"], process["lastExit"]
    if last is not None and last["cause"] == "dependency":
        return f"ocelotctl graph {name} shows what it depends on"
    if last is not None and last["cause"] == "spawn-failed":
        return f"mend that, then ocelotctl start {name}"
    return f"ocelotctl logs {name} shows what it wrote"


def told(status: int, body: bytes) -> ControlError:
    """The error that an answer with ``status`` tells of."""
    import json

    try:
        return problem(status, json.loads(body))
    except ValueError:
        return problem(status, {})
