"""ocelot(1) and ocelotctl(1), from their argparse trees."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from ocelot import __version__
from ocelot.manual.roff import Page, bold, slanted
from ocelot.verbs.outcome import EXITS
from ocelot.wire.client import DEFAULT_SOCKET, OF_A_USER


def ocelot(top: argparse.ArgumentParser) -> str:
    page = Page("ocelot", 1, "an init for microVMs and containers", __version__)
    _synopsis(page, top)
    page.section("Description")
    page.paragraphs(
        "``ocelot`` is the PID 1 of a machine or a container: it boots from a YAML file, switches to the real root file system, supervises "
        "processes, and powers off in order, telling the host how it went. On a desk it supervises as an ordinary process.\n\n"
        'Called as "init" it boots, as "tini" it is ``ocelot entry``, as "pause" it is ``ocelot idle``.'
    )
    _commands(page, top)
    page.section("Exit status")
    for status, meaning in (
        ("0", "Done. For init, supervise and entry: the status of what ran, 128 + n for signal n."),
        ("1", "It failed, or the file is not valid."),
        ("2", "The command line was wrong."),
    ):
        page.tagged(bold(status), meaning)
    page.section("Files")
    page.tagged(
        slanted("/etc/ocelot/bootstrap.yaml"),
        "What is booted from when neither --file nor the kernel command line names another.",
    )
    page.tagged(slanted("/etc/ocelot/supervise.yaml"), "What ``ocelot supervise`` takes when no file is named.")
    page.tagged(slanted(DEFAULT_SOCKET), "The control socket, for ``ocelotctl``.")
    page.tagged(slanted("/run/ocelot/runtime"), "The interpreter and the libraries of ocelot, in a machine.")
    page.section("Kernel command line")
    for word, value, meaning in (
        ("ocelot.config=", "FILE", "What to boot from."),
        ("ocelot.log=", "LEVEL", "In place of ``logLevel``."),
        ("ocelot.onfatal=", "ACTION", "In place of ``onFatal.action``."),
        ("ip=", "CLIENT::GATEWAY:NETMASK:HOSTNAME:DEVICE:none", "A static address, before the root is mounted."),
    ):
        page.tagged(bold(word) + slanted(value), meaning)
    page.tagged(slanted("MODULE") + bold(".") + slanted("PARAMETER=VALUE"), "Reaches the modules that ocelot loads.")
    _see_also(page, "ocelotctl(1)", "ocelot-bootstrap(5)")
    return page.text()


def ocelotctl(top: argparse.ArgumentParser) -> str:
    page = Page("ocelotctl", 1, "look at a running ocelot, and tell it what to do", __version__)
    _synopsis(page, top)
    page.section("Description")
    page.paragraphs(
        "``ocelotctl`` asks the ocelot that runs as PID 1, or wherever its control socket is, and prints the answer. What you may do is decided "
        "by your user and groups: root and ocelot's own user may do everything, others have the role that ``control.roles`` of the "
        "configuration gives to them.\n\n"
        'NAME is the name of a process, of an entry with replicas, or a pattern such as "web-*".'
    )
    _commands(page, top)
    page.section("Exit status")
    for status, meaning in re.findall(r"^  (\d)  (.+(?:\n    .+)*)", EXITS, re.MULTILINE):
        page.tagged(bold(status), _sentence(meaning))
    page.paragraphs(EXITS.splitlines()[-1])
    page.section("Environment")
    page.tagged(bold("OCELOT_SOCKET"), "The control socket, when --socket is not given.")
    page.tagged(bold("NO_COLOR"), "No colours, also on a terminal.")
    page.section("Files")
    page.tagged(slanted(DEFAULT_SOCKET), "The control socket, when nothing else is said.")
    page.tagged(
        slanted("$XDG_RUNTIME_DIR/" + OF_A_USER), "That of an ocelot that another user than root runs for himself."
    )
    _see_also(page, "ocelot(1)", "ocelot-bootstrap(5)")
    return page.text()


def _synopsis(page: Page, top: argparse.ArgumentParser) -> None:
    page.section("Synopsis")
    page.synopsis(f"{bold(top.prog)} [{slanted('OPTION')} ...] {slanted('COMMAND')} [{slanted('ARGUMENT')} ...]")


def _commands(page: Page, top: argparse.ArgumentParser) -> None:
    page.section("Options")
    shared = _options(top)
    for action in shared:
        page.tagged(_flags(action), _help(action))
    known = {action.option_strings[-1] for action in shared}
    page.section("Commands")
    for path, summary, command in _walk(top):
        page.subsection(" ".join([path, *_arguments(command)]))
        page.paragraphs(_sentence(summary))
        for action in command._actions:
            if not action.option_strings and _help(action):
                page.tagged(slanted(_metavar(action)), _help(action))
        for action in _options(command):
            if action.option_strings[-1] not in known:
                page.tagged(_flags(action), _help(action))
        if command.epilog:
            page.paragraphs(command.epilog)


def _walk(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every command that does something, with its words and its summary; an alias stands for itself once."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        seen: set[int] = set()
        for name, command in action.choices.items():
            if id(command) in seen:
                continue
            seen.add(id(command))
            words = f"{path} {name}".strip()
            if not any(isinstance(each, argparse._SubParsersAction) for each in command._actions):
                yield words, summaries.get(name, ""), command
            yield from _walk(command, words)


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS]


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The positional arguments as a usage line shows them."""
    forms: dict[object, str] = {None: "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} ...", argparse.REMAINDER: "{} ..."}
    for action in parser._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            yield forms.get(action.nargs, "{}").format(_metavar(action))


def _flags(action: argparse.Action) -> str:
    flags = ", ".join(bold(flag) for flag in action.option_strings)
    return flags if action.nargs == 0 else f"{flags} {slanted(_metavar(action))}"


def _metavar(action: argparse.Action) -> str:
    if action.metavar is not None:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices is not None:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper()


def _help(action: argparse.Action) -> str:
    return _sentence((action.help or "").replace("%%", "%").replace("%(default)s", str(action.default)))


def _sentence(text: str) -> str:
    """Text that begins with a capital, unless it begins with a name such as ocelot.1, and ends with a full stop."""
    named = "." in text.partition(" ")[0].rstrip(".,")
    return f"{text[:1] if named else text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def _see_also(page: Page, *pages: str) -> None:
    page.section("See also")
    page.synopsis(", ".join(f"{bold(name.partition('(')[0])}({name.partition('(')[2]}" for name in pages))
