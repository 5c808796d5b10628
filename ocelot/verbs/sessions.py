"""Commands beside a process: exec and shell.

The command gets our own descriptors, handed over on the control socket. Where these are terminals it gets a pseudo-terminal instead,
made here, with our terminal in raw mode before it: keys, signals from the keyboard, job control and the size of the window are
between it and this program, and ocelot has no part in it.
"""

from __future__ import annotations

import _socket
import array
import json
import os
import signal
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from select import POLLHUP, POLLIN, POLLOUT, poll
from typing import Any

from ocelot.errors import ControlError, OcelotError, UsageError
from ocelot.verbs.arguments import Add
from ocelot.verbs.outcome import complain, told
from ocelot.wire.client import Client, quote

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals to us that go to the command, when there is no pseudo-terminal; SIGHUP ends the session."""

_BLOCK = 65536


def _add_exec(command: ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the process beside which it runs")
    _add_common(command)
    command.add_argument("argv", nargs=REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    command.epilog = (
        "It runs with the environment, the user, the limits and the cgroup of the process, and ends when this program does. "
        "Its exit status is ours; 127 if there is no such command, 126 if it cannot be executed, 128+n after signal n."
    )
    command.set_defaults(run=_exec)


def _add_shell(command: ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="the process beside which it runs; none: the machine")
    _add_common(command)
    command.epilog = "The shell is SHELL of the environment there, else /bin/sh. Its exit status is ours."
    command.set_defaults(run=_shell)


def _add_common(command: ArgumentParser) -> None:
    command.add_argument("-e", "--env", action="append", default=[], metavar="KEY=VALUE", help="add to the environment")
    command.add_argument("-w", "--workdir", metavar="DIR", help="the folder to run in, instead of that of the process")
    command.add_argument(
        "-T", "--no-tty", action="store_true", help="no pseudo-terminal, even where we have a terminal"
    )


def _exec(options: Namespace) -> int:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise UsageError(
            "cannot run nothing: no command was given", hint="write ocelotctl exec NAME -- COMMAND ARGUMENT ..."
        )
    return _run(options, argv)


def _shell(options: Namespace) -> int:
    return _run(options, [])


def _run(options: Namespace, argv: list[str]) -> int:
    terminals = [] if options.no_tty or not os.isatty(0) else [fd for fd in (0, 1, 2) if os.isatty(fd)]
    body = {
        "argv": argv,
        "environment": _environment(options.env, terminal=bool(terminals)),
        "workingDirectory": options.workdir,
        "terminal": bool(terminals),
    }
    target = f"/v1/processes/{quote(options.name)}/exec" if options.name is not None else "/v1/exec"
    with Client(options.socket) as client, ExitStack() as stack:
        reply = client.request("POST", target, json.dumps(body).encode(), upgrade="ocelot-session")
        if reply.status != 101:
            raise told(reply.status, reply.read())
        client.socket.settimeout(None)
        if not terminals:
            _hand_over(client, [0, 1, 2])
            return _follow(client)
        master, slave = os.openpty()
        _copy_settings(slave)
        _hand_over(client, [slave if fd in terminals else fd for fd in (0, 1, 2)])
        os.close(slave)
        _started(_message(client))
        stack.enter_context(raw())
        return _Relay(client, master, 1 if 1 in terminals else 2).run()


def _environment(given: list[str], *, terminal: bool) -> dict[str, str]:
    environment = {"TERM": os.environ["TERM"]} if terminal and "TERM" in os.environ else {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageError(f'cannot use "{pair}" as a variable', hint="write --env KEY=VALUE")
        environment[key] = value
    return environment


def _hand_over(client: Client, descriptors: list[int]) -> None:
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", descriptors))
    client.socket.sendmsg([b"\n"], [rights])


def _message(client: Client) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.line())
    return message


def _started(message: dict[str, Any]) -> None:
    """Raise SystemExit if the command never ran."""
    if message["kind"] == "ended":
        sys.exit(_status(message))


def _status(message: dict[str, Any]) -> int:
    if message["message"]:
        complain(OcelotError(message["message"], hint=message["hint"]), 1)
    status: int = message["status"]
    return status


# -- without a terminal


def _follow(client: Client) -> int:
    """Pass signals on until the command has ended."""
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: _pass_on(client, number))
    _started(_message(client))
    return _status(_message(client))


def _pass_on(client: Client, number: int) -> None:
    with suppress(OSError):
        client.socket.sendall(json.dumps({"kind": "signal", "signal": number}).encode() + b"\n")


# -- with one


def _copy_settings(slave: int) -> None:
    """The pseudo-terminal begins as ours is: its size, its special characters."""
    import termios

    termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))
    _copy_size(slave)


def _copy_size(fd: int) -> None:
    import termios

    with suppress(OSError, termios.error):
        termios.tcsetwinsize(fd, termios.tcgetwinsize(0))


@contextmanager
def raw() -> Iterator[None]:
    """Every key goes through as it is; undone at the end, also when a signal ends us."""
    import termios
    import tty

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Relay:
    """Between our terminal and the pseudo-terminal ``master``, until the command has ended. ``output`` shows what it writes."""

    def __init__(self, client: Client, master: int, output: int) -> None:
        self._client = client
        self._master = master
        self._output = output
        self._typed = b""
        self._keys = True
        self._hung = False

    def run(self) -> int:
        """The exit status of the command. Raises ControlError if ocelot goes before it."""
        os.set_blocking(self._master, False)
        signal.signal(signal.SIGWINCH, lambda *_: _copy_size(self._master))
        connection = self._client.socket.fileno()
        while not self._client.pending:
            ready = self._await()
            if ready.get(self._master, 0) & POLLOUT:
                self._type()
            if ready.get(self._master, 0) & (POLLIN | POLLHUP):
                self._show()
            if 0 in ready:
                self._read_keys()
            if connection in ready:
                break
        return self._finish()

    def _await(self) -> dict[int, int]:
        """What can be done now. Keys are read while there is room for them, and typed while there is room on the other side."""
        found = poll()
        found.register(self._client.socket.fileno(), POLLIN)
        if self._keys and len(self._typed) < _BLOCK:
            found.register(0, POLLIN)
        if not self._hung:
            found.register(self._master, POLLIN | (POLLOUT if self._typed else 0))
        return dict(found.poll())

    def _read_keys(self) -> None:
        block = os.read(0, _BLOCK)
        self._keys = bool(block)  # none: our terminal is gone, and SIGHUP on its way
        self._typed += block
        self._type()

    def _type(self) -> None:
        with suppress(BlockingIOError):
            self._typed = self._typed[os.write(self._master, self._typed) :]

    def _show(self) -> bool:
        """Whether there was anything to show."""
        try:
            block = os.read(self._master, _BLOCK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the other side open, nor will have
            self._hung = True
            return False
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._output, rest) :]
        return bool(block)

    def _finish(self) -> int:
        try:
            message = _message(self._client)
        except ControlError:
            self._drain()
            raise
        self._drain()
        return _status(message)

    def _drain(self) -> None:
        while self._show():
            pass


COMMANDS: dict[str, Add] = {"exec": _add_exec, "shell": _add_shell}
