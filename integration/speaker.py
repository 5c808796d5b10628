"""A program that speaks sd_notify(3) by hand, for tests: ``speaker.py WORD...``; then it waits to be stopped.

A word that holds ``=`` is a message (``+`` stands for a newline); the others are the deeds below.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import sys
import time

ADDRESS = os.environ.get("NOTIFY_SOCKET", "")


def send(message: bytes, *descriptors: int, address: str = ADDRESS) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        where = "\0" + address[1:] if address.startswith("@") else address
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        sock.sendmsg([message], ancillary, 0, where)


def from_a_child(message: bytes, *, uid: int = 0, address: str = ADDRESS) -> None:
    """The sender has ended, and been reaped, before anybody can look at it."""
    pid = os.fork()
    if pid == 0:
        if uid:
            os.setuid(uid)
        send(message, address=address)
        os._exit(0)
    os.waitpid(pid, 0)


def closed_within(message: bytes, seconds: float) -> bool:
    """Whether ocelot closes a descriptor that comes with ``message``: sd_notify_barrier(3)."""
    reader, writer = os.pipe()
    send(message, writer)
    os.close(writer)
    poll = select.poll()
    poll.register(reader, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(seconds * 1000))


def do(word: str) -> None:
    if "=" in word:
        send(word.replace("+", "\n").encode())
    elif word.startswith("await:"):
        while not os.path.exists(word.removeprefix("await:")):
            time.sleep(0.01)
    elif word.startswith("mark:"):
        os.close(os.open(word.removeprefix("mark:"), os.O_CREAT | os.O_WRONLY))
    elif word == "barrier":
        print("barrier", closed_within(b"BARRIER=1", 10), flush=True)
    elif word == "fdstore":
        print("fdstore", closed_within(b"FDSTORE=1\nFDNAME=x", 10), flush=True)
    elif word == "gone":
        os.kill(os.getppid(), signal.SIGSTOP)  # else ocelot may be quick enough to see them
        for number in range(5):  # no more than wait in the socket
            from_a_child(f"STATUS=child {number}".encode())
        from_a_child(b"READY=1")
        os.kill(os.getppid(), signal.SIGCONT)
    elif word == "dropped":
        os.setuid(65534)
        send(b"READY=1")
    elif word == "garbage":
        for message in (b"\0" * 100, b"=\n=\n", b"\xff" * 4096, b"x" * 50_000, b"A=" * 1000, b"MAINPID=0x1", b"\n"):
            send(message)
    elif word == "flood":
        began = time.monotonic()
        for number in range(1500):
            send(f"STATUS=flood {number}".encode())
        print(f"flood {time.monotonic() - began:.1f}s", flush=True)
    elif word == "child":
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(1000)
        send(f"MAINPID={pid}".encode())
    elif word == "succeed":
        parent, pid = os.getpid(), os.fork()
        if pid:
            send(f"MAINPID={pid}\nREADY=1".encode())
            os._exit(0)
        while os.getppid() == parent:
            time.sleep(0.01)
        worker = os.fork()
        if worker == 0:
            time.sleep(1000)
        send(f"STATUS=goes on with {worker}".encode())
    elif word == "ping":
        for _ in range(6):
            time.sleep(0.1)
            send(b"WATCHDOG=1")
    else:
        time.sleep(float(word))


if __name__ == "__main__":
    for each in sys.argv[1:]:
        do(each)
    signal.pause()
