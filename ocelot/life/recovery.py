"""When the event loop itself is broken: PID 1 becomes itself anew, from all that it knows, and supervises on.

A MemoryError may come out of any line, and where that is one of trio's own loop no task ever runs again. What is lost then is only
who would have acted: the processes, their pipes and sockets are there, and so are the records of them. So the state is written down as
for a reexec, with what was half done put to where it can be done anew (``supervisor.salvage``), and the same image is
executed, which begins with a fresh heap and a fresh loop. That needs memory too; until there is some, this waits with all signals
blocked, and whoever dies meanwhile is a zombie whose status is not lost.

Imported only then.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
import time
from contextlib import suppress

import trio

from ocelot import log
from ocelot.errors import describe
from ocelot.life.life import Life
from ocelot.life.reexec import Image, describe_life, execute, find_image, state_of
from ocelot.life.statefile import write
from ocelot.linux.identity import Identity
from ocelot.linux.threads import make_sure_of_room

PATIENCE = 60.0
"""Seconds to wait for memory, before all is given up."""

ROOM = 64 * 1024 * 1024
"""Bytes that have to be there: an interpreter with all that we import, and the state once more."""

TIMES, WITHIN = 10, 60.0
"""More breaks than this in so many seconds are none that a fresh start mends."""

_AGAIN = 0.2


def go_on(life: Life, error: BaseException) -> None:
    """Become a fresh image of ourselves, after ``error`` has come out of the loop that supervised. Returns only if that cannot be.

    Whoever calls this keeps ``error``: with its frames would go what the broken loop still holds.
    """
    if life.trial:
        return
    gc.disable()  # what nobody holds any more would close descriptors that others have by now
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):  # it would raise, without its loop
                signal.signal(number, lambda number, _: life.arrived.add(number))
        now = time.monotonic()
        life.breaks = [at for at in life.breaks if at > now - WITHIN]
        if len(life.breaks) >= TIMES:
            _say(f"the event loop broke {TIMES} times within {WITHIN:g}s", error)
            return
        life.breaks.append(now)
        _say("the event loop broke, going on from where everything stands", error)
        _become_anew(life, frozenset(mask), now + PATIENCE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.enable()


def _become_anew(life: Life, mask: frozenset[int], deadline: float) -> None:
    before = ""
    while time.monotonic() < deadline:
        try:
            _make_room()
            _attempt(life, find_image(None), mask)
        except Exception as error:  # noqa: BLE001 (there may be memory for it the next time)
            if repr(error) != before:
                before = repr(error)
                _say("cannot go on yet", error)
        time.sleep(_AGAIN)


def _attempt(life: Life, image: Image, mask: frozenset[int]) -> None:
    """Returns only by raising. In a thread: in this one trio may believe that its loop still runs. execve(2) ends all threads."""
    failed: list[Exception] = []

    def leave() -> None:
        try:
            trio.run(_leave, life, image, mask, clock=life.clock)
        except Exception as error:  # noqa: BLE001 (for who waits)
            failed.append(error)

    make_sure_of_room()
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    raise failed[0]


def _make_room() -> None:
    """Raises MemoryError. What little memory somebody has left us by a soft limit is more if we say so: the children have their own."""
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard, hard))
    bytearray(ROOM)


async def _leave(life: Life, image: Image, mask: frozenset[int]) -> None:
    """In a loop with the clock of the broken one, since that is what all times are of. Returns only by raising."""
    kept = describe_life(life, salvage=True)
    kept.mask = sorted(mask)
    kept.left = time.monotonic()
    for number in life.arrived:
        os.kill(os.getpid(), number)  # it is blocked, and waits for the next image
    state = write(state_of(kept, image))
    try:
        execute(image, [*kept.descriptors(), state], state)
    finally:
        os.close(state)


def end(life: Life) -> None:
    """The end, in order, without a loop: SIGTERM to the groups of all children, SIGKILL after the grace period of the slowest."""
    if life.who is Identity.MACHINE:
        return  # the whole machine goes down
    assert life.supervisor is not None
    configs = life.supervisor.configs.values()
    grace = max((config.termination_grace_period for config in configs), default=0.0)
    if life.supervisor.shutdown_timeout is not None:
        grace = min(grace, life.supervisor.shutdown_timeout)
    groups = set(life.reaper.pids)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for group in groups:
            with suppress(OSError):
                os.killpg(group, number)
        deadline = time.monotonic() + seconds
        while groups and time.monotonic() < deadline:
            with suppress(ChildProcessError):
                pid, _ = os.waitpid(-1, os.WNOHANG)
                groups.discard(pid)
                if pid:
                    continue
            time.sleep(0.02)


def _say(words: str, error: BaseException) -> None:
    with suppress(Exception):  # no memory for this either
        log.error(f"{words}: {describe(error)}")
