"""The manual pages name everything that they are about, and are clean roff as far as can be told without a formatter."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from ocelot import ctl
from ocelot.cli import trees
from ocelot.config.schema import schema
from ocelot.manual import PAGES, install, page
from ocelot.manual.commands import _walk
from ocelot.manual.roff import Page, plain


def unformatted(text: str) -> str:
    return re.sub(r"\\f[BIR]", "", text).replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


@pytest.mark.parametrize("name", PAGES)
def test_every_line_is_text_or_a_request_that_is_meant(name: str) -> None:
    for line in page(name, trees()).splitlines():
        if line.startswith((".", "'")):
            assert line.split(" ")[0] in {".TH", ".nh", ".ad", ".SH", ".SS", ".PP", ".TP", ".nf", ".fi", ".RS", ".RE"}
        assert line == line.rstrip()
        assert line


@pytest.mark.parametrize(("name", "parser"), [("ocelotctl.1", ctl.parser())])
def test_every_command_and_every_option_is_there(name: str, parser) -> None:
    text = unformatted(page(name, trees()))
    for path, _, command in _walk(parser):
        assert re.search(rf'^\.SS "{path}\b', text, re.MULTILINE), path
        for action in command._actions:
            for flag in action.option_strings:
                assert flag in text, f"{path} {flag}"
    assert "  6" not in text


def test_the_tools_for_images_are_there_too() -> None:
    text = unformatted(page("ocelot.1", trees()))
    for words in (
        "initramfs build",
        "initramfs inspect FILE",
        "bootstrap validate",
        "supervise run",
        "--kernel-version V",
    ):
        assert words in text


def test_every_key_of_every_record_is_there() -> None:
    text = unformatted(page("ocelot-bootstrap.5", trees()))
    sections = dict(re.findall(r'^\.SS "(\w+)"\n(.*?)(?=^\.S[SH])', text, re.MULTILINE | re.DOTALL))
    for kind in ("bootstrap", "supervise"):
        for name, record in schema(kind)["$defs"].items():
            for key in record["properties"]:
                assert key in sections[name], f"{name}.{key}"
    assert "default 1m" not in text
    assert "``" not in text, "a docstring of several lines is words, too"
    assert re.search(r"terminationGracePeriod\nduration; default 60s", text)


def test_text_cannot_become_a_request_or_an_escape() -> None:
    made = Page("x", 1, "a test", "0")
    made.paragraphs(".SH evil\n'so C:\\new and --long `a-b`")
    assert made.text().splitlines()[-1] == "\\&.SH evil 'so C:\\enew and \\-\\-long \\fBa\\-b\\fR"
    assert plain(".x") == "\\&.x"


def test_they_are_written_where_man_looks_for_them(tmp_path) -> None:
    paths = install(str(tmp_path), trees())
    assert [path.removeprefix(f"{tmp_path}/") for path in paths] == [
        "man1/ocelot.1",
        "man1/ocelotctl.1",
        "man5/ocelot-bootstrap.5",
    ]


def test_a_build_can_be_reproduced(monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert page("ocelotctl.1", trees()).splitlines()[0].split(" ")[3] == "1970-01-02"


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in dict.fromkeys(action.choices.values()):
                yield from parsers(each)


@pytest.mark.parametrize("name", ["ocelot", "ocelotctl"])
def test_help_fits_into_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for parser in parsers(trees()[name]):
        text = parser.format_help()
        assert [line for line in text.splitlines() if len(line) > 80] == [], parser.prog
        assert not re.search(r"[a-z)]\.[A-Z]", text), parser.prog
