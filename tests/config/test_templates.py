"""The templates: complete, valid without a warning, and what is commented out is valid as well."""

import re

import pytest

from ocelot.config import structs, templates
from ocelot.config.converting import record_fields
from ocelot.config.loading import load
from ocelot.config.report import render

ALL = [("bootstrap", mode) for mode in templates.MODES] + [("supervise", "supervise")]


@pytest.mark.parametrize(("kind", "mode"), ALL)
def test_is_valid_even_strictly(kind, mode) -> None:
    loaded = load(templates.text(kind, mode).encode(), "t", kind, files=True)
    assert loaded.valid(strict=True), render(loaded, "t")


@pytest.mark.parametrize("mode", templates.MODES)
def test_has_the_hand_off_of_its_mode_and_no_trap(mode) -> None:
    config = load(templates.text("bootstrap", mode).encode(), "t", "bootstrap").config
    assert isinstance(config, structs.Bootstrap)
    assert type(config.post_switch.handoff).__name__.lower() == mode
    assert config.switch_root is not None
    mount = config.switch_root.root_file_system
    assert mount == structs.VirtiofsMount(tag="rootfs", target="/")


@pytest.mark.parametrize(("kind", "mode"), ALL)
def test_names_every_key_of_the_top(kind, mode) -> None:
    words = set(re.findall(r"\w+", templates.text(kind, mode)))
    top = structs.Bootstrap if kind == "bootstrap" else structs.SuperviseFile
    records = [top, structs.Control, structs.Metrics, structs.Host, structs.OnFatal, structs.Shutdown]
    if mode == "supervise":
        records += [structs.Process, structs.RestartPolicy]
    if kind == "bootstrap":
        records += [structs.Phase, structs.BootScript, structs.Symlink, structs.Modules, structs.Hook, structs.Tmpfile]
        records += structs.Mount.__args__
    keys = {key for record in records for key in record_fields(record)}
    assert keys <= words, keys - words


@pytest.mark.parametrize(("kind", "mode"), ALL)
def test_what_is_commented_out_is_valid_too(kind, mode) -> None:
    """Every commented block, one at a time, in place of the line above it that says the same key is empty."""
    lines = templates.text(kind, mode).splitlines()
    tried = 0
    for start, end in _blocks(lines):
        key = lines[start].strip().removeprefix("# ").partition(":")[0]
        body = [re.sub(r"^(\s*)# ?", r"\1", line) for line in lines[start:end]]
        indent = len(lines[start]) - len(lines[start].lstrip())
        rest = [
            line
            for line in [*lines[:start], "\0", *lines[end:]]
            if not re.match(rf"^ {{{indent}}}{key}: (null|\[\]|\{{\}})$", line)
        ]
        at = rest.index("\0")
        text = "\n".join(rest[:at] + body + rest[at + 1 :]) + "\n"
        loaded = load(text.encode(), "t", kind)
        assert loaded.errors == [], f"{key}: {render(loaded, 't')}"
        tried += 1
    assert tried >= 8


def _blocks(lines: list[str]) -> list[tuple[int, int]]:
    """Runs of comment lines that start with a key which is not an alternative of something given (``type:``)."""
    blocks = []
    start = None
    for number, line in enumerate([*lines, ""]):
        comment = line.strip().startswith("# ") and re.match(r"\s*# ( *- | *)?[a-zA-Z]+:( |$)|\s*#   ", line)
        if comment and start is None:
            if re.match(r"\s*# (?!type|device|tag|server|export|lower|upper|work)[a-zA-Z]+:( |$)", line):
                start = number
        elif not comment and start is not None:
            blocks.append((start, number))
            start = None
    return blocks


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="supervise, shell or exec"):
        templates.text("bootstrap", "boot")
