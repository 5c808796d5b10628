"""What PID 1 does when it cannot go on: the ``onFatal`` policy."""

from __future__ import annotations

import trio

from bootstrap import handoff
from bootstrap.steps import Machine
from ocelot import log
from ocelot.config.structs import FatalAction, OnFatal
from ocelot.config.values import format_duration
from ocelot.errors import OcelotError, describe
from ocelot.states import PowerVerb


async def run(policy: OnFatal, machine: Machine, tty: str | None, requested: trio.Event) -> PowerVerb | None:
    """Carry out ``policy``; returns how the machine is to go down then, None when the policy has no opinion on that.

    ``hold`` and the rescue shell end when ``requested`` is set (somebody asked the machine to go down). A rescue shell that
    cannot be started ends in a power-off, in clear words.
    """
    match policy.action:
        case FatalAction.POWEROFF:
            return PowerVerb.POWEROFF
        case FatalAction.REBOOT:
            return PowerVerb.REBOOT
        case FatalAction.HOLD:
            log.error("holding, as onFatal says: nothing more happens until somebody powers the machine off")
            await requested.wait()
        case FatalAction.SHELL:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_with, nursery.cancel_scope, requested)
                await _rescue_shell(policy, machine, tty)
                nursery.cancel_scope.cancel()
    return None


async def _end_with(scope: trio.CancelScope, requested: trio.Event) -> None:
    await requested.wait()
    scope.cancel()


async def _rescue_shell(policy: OnFatal, machine: Machine, tty: str | None) -> None:
    limit = f" (at most {format_duration(policy.timeout)})" if policy.timeout is not None else ""
    log.error(
        f"starting the rescue shell {policy.shell} on {tty or 'no terminal'}{limit}; when it ends, the machine goes down"
    )
    try:
        status = await handoff.run_shell(policy.shell, (), machine, tty, timeout=policy.timeout)
    except trio.TooSlowError:
        log.warn("the rescue shell's time is over: going down")
    except (OcelotError, OSError) as error:
        log.error(f"{describe(error)}; so there is no rescue shell: going down")
    else:
        log.info(f"the rescue shell {status}: going down")
