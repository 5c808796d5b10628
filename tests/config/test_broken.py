"""Broken files and exactly what is said about them."""

from pathlib import Path

import pytest

from ocelot.config import nodes
from ocelot.config.loading import load, load_file
from tests.config.broken import CASES, Case, load_case, problems


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_says_exactly_what_is_wrong(case: Case) -> None:
    loaded = load_case(case)
    assert problems(loaded) == case.expected
    assert (loaded.config is None) == bool(loaded.errors)


def test_the_table_is_not_thin() -> None:
    assert len(CASES) >= 80
    assert all(case.expected for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_both_parsers_agree(case: Case) -> None:
    assert _outcome(case.text, pure=True) == _outcome(case.text, pure=False)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_looking_for_its_files_takes_nothing_away(case: Case, tmp_path: Path) -> None:
    """A record holds what could be read of it: ``validate``, which looks for files too, must not stumble over the rest."""
    looked = load(case.text.encode(), "f", case.kind, root=str(tmp_path), files=True)
    assert {error.located("f") for error in load_case(case).errors} <= {error.located("f") for error in looked.errors}


ITEMS = ("mounts", "hooks", "symlinks", "tmpfiles")


def test_every_list_may_hold_an_item_that_cannot_be_read() -> None:
    keys = "".join(f"  {key}: [5]\n" for key in ITEMS)
    text = f"preSwitch:\n{keys}  modules: {{names: [[a]]}}\npostSwitch: {{handoff: {{mode: shell}}}}\n"
    loaded = load(text.encode(), "f", "bootstrap", files=True)
    assert [error.path for error in loaded.errors] == [
        *(f"preSwitch.{key}[0]" for key in ITEMS),
        "preSwitch.modules.names[0]",
    ]


def _outcome(text: str, *, pure: bool) -> object:
    try:
        root, duplicates = nodes.parse(text, pure=pure)
    except nodes.Flaw as flaw:
        # libyaml points at the backslash, PyYAML at the letter after it
        column = 0 if "escape" in flaw.message else flaw.column
        return flaw.line, column, flaw.message, flaw.hint
    return _plain(root), [(each.path, each.first.line, each.second.line) for each in duplicates]


def _plain(node: nodes.Node | None) -> object:
    if isinstance(node, nodes.Scalar):
        return node.line, node.column, node.text, node.plain
    if isinstance(node, nodes.Sequence):
        return node.line, node.column, [_plain(item) for item in node.items]
    if isinstance(node, nodes.Mapping):
        return node.line, node.column, {key: (_plain(a), _plain(b)) for key, (a, b) in node.entries.items()}
    return None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"console: a\nlogLevel: \0",
            "f:2:0: the file is binary: it contains a NUL byte (check that it is the right file)",
        ),
        (
            b"\x7fELF\x02\x01\x01\0\0",
            "f:1:0: the file is binary: it contains a NUL byte (check that it is the right file)",
        ),
        ("console: a".encode("utf-16"), "f:1:1: the file is encoded as UTF-16 (save it as UTF-8)"),
        ("# é\nconsole: é".encode("latin-1"), "f:1:3: byte 0xe9 is not UTF-8 (save the file as UTF-8)"),
        (b"# \xe2\x80\xa8\r\rconsole: \xff", "f:4:10: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        (b"# a\r# b\x01", "f:2:4: the control character U+0001 is not allowed (remove it)"),
        (
            b" " * (nodes.MAX_BYTES + 1),
            "f: the file has more than 4194304 bytes (check that it is the right file)",
        ),
    ],
)
def test_bytes_that_are_not_text(data: bytes, expected: str) -> None:
    loaded = load(data, "f", "bootstrap")
    assert [error.located("f") for error in loaded.errors] == [expected]
    assert loaded.config is None


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "a: [", "[{a: "])
def test_25_000_nested_brackets_are_refused_and_not_fatal(opening: str, pure: bool) -> None:
    with pytest.raises(nodes.Flaw, match=r"nested more than 64 levels deep|a colon is not allowed|must be text"):
        nodes.parse(opening * 25_000, pure=pure)


@pytest.mark.parametrize("pure", [False, True])
def test_64_levels_are_allowed_and_65_are_not(pure: bool) -> None:
    nodes.parse("[" * 64 + "]" * 64, pure=pure)
    with pytest.raises(nodes.Flaw):
        nodes.parse("[" * 65 + "]" * 65, pure=pure)


def _bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    with pytest.raises(nodes.Flaw, match="more than 200000 values when its aliases are written out"):
        nodes.parse(_bomb(30))


def test_aliases_do_not_get_around_the_depth_limit() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 80)]
    with pytest.raises(nodes.Flaw, match="nests more than 64 levels deep"):
        nodes.parse("\n".join(lines))


def test_a_modest_alias_is_fine() -> None:
    text = b"""
preSwitch: {environment: &env {A: b}}
postSwitch: {environment: *env, handoff: {mode: shell}}
"""
    loaded = load(text, "f", "bootstrap")
    assert not loaded.errors
    assert loaded.config is not None


def test_a_byte_order_mark_is_skipped() -> None:
    loaded = load(b"\xef\xbb\xbfconsole: ttyS0\npostSwitch: {handoff: {mode: shell}}\n", "f", "bootstrap")
    assert not loaded.errors


def test_windows_line_ends_are_fine_and_counted_once() -> None:
    loaded = load(b"console: ttyS0\r\nlogLevel: loud\r\npostSwitch: {handoff: {mode: shell}}\r\n", "f", "bootstrap")
    assert [(error.line, error.column, error.source) for error in loaded.errors] == [(2, 11, "logLevel: loud")]


def test_files_that_cannot_be_read(tmp_path) -> None:
    missing, folder = str(tmp_path / "none.yaml"), str(tmp_path)
    assert [e.located(missing) for e in load_file(missing, "bootstrap").errors] == [
        f"{missing}: cannot read the file: No such file or directory (check the path)"
    ]
    assert [e.located(folder) for e in load_file(folder, "supervise").errors] == [
        f"{folder}: cannot read the file: Is a directory (name the file in it)"
    ]
    device = load_file("/dev/null", "bootstrap").errors
    assert [e.message for e in device] == ["cannot read the file: it is not a regular file"]


def test_a_duplicate_shows_both_lines() -> None:
    loaded = load(b"console: ttyS0\nconsole: ttyS1\npostSwitch: {handoff: {mode: shell}}\n", "f", "bootstrap")
    (error,) = loaded.errors
    assert (error.also_line, error.also_source) == (1, "console: ttyS0")
    assert (error.line, error.source) == (2, "console: ttyS1")
