"""How problems are shown."""

import json

from ocelot.config.findings import path_text, printable, quoted, suggest
from ocelot.config.loading import load
from ocelot.config.report import render, summary, to_json

HANDOFF = "postSwitch: {handoff: {mode: shell}}\n"


def test_each_problem_comes_with_its_line_and_a_caret() -> None:
    loaded = load(("console: ttyS0\nlogLevl: info\n" + HANDOFF).encode(), "boot.yaml", "bootstrap")
    assert render(loaded, "boot.yaml") == (
        'boot.yaml:2:1: error: logLevl: unknown key "logLevl" (did you mean "logLevel"?)\n'
        "     2 | logLevl: info\n"
        "       | ^\n"
    )


def test_both_lines_of_a_duplicate_are_shown() -> None:
    loaded = load(("console: ttyS0\nconsole: ttyS1\n" + HANDOFF).encode(), "f", "bootstrap")
    assert render(loaded, "f") == (
        'f:2:1: error: console: duplicate key "console", first given in line 1 (keep one of them)\n'
        "     1 | console: ttyS0\n"
        "     2 | console: ttyS1\n"
        "       | ^\n"
    )


def test_of_a_long_line_the_part_around_the_caret_is_shown() -> None:
    text = "preSwitch: {environment: {A: " + "x" * 300 + "}, hooks: 1}\n" + HANDOFF
    shown = render(load(text.encode(), "f", "bootstrap"), "f").splitlines()
    assert all(len(line) < 120 for line in shown[1:])
    assert shown[1][shown[2].index("^")] == "1"


def test_a_place_far_beyond_what_is_kept_of_a_line_is_named_without_it() -> None:
    text = "preSwitch: {environment: {A: " + "x" * 5000 + "}, hooks: 1}\n" + HANDOFF
    assert render(load(text.encode(), "f", "bootstrap"), "f").count("\n") == 1


def test_a_tab_keeps_the_caret_in_its_place() -> None:
    loaded = load(("console:\t[]\n" + HANDOFF).encode(), "f", "bootstrap")
    assert render(loaded, "f").splitlines()[1:] == ["     1 | console:\t[]", "       |         \t^"]


def test_colours_are_only_there_when_asked() -> None:
    loaded = load(b"consle: 1\n", "f", "bootstrap")
    assert "\x1b[31merror\x1b[0m" in render(loaded, "f", colour=True)
    assert "\x1b" not in render(loaded, "f")


def test_nothing_in_a_file_reaches_the_terminal_raw() -> None:
    loaded = load(b'"\\e[2J": 1\n"\\u202Eabc": \x9b\n', "f\x1b[2J", "bootstrap")
    assert all(letter.isprintable() or letter == "\n" for letter in render(loaded, "f\x1b[2J"))


def test_json_says_it_all() -> None:
    text = "logLevel: loud\npostSwitch: {handoff: {mode: supervise}}\n"
    report = json.loads(to_json(load(text.encode(), "f", "bootstrap")))
    assert report == {
        "valid": False,
        "errors": [
            {
                "severity": "error",
                "path": "logLevel",
                "line": 1,
                "column": 11,
                "message": 'must be trace, debug, info, warn or error, not "loud"',
                "hint": "",
                "source": "logLevel: loud",
                "alsoLine": 0,
                "alsoSource": "",
            }
        ],
        "warnings": [
            {
                "severity": "warning",
                "path": "postSwitch.handoff",
                "line": 2,
                "column": 23,
                "message": "there are no processes: ocelot will hold and supervise nothing",
                "hint": "add one",
                "source": "postSwitch: {handoff: {mode: supervise}}",
                "alsoLine": 0,
                "alsoSource": "",
            }
        ],
    }


def test_json_of_a_valid_file() -> None:
    loaded = load(HANDOFF.encode(), "f", "bootstrap")
    assert json.loads(to_json(loaded)) == {"valid": True, "errors": [], "warnings": []}
    assert summary(loaded) == "Configuration is valid"
    assert render(loaded, "f") == ""


def test_strict_counts_warnings() -> None:
    loaded = load(b"postSwitch: {handoff: {mode: supervise}}\n", "f", "bootstrap")
    assert json.loads(to_json(loaded))["valid"] is True
    assert json.loads(to_json(loaded, strict=True))["valid"] is False
    assert summary(loaded, strict=True) == "Configuration is not valid: 1 warning"


def test_paths() -> None:
    assert path_text(("a", "b", 0, "c.d", 'e"f', "")) == 'a.b[0]["c.d"]["e"f"][""]'


def test_words() -> None:
    assert quoted("a\nb\x1b") == r'"a\nb\x1b"'
    assert len(quoted("x" * 1000)) < 170
    assert printable("a\x1b\tb") == "a?\tb"
    assert suggest("handof", ["hooks", "handoff"]) == "handoff"
    assert suggest("log_level", ["logLevel"]) == "logLevel"
    assert suggest("xyz", ["handoff"]) is None
