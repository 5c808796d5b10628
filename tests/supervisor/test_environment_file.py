"""The dialect of environment files."""

import os

import pytest
import trio

from ocelot.errors import SpawnError
from supervisor.process.environment_file import parse, read_environment_file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"K=v", "v"),
        (b"  K=v  ", "v"),
        (b"export K=v", "v"),
        (b"K=", ""),
        (b"K=a=b", "a=b"),
        (b"K=two words", "two words"),
        (b"K='$HOME \"x\"'", '$HOME "x"'),
        (b'K="a\\"b\\\\n\\n"', 'a"b\\n\n'),
        (b'K="a\\tb"', "a\\tb"),
        (b"K='open", "'open"),
        (b"K=v # no comment", "v # no comment"),
        (b"K=\xff", "\udcff"),
        (b"K=v\r", "v"),
        ("K=a\u2028b\x0cc".encode(), "a\u2028b\x0cc"),
    ],
)
def test_a_line_gives_a_value(line, value):
    assert parse(line, "f") == {"K": value}


def test_blank_lines_and_comments_mean_nothing_and_the_last_of_a_name_wins():
    assert parse(b"# c\n\nA=1\r\nB=2\nA=3\n", "f") == {"A": "3", "B": "2"}


@pytest.mark.parametrize("line", [b"novalue", b"=v", b"A B=c", b"K=a\0b"])
def test_anything_else_is_an_error_that_names_the_line(line):
    with pytest.raises(SpawnError, match='"/etc/f": line 2 is not KEY=value'):
        parse(b"A=1\n" + line, "/etc/f")


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "f")
    with pytest.raises(SpawnError, match="it is a fifo, whose writer might never come"):
        trio.run(read_environment_file, str(tmp_path / "f"))


def test_a_file_is_read_and_the_empty_device_too(tmp_path):
    (tmp_path / "f").write_bytes(b"A=1\n")
    assert trio.run(read_environment_file, str(tmp_path / "f")) == {"A": "1"}
    assert trio.run(read_environment_file, os.devnull) == {}
