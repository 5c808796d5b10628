"""How a command of ``ocelotctl`` ends: exit statuses, and the words on standard error."""

from __future__ import annotations

import sys

from ocelot.errors import ControlError, OcelotError
from ocelot.wire.client import problem

OK, FAILED, USAGE, UNREACHABLE, NO_SUCH_PROCESS, DENIED, TIMED_OUT = range(7)
INTERRUPTED = 130

EXITS = f"""\
exit status:
  {OK}  done
  {FAILED}  it failed; for status with names: one of them is not up; for wait: one of them cannot arrive there any
     more; for health: something has failed
  {USAGE}  the command line was wrong
  {UNREACHABLE}  ocelot does not answer on the socket
  {NO_SUCH_PROCESS}  there is no such process
  {DENIED}  you may not do this
  {TIMED_OUT}  the time was up before it had taken effect
exec, shell and attach end with the status of the program, 128+n after signal n.
"""

_BY_KIND = {
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


def told(status: int, body: bytes) -> ControlError:
    """The error that an answer with ``status`` tells of."""
    import json

    try:
        return problem(status, json.loads(body))
    except ValueError:
        return problem(status, {})
