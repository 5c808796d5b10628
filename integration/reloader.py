"""A program that reloads as sd_notify(3) asks for, for tests: ``reloader.py HOW FOLDER``.

Each SIGHUP is a line in FOLDER/hups. Then, by HOW: ``well`` says RELOADING=1, and READY=1 once there is FOLDER/go; ``stale`` says both
at once, of a reload that began before; ``mute`` says nothing; ``dies`` says RELOADING=1 and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from integration.speaker import send

how, folder = sys.argv[1:]


def reload() -> None:
    with open(f"{folder}/hups", "a") as file:
        file.write("hup\n")
    if how == "mute":
        return
    began = 1 if how == "stale" else time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    send(b"RELOADING=1\nMONOTONIC_USEC=%d" % began)
    if how == "dies":
        sys.exit(9)
    while how == "well" and not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    send(b"READY=1\nSTATUS=reloaded")


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
send(b"READY=1")
while signal.sigwait([signal.SIGHUP]):
    reload()
