"""What a process says about itself in one life, message by message: the assignments of sd_notify(3).

Where the messages come from, and who may send them, is the matter of ``notify``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from ocelot import log
from ocelot.config import structs
from supervisor.children.senders import Membership

TEXT_MAX = 512
"""Characters that are kept of STATUS=."""

_REFUSED = {
    "FDSTORE": "ocelot keeps no descriptors for it; `sockets` are kept over restarts",
    "FDSTOREREMOVE": "ocelot keeps no descriptors for it",
}


@dataclass(slots=True)
class Reload:
    """A reload that was asked for. ``asked``: when, in microseconds of CLOCK_MONOTONIC; a process tells of its own in the same."""

    asked: int
    state: str = "asked"


class Said:
    """``notify: systemd`` of the process ``name``. ``changed`` is called after a message that may change what is known.

    ``belongs``: whether a pid is of the process with another one. ``ready`` is set from READY=1 on. ``events`` wakes who waits for its
    watchdog or for an extension.
    """

    def __init__(
        self,
        name: str,
        config: structs.Notify,
        changed: Callable[[], None],
        belongs: Callable[[int, int], Membership],
    ) -> None:
        self.name = name
        self.config = config
        self._changed = changed
        self._belongs = belongs
        self._leader = 0
        self._told: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self.ready = trio.Event()
        self.state: str = "silent"
        self.text = ""
        self.errno: int | None = None
        self.main_pid: int | None = None
        self.watchdog = self.config.watchdog
        self.pinged = trio.current_time()
        self.triggered = False
        self.extended_to = 0.0
        self.events = trio.lowlevel.ParkingLot()
        self.reload: Reload | None = None
        self._told.clear()

    def expect_reload(self) -> None:
        """It is about to be told to reload: what it says of reloads that began before means nothing any more."""
        self.reload = Reload(_microseconds())

    def take(self, message: Mapping[str, str], *, descriptors: bool = False) -> None:
        """A message from somebody who may speak for it. ``descriptors``: whether some came along."""
        if message.get("RELOADING") == "1":  # before a READY=1 of the same message, which ends it
            self._say_reloading(message.get("MONOTONIC_USEC", ""))
        for key, value in message.items():
            deed = _DEEDS.get(key)
            if deed is not None:
                deed(self, value)
            elif key in _REFUSED and (key != "FDSTORE" or descriptors or value == "1"):
                self._once(key, f"{key} is refused: {_REFUSED[key]}")
        self._changed()

    def _say_ready(self, value: str) -> None:
        if value == "1":
            self.state = "ready"
            self.extended_to = 0.0  # that was for the start; what comes now is for the stop
            self.ready.set()
            if self.reload is not None and self.reload.state == "reloading":
                self.reload.state = "done"

    def _say_reloading(self, began: str) -> None:
        """``began``: MONOTONIC_USEC. Without it nobody knows whether the reload began after somebody asked for it: sd_notify(3)."""
        self.state = "reloading"
        if self.reload is None or self.reload.state == "done":
            return
        at = _number(began)
        if at is None:
            self._once("MONOTONIC_USEC", "RELOADING=1 without MONOTONIC_USEC= is no answer to a reload")
        elif at >= self.reload.asked:
            self.reload.state = "reloading"

    def _say_stopping(self, value: str) -> None:
        if value == "1":
            self.state = "stopping"

    def _say_status(self, value: str) -> None:
        self.text = "".join(c if c.isprintable() else " " for c in value[:TEXT_MAX])

    def _say_errno(self, value: str) -> None:
        number = _number(value)
        self.errno = number if number is not None and 0 <= number < 4096 else None

    def _say_main_pid(self, value: str) -> None:
        pid = _number(value)
        if pid is None or pid < 1 or self._belongs(pid, self._leader) is not Membership.MEMBER:
            self._once("MAINPID", f"MAINPID={value[:20]} is refused: it does not belong to it")
        else:
            self.main_pid = pid

    def _say_watchdog(self, value: str) -> None:
        if value == "1":
            self.pinged = trio.current_time()
        elif value == "trigger":
            self.triggered = True
            self.events.unpark_all()

    def _say_watchdog_interval(self, value: str) -> None:
        microseconds = _number(value)
        if microseconds is None or not 0 <= microseconds < 1e15:
            return
        self.watchdog = microseconds / 1e6 or None
        self.pinged = trio.current_time()
        self.events.unpark_all()

    def _say_extend(self, value: str) -> None:
        microseconds = _number(value)
        if microseconds is not None and 0 < microseconds < 1e15:
            self.extended_to = max(self.extended_to, trio.current_time() + microseconds / 1e6)
            self.events.unpark_all()

    def _once(self, kind: str, text: str) -> None:
        """Each kind of complaint once in a life: what comes may come a thousand times a second."""
        if kind not in self._told:
            self._told.add(kind)
            log.warn(f"{self.name}: notify: {text}")


_DEEDS: Mapping[str, Callable[[Said, str], None]] = {
    "READY": Said._say_ready,
    "STOPPING": Said._say_stopping,
    "STATUS": Said._say_status,
    "ERRNO": Said._say_errno,
    "MAINPID": Said._say_main_pid,
    "WATCHDOG": Said._say_watchdog,
    "WATCHDOG_USEC": Said._say_watchdog_interval,
    "EXTEND_TIMEOUT_USEC": Said._say_extend,
}


def parse(data: bytes) -> dict[str, str]:
    """The assignments of a message, one a line; of equal keys the last. Lines that are none are passed over."""
    found = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        key, equals, value = line.partition("=")
        if equals and key:
            found[key] = value
    return found


def _microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
