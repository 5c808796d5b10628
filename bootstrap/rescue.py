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


async def last_resort(config: OnFatal, machine: Machine, tty: str | None) -> PowerVerb:
    """Carry out the policy, and return how the machine is to go down afterwards.

    ``hold`` does not return: cancel it. A rescue shell that cannot be started ends in a power-off, in clear words.
    """
    match config.action:
        case FatalAction.REBOOT:
            return PowerVerb.REBOOT
        case FatalAction.HOLD:
            log.error("holding, as onFatal says: nothing more will happen until the machine is powered off")
            await trio.sleep_forever()
        case FatalAction.SHELL:
            await _rescue_shell(config, machine, tty)
    return PowerVerb.POWEROFF


async def _rescue_shell(config: OnFatal, machine: Machine, tty: str | None) -> None:
    limit = f" It ends after {format_duration(config.timeout)}." if config.timeout is not None else ""
    log.error(f"starting the rescue shell {config.shell} on {tty}; when it ends, the machine powers off.{limit}")
    try:
        status = await handoff.run_shell(config.shell, (), machine, tty, timeout=config.timeout)
    except trio.TooSlowError:
        log.warn("the rescue shell's time is over; powering off")
    except (OcelotError, OSError) as error:
        log.error(f"{describe(error)}; so there is no rescue shell, and the machine powers off")
    else:
        log.info(f"the rescue shell {status}; powering off")
