"""Acting: start, stop, restart, signal, and the end of the machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ocelot.errors import OcelotError, UsageError
from ocelot.verbs.arguments import Add, duration, everybody
from ocelot.verbs.outcome import FAILED, OK, TIMED_OUT, complain
from ocelot.verbs.terminal import colour, columns, print_json
from ocelot.wire.client import call


def _add_action(command: ArgumentParser) -> None:
    everybody(command)
    command.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it has taken effect")
    command.add_argument(
        "-t", "--timeout", type=duration, default=90.0, metavar="TIME", help="how long to wait, such as 30s (90s)"
    )
    command.set_defaults(run=_act)


def _add_signal(command: ArgumentParser) -> None:
    command.add_argument("signal", metavar="SIGNAL", help="a name or number, such as HUP")
    everybody(command)
    command.set_defaults(run=_act, wait=False, timeout=0.0)


def _act(options: Namespace) -> int:
    from ocelot.wire.tables import process_table

    names = ["*"] if options.all else options.names
    if not names:
        raise UsageError(f"cannot {options.command} nothing: no NAME was given", hint="name processes, or use --all")
    body = {"names": names, "wait": options.wait, "timeout": options.timeout}
    if options.command == "signal":
        body["signal"] = options.signal
    reply = call(options.socket, "POST", f"/v1/processes/{options.command}", body, timeout=options.timeout + 30.0)
    if options.json:
        print_json(reply)
    elif reply["processes"]:
        for line in process_table(reply["processes"], width=columns(), colour=colour()):
            print(line)
    if reply["failed"]:
        failed = ", ".join(f'"{name}"' for name in reply["failed"])
        hint = f"ocelotctl logs {reply['failed'][0]} shows what it wrote"
        return complain(OcelotError(f"cannot {options.command} {failed}", hint=hint), FAILED)
    if options.wait and not reply["settled"]:
        hint = "it goes on; ocelotctl status shows how far it is"
        return complain(OcelotError(f"cannot wait any longer for {options.command}", hint=hint), TIMED_OUT)
    return OK


def _add_power(command: ArgumentParser) -> None:
    command.set_defaults(run=_power)


def _power(options: Namespace) -> int:
    reply = call(options.socket, "POST", f"/v1/power/{options.command}")
    if options.json:
        print_json(reply)
    else:
        print({"poweroff": "powering off", "reboot": "rebooting", "halt": "halting"}[reply["verb"]])
    return OK


def _add_reexec(command: ArgumentParser) -> None:
    command.add_argument(
        "--runtime", metavar="DIR", help="the newer one, a folder that ocelot runtime build has made (else: the same)"
    )
    command.set_defaults(run=_reexec)


def _reexec(options: Namespace) -> int:
    import os.path

    runtime = os.path.abspath(options.runtime) if options.runtime else None
    reply = call(options.socket, "POST", "/v1/reexec", {"runtime": runtime}, timeout=180.0)
    if options.json:
        print_json(reply)
    else:
        print(
            f"ocelot {reply['version']} (Python {reply['python']}) goes on with {reply['processes']} processes;"
            f" nobody supervised for {reply['away'] * 1000:.0f} ms"
        )
    return OK


COMMANDS: dict[str, Add] = {
    "start": _add_action,
    "stop": _add_action,
    "restart": _add_action,
    "signal": _add_signal,
    "poweroff": _add_power,
    "reboot": _add_power,
    "halt": _add_power,
    "reexec": _add_reexec,
}
