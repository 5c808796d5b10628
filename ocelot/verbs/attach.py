"""Standing in for a process: its output is ours, keys or signals to us go to it, and we end with it, with its status.

With a terminal of its own (``stdin: pty``) it is connected with ours, see ``remote``; other processes get signals only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from ocelot.errors import ControlError, OcelotError
from ocelot.verbs.arguments import Add
from ocelot.verbs.detaching import DEFAULT, Detaching, parse
from ocelot.verbs.log_stream import stream
from ocelot.verbs.outcome import FAILED, OK, complain
from ocelot.verbs.remote import Remote, attach
from ocelot.wire.client import call, quote

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ALIVE = ("starting", "running", "stopping")

_KEYS = {0x03: signal.SIGINT, 0x1C: signal.SIGQUIT}  # Ctrl-C, Ctrl-backslash
_DETACH = 0x1D  # Ctrl-]


def _add_attach(command: ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the process")
    command.add_argument("-n", "--lines", type=int, default=10, metavar="N", help="begin with the last N lines (10)")
    command.add_argument(
        "--detach-keys",
        default=DEFAULT,
        metavar="KEYS",
        help=f"what leaves the process running ({DEFAULT}); empty: nothing",
    )
    command.add_argument(
        "--no-stdin", action="store_true", help="only show what it writes: no key and no signal goes to it"
    )
    command.add_argument("--no-signals", action="store_true", help="pass no signals on: they end ocelotctl only")
    command.epilog = (
        "With `stdin: pty` the process has a terminal, and yours is connected with it: every key goes to it but the\n"
        "keys that detach, and several may be attached at once. Without a terminal of yours, standard input is sent.\n"
        "To type takes the role admin, as exec does; with the role read you see what it writes.\n"
        "Other processes read no keys: Ctrl-C and Ctrl-\\ go to them as signals, Ctrl-] detaches too. With `stdin: tty`\n"
        "a process reads the console itself. exec and shell run something beside a process.\n"
        "When the process ends, so does ocelotctl, with its exit status; 128+n after signal n."
    )
    command.set_defaults(run=_attach)


def _attach(options: Namespace) -> int:
    keys = parse(options.detach_keys)
    target = f"/v1/processes/{quote(options.name)}"
    process = call(options.socket, "GET", target)
    if process["state"] not in ALIVE:
        hint = f"start it with ocelotctl start {options.name}; ocelotctl logs {options.name} shows what it wrote"
        why = f'cannot attach to "{options.name}": it is {process["state"]}'
        return complain(OcelotError(why, hint=hint), FAILED)
    connected = attach(options)
    if isinstance(connected, Remote):
        return _to_terminal(options, target, connected)
    return _to_output(options, target, process, keys)


def _to_terminal(options: Namespace, target: str, remote: Remote) -> int:
    """Signals from the keyboard are the terminal's there; others are passed on only where there is no keyboard."""

    def tell() -> None:
        if os.isatty(0) and os.isatty(2):
            keys = options.detach_keys.replace(",", " ")
            _note(f"attached to {options.name}" + (f": {keys} detaches" if remote.typing and keys else ""))

    with _signals(options, target, passing=remote.keys and not remote.typing):
        status = remote.run(tell)
    if status is None:
        _note("detached")
        return OK
    return status


def _to_output(options: Namespace, target: str, process: dict[str, Any], keys: bytes) -> int:
    """Its output as the log has it: a process without a terminal of its own."""
    heard, told_end = os.pipe()
    wanted = [("n", str(max(options.lines, 0))), ("follow", "true"), ("pid", str(process["pid"] or 0))]
    logs = _Follower(stream(options.socket, [options.name], wanted, follow=True), told_end)
    with _keyboard(options) as typing, _signals(options, target, passing=not options.no_stdin):
        if typing:
            _note(f"attached to {options.name}, which has no terminal and gets no keys: Ctrl-] detaches")
        logs.start()
        ended = _until(options, target, heard, Detaching(keys) if typing else None)
    if not ended:
        _note("detached")
        return OK
    if logs.error is not None:
        raise logs.error
    last: dict[str, Any] | None = call(options.socket, "GET", target)["lastExit"]
    return int(last["status"]) if last is not None else OK


class _Follower(Thread):
    """Shows ``lines`` until they end, or cannot be had any more: then ``error`` says why. Writes to ``told_end`` then."""

    def __init__(self, lines: Iterator[bytes], told_end: int) -> None:
        super().__init__(daemon=True)
        self.error: ControlError | None = None
        self._lines = lines
        self._told_end = told_end

    def run(self) -> None:
        try:
            for line in self._lines:
                _show(json.loads(line))
        except ControlError as error:
            self.error = error
        os.write(self._told_end, b"x")


def _show(line: dict[str, Any]) -> None:
    stream = sys.stderr if line["stream"] == "stderr" else sys.stdout
    end = "\r\n" if stream.isatty() else "\n"
    stream.write(line["text"] + end)
    stream.flush()


# -- keys and signals


def _until(options: Namespace, target: str, heard: int, detaching: Detaching | None) -> bool:
    """Heed the keyboard until the process has ended (true), or somebody detaches (false). ``detaching`` None: there is none."""
    from select import POLLIN, poll

    found = poll()
    found.register(heard, POLLIN)
    if detaching is not None:
        found.register(0, POLLIN)
    while True:
        ready = dict(found.poll())
        if heard in ready or detaching is None:
            return True
        block = os.read(0, 64) or bytes((_DETACH,))
        keys, detached = detaching.feed(block)
        for key in keys:
            if key == _DETACH or (key in _KEYS and options.no_signals):
                return False
            if key in _KEYS:
                _pass_on(options, target, _KEYS[key])
        if detached:
            return False


@contextmanager
def _keyboard(options: Namespace) -> Iterator[bool]:
    """Keys come one by one and make no signals, if standard input is a terminal and we are to read it; whether that is so."""
    if options.no_stdin or not os.isatty(0):
        yield False
        return
    import termios

    before = termios.tcgetattr(0)
    ours = termios.tcgetattr(0)
    ours[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    ours[0] &= ~termios.IXON
    termios.tcsetattr(0, termios.TCSADRAIN, ours)
    try:
        yield True
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _signals(options: Namespace, target: str, *, passing: bool) -> Iterator[None]:
    if not passing or options.no_signals:
        yield
        return
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: _pass_on(options, target, number))
    yield
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_DFL)


def _pass_on(options: Namespace, target: str, number: int) -> None:
    try:
        call(options.socket, "POST", f"{target}/signal", {"signal": int(number)})
    except ControlError as error:
        if error.kind != "not-running":
            _note(str(error))


def _note(text: str) -> None:
    end = "\r\n" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"[{text}]{end}")
    sys.stderr.flush()


COMMANDS: dict[str, Add] = {"attach": _add_attach}
