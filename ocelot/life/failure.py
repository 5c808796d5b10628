"""What a life as PID 1 does when its story broke off: say why, once, on every channel, and then what ``onFatal`` says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bootstrap import rescue
from ocelot import log
from ocelot.config import structs
from ocelot.errors import BootError, OcelotError, describe
from ocelot.life.ending import Ending, chosen_verb, report
from ocelot.life.life import log_traceback
from ocelot.linux.identity import Identity
from ocelot.states import Cause

if TYPE_CHECKING:
    from ocelot.life.life import Life


async def fail(life: Life, error: Exception) -> Ending:
    """Say what went wrong, where, and what to do; then carry out the policy."""
    life.phase = "failed"
    where = error.phase if isinstance(error, BootError) else ""
    message = error.message if isinstance(error, OcelotError) else describe(error)
    hint = error.hint if isinstance(error, OcelotError) else ""
    told = f"{where}: {message}" if where else message
    log.error(told)
    if hint:
        log.error(f"hint: {hint}")
    if not isinstance(error, OcelotError | OSError):
        log_traceback(error)
    ending = Ending(1, told, verb=chosen_verb(life), phase=where or life.kind, hint=hint)
    if life.who is not Identity.MACHINE:
        return ending
    policy = life.config.on_fatal
    if life.cmdline.on_fatal is not None:
        policy = structs.OnFatal(action=life.cmdline.on_fatal, shell=policy.shell, timeout=policy.timeout)
    if life.supervisor is not None:
        await life.supervisor.stop_all(Cause.SHUTDOWN, reason=ending.reason)
    await report(life, ending)
    verb = await rescue.run(policy, life.machine, life.tty(), life.requested)
    life.verb = verb or life.verb
    return replace(ending, verb=chosen_verb(life))
