"""What the README says is so: its files are valid, its commands can be typed, its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ocelot import cli, ctl
from ocelot.config.loading import load
from ocelot.config.report import render
from supervisor import signals
from tests.test_dashboards import KNOWN

README = Path(__file__).resolve().parent.parent / "README.md"
TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    """What stands between the fences of that language."""
    parts = re.split(r"^```(\w*)\n", TEXT, flags=re.MULTILINE)
    return [body for opening, body in zip(parts[1::4], parts[2::4], strict=True) if opening == language]


def typed() -> list[str]:
    """What is to be typed, from blocks of commands and from the text: one alternative of each, with names for NAMES."""
    lines = [
        part
        for block in blocks("")
        for line in block.splitlines()
        for part in re.split(r" {2,}|\t", line.split("  #")[0])
    ]
    lines += [line.replace("\\|", "|") for line in re.findall(r"`(ocelot(?:ctl)? [^`]*)`", TEXT)]
    found = {}
    for line in lines:
        if re.match(r"ocelot(ctl)? [a-z]", line) and line.strip() != "ocelot supervise":
            for one in _alternatives(_filled(re.split(r" [|>] ", line)[0])):
                found[one] = None
    return list(found)


def _filled(line: str) -> str:
    line = re.sub(r"(\[-f\]|\[([^]]*)\])", lambda match: match[2] or "-f", line)  # what may be left out is written
    line = line.replace("NAME...", "web").replace("-- CMD", "-- true")
    return re.sub(r"\b(NAME|FILE|DIR|V)\b", "web", line)


def _alternatives(line: str) -> list[str]:
    first, *rest = line.split(" ")
    for place, word in enumerate(rest):
        if re.fullmatch(r"\w+(\|\w+)+", word):
            return [" ".join((first, *rest[:place], each, *rest[place + 1 :])) for each in word.split("|")]
    return [line]


@pytest.mark.parametrize("line", typed())
def test_its_commands_can_be_typed(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    try:
        if program == "ocelotctl":
            ctl.parse(arguments)
        else:
            cli.parser(images=True).parse_args(cli._with_default_command(arguments))
    except SystemExit as exit:
        pytest.fail(f"{line}: {exit}")


def test_there_are_commands_in_it() -> None:
    verbs = {line.split()[1] for line in typed() if line.startswith("ocelotctl")}
    assert verbs >= ctl._COMMANDS.keys() - {"help", "version", "metrics", "halt", "reboot"}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_its_files_are_valid(text: str) -> None:
    kind = "supervise" if text.startswith("version") else "bootstrap"
    loaded = load(text.encode(), "README.md", kind)
    assert loaded.valid(strict=True), render(loaded, "README.md")


def test_the_table_of_signals_is_the_one_in_the_code() -> None:
    shown = TEXT.partition("<!-- signals -->\n")[2].partition("<!-- /signals -->")[0]
    assert shown == signals.markdown()


def test_every_figure_is_named_and_no_other() -> None:
    text = TEXT.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    named = set()
    prefix = ""
    for word, labels in re.findall(r"`([a-z_.]+?\*?)(?:\{([^}]*)\})?`", text):
        name = word
        if name.startswith("_"):
            name = prefix + name
        elif not name.startswith(("ocelot_", "process_")):
            name = f"ocelot_process_{name}"
        elif name.startswith("ocelot_probe"):
            prefix = "ocelot_probe"
        known = {each for each in KNOWN if each == name or each in (f"{name}_bucket", f"{name}_sum", f"{name}_count")}
        known |= {each for each in KNOWN if name.endswith("*") and each.startswith(name[:-1])}
        if known:
            named |= known
            for each in known:
                assert set(filter(None, labels.split(","))) <= KNOWN[each], f"{each} has no such labels: {labels}"
    missing = set(KNOWN) - named - {"up"} - {each for each in KNOWN if each.startswith("process_")}
    assert missing == set(), "not in the README"
