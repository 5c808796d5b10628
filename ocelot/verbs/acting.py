"""Acting: start, stop, restart, signal, and the end of the machine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from ocelot.errors import OcelotError, UsageError
from ocelot.verbs.arguments import Add, duration, everybody, names
from ocelot.verbs.outcome import FAILED, OK, TIMED_OUT, complain, look_at
from ocelot.verbs.terminal import colour, columns, print_json
from ocelot.wire.client import Cut, call, quote


def _add_action(command: ArgumentParser) -> None:
    everybody(command)
    _add_waiting(command)
    command.epilog = _EPILOGS[command.prog.rpartition(" ")[2]]
    command.set_defaults(run=_act)


def _add_waiting(command: ArgumentParser) -> None:
    command.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it has taken effect")
    command.add_argument(
        "-t", "--timeout", type=duration, default=90.0, metavar="TIME", help="how long to wait, such as 30s (90s)"
    )


def _add_signal(command: ArgumentParser) -> None:
    command.add_argument("signal", metavar="SIGNAL", help="a name or number, such as HUP")
    everybody(command)
    command.set_defaults(run=_act, wait=False, timeout=0.0)


def _add_scale(command: ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="an entry of the configuration that has replicas")
    command.add_argument("replicas", metavar="N", type=int, help="how many there are to be, from 0 up")
    _add_waiting(command)
    command.set_defaults(run=_scale)


def _scale(options: Namespace) -> int:
    body = {"replicas": options.replicas, "wait": options.wait}
    return _told(options, _until_done(options, f"/v1/processes/{quote(options.name)}/scale", body))


def _act(options: Namespace) -> int:
    names = ["*"] if options.all else options.names
    if not names:
        raise UsageError(f"cannot {options.command} nothing: no NAME was given", hint="name processes, or use --all")
    body: dict[str, Any] = {"names": names, "wait": options.wait}
    if options.command == "signal":
        body["signal"] = options.signal
    return _told(options, _until_done(options, f"/v1/processes/{options.command}", body))


def _until_done(options: Namespace, target: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer, whichever ocelot gives it. What the one before has done already is not done again: it is told apart by its token."""
    import os

    if not options.wait:
        return _asked(options, target, body)
    from ocelot.verbs.patience import explained

    body["token"] = os.urandom(12).hex()
    names = [options.name] if options.command == "scale" else ["all"] if body["names"] == ["*"] else body["names"]
    with explained(names, options.command):
        return _asked(options, target, body)


def _asked(options: Namespace, target: str, body: dict[str, Any]) -> dict[str, Any]:
    import time

    end = time.monotonic() + options.timeout
    while True:
        left = max(0.0, end - time.monotonic())
        try:
            reply: dict[str, Any] = call(options.socket, "POST", target, body | {"timeout": left}, timeout=left + 30.0)
        except Cut as cut:
            if not options.wait:
                raise
            from ocelot.verbs.again import await_answer

            await_answer(options.socket, cut)
        else:
            return reply


def _told(options: Namespace, reply: dict[str, Any]) -> int:
    from ocelot.wire.tables import process_table

    if options.json:
        print_json(reply)
    else:
        for line in process_table(reply["processes"], width=columns(), colour=colour()):
            print(line)
    if reply["failed"]:
        failed = ", ".join(f'"{name}"' for name in reply["failed"])
        which = [process for process in reply["processes"] if process["name"] in reply["failed"]]
        if len(which) != 1:
            return complain(
                OcelotError(f"cannot {options.command} {failed}", hint="ocelotctl status NAME says why"), FAILED
            )
        why = which[0]["reason"] or f"it is {which[0]['state']}"
        return complain(OcelotError(f"cannot {options.command} {failed}: {why}", hint=look_at(which[0])), FAILED)
    if options.wait and not reply["settled"]:
        hint = "it goes on; ocelotctl status shows how far it is"
        return complain(OcelotError(f"cannot wait any longer for {options.command}", hint=hint), TIMED_OUT)
    return OK


def _add_power(command: ArgumentParser) -> None:
    command.epilog = (
        "Where ocelot is not the init of a machine, in a container or on a desk, only ocelot ends: it stops its processes in order"
        " and exits."
    )
    command.set_defaults(run=_power)


def _power(options: Namespace) -> int:
    reply = call(options.socket, "POST", f"/v1/power/{options.command}")
    if options.json:
        print_json(reply)
    else:
        verb = {"poweroff": "powering off", "reboot": "rebooting", "halt": "halting"}[reply["verb"]]
        print(
            verb if reply.get("identity", "machine") == "machine" else "stopping everything in order; then ocelot exits"
        )
    return OK


def _add_reload(command: ArgumentParser) -> None:
    names(command, "*")
    command.add_argument("-n", "--dry-run", action="store_true", help="only show what would change")
    command.add_argument("--keep-scale", action="store_true", help="what was scaled keeps its number of replicas")
    command.add_argument("-f", "--file", metavar="PATH", help="another file than the one that ocelot was started with")
    _add_waiting(command)
    command.epilog = _EPILOGS["reload"]
    command.set_defaults(run=_reload)


def _reload(options: Namespace) -> int:
    if options.names:
        if options.dry_run or options.file or options.keep_scale:
            raise UsageError(
                "cannot combine NAME with --dry-run, --file or --keep-scale",
                hint="a process gets its reloadSignal, no more",
            )
        return _reload_processes(options)
    import os.path

    from ocelot.wire.differences import told

    file = os.path.abspath(options.file) if options.file else None
    wanted = {"file": file, "dryRun": options.dry_run, "keepScale": options.keep_scale}
    reply = call(options.socket, "POST", "/v1/reload", wanted, timeout=600.0)
    if options.json:
        print_json(reply)
        return FAILED if reply["problems"] or reply["failed"] else OK
    for line in reply["warnings"]:
        print(f"warning: {line}", file=sys.stderr)
    if reply["problems"]:
        for line in reply["problems"]:
            print(line, file=sys.stderr)
        return complain(OcelotError("cannot reload: the file cannot be used", hint="nothing was changed"), FAILED)
    for line in told(reply):
        print(line)
    return FAILED if reply["failed"] else OK


def _reload_processes(options: Namespace) -> int:
    reply = _until_done(options, "/v1/processes/reload", {"names": options.names, "wait": options.wait})
    if options.json:
        print_json(reply)
    if reply["failed"]:
        name = reply["failed"][0]
        hint = f"ocelotctl logs {name} shows what it wrote"
        return complain(OcelotError(f'cannot reload "{name}": it ended before it had reloaded', hint=hint), FAILED)
    if options.wait and not reply["settled"]:
        return complain(_unfinished(reply["processes"], options.timeout), TIMED_OUT)
    return OK


def _unfinished(processes: list[dict[str, Any]], timeout: float) -> OcelotError:
    """What is said of the first that has not reloaded within ``timeout`` seconds."""
    notify = {each["name"]: (each["health"] or {}).get("notify") or {} for each in processes}
    name = next((name for name, said in notify.items() if said.get("reload") in ("asked", "reloading")), "")
    start = f'cannot wait any longer for "{name}" to reload:'
    if notify.get(name, {}).get("reload") == "reloading":
        hint = f"it goes on; ocelotctl status {name} shows how far it is"
        return OcelotError(f"{start} it has not said READY=1 within {timeout:g}s", hint=hint)
    return OcelotError(
        f"{start} it got the signal, but has not said RELOADING=1 (with MONOTONIC_USEC=) within {timeout:g}s",
        hint="one that never does: `notify: {type: systemd, reload: false}`, or --no-wait",
    )


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
        many = "1 process" if reply["processes"] == 1 else f"{reply['processes']} processes"
        print(
            f"ocelot {reply['version']} (Python {reply['python']}) goes on with {many};"
            f" nobody supervised for {reply['away'] * 1000:.0f} ms"
        )
    return OK


_EPILOGS = {
    "reload": """\
Without NAME the configuration file is read anew. One with errors changes nothing. Processes whose entry is different
are started again only if that is needed; one that was stopped stays stopped, unless its restartPolicy is Always. Who
may ask what (control) and where ocelot listens (control, metrics) changes at once; what was done while booting is told,
and takes a new start. An entry that was scaled gets the number of replicas that the file says, unless --keep-scale.
With NAME nothing is read: the processes get the signal of their reloadSignal. One that says how far it is (notify: systemd)
is waited for, until it has said RELOADING=1 and then READY=1, sd_notify(3).
""",
    "start": """\
What a process requires (dependsOn) and does not have is started first; until its conditions hold the process waits.
A process with a schedule runs now, and again at its times.
""",
    "stop": """\
Of several, those that depend on others go first. What depends on a process but is not named goes on without it.
A process with a schedule does not run again until it is started.
""",
    "restart": """\
Processes that depend on one of these with `restart: true` are restarted too; the others go on.
""",
}

COMMANDS: dict[str, Add] = {
    "start": _add_action,
    "stop": _add_action,
    "restart": _add_action,
    "signal": _add_signal,
    "scale": _add_scale,
    "poweroff": _add_power,
    "reboot": _add_power,
    "halt": _add_power,
    "reload": _add_reload,
    "reexec": _add_reexec,
}
