"""Why a program could not be started, told from the file itself."""

import errno
import platform
import struct

import pytest

from supervisor.children.spawn_errors import explain


def told(path, number, *, program=None, directory=None):
    return explain(program or str(path), "exec", number, directory, candidates=[str(path)])


def script(tmp_path, text, mode=0o755):
    path = tmp_path / "script"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def elf(machine, interpreter=b""):
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    header = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(interpreter) + 1, len(interpreter) + 1, 1)
    return head + header + interpreter + b"\0"


def test_a_missing_file(tmp_path):
    assert "there is no such file" in str(told(tmp_path / "none", errno.ENOENT))


def test_a_name_that_is_nowhere_on_path():
    error = explain("prog", "exec", errno.ENOENT, None, candidates=["/nowhere/a/prog", "/nowhere/b/prog"])
    assert 'cannot start "prog": not found on its PATH (/nowhere/a:/nowhere/b)' in str(error)
    assert error.errno == errno.ENOENT


def test_a_script_whose_interpreter_is_missing(tmp_path):
    path = script(tmp_path, b"#! /nowhere/sh -e\n")
    assert 'script\'s interpreter "/nowhere/sh" is missing' in str(told(path, errno.ENOENT))


def test_a_script_with_the_line_ends_of_windows(tmp_path):
    error = told(script(tmp_path, b"#!/bin/sh\r\necho hi\r\n"), errno.ENOENT)
    assert "its first line ends with a carriage return" in str(error)
    assert error.hint == "save the script with Unix line ends"


def test_a_binary_whose_loader_is_missing(tmp_path):
    path = script(tmp_path, elf(62, b"/lib64/nowhere-ld.so"))
    assert 'dynamic loader "/lib64/nowhere-ld.so" is missing' in str(told(path, errno.ENOENT))


def test_a_dangling_link(tmp_path):
    (tmp_path / "link").symlink_to("/nowhere/at/all")
    assert 'a symbolic link to nothing ("/nowhere/at/all")' in str(told(tmp_path / "link", errno.ENOENT))


def test_a_file_that_is_not_executable(tmp_path):
    path = script(tmp_path, b"#!/bin/sh\n", 0o644)
    error = told(path, errno.EACCES)
    assert f'"{path}" is not executable' in str(error)
    assert error.hint == f"chmod +x {path}"


def test_a_directory(tmp_path):
    assert "is a directory" in str(told(tmp_path, errno.EACCES))


def test_a_script_without_its_first_line(tmp_path):
    assert "add a line such as #!/bin/sh" in str(told(script(tmp_path, b"echo hi\n"), errno.ENOEXEC))


def test_another_architecture(tmp_path):
    path = script(tmp_path, elf(243))
    assert f"it was built for riscv64, this is {platform.machine()}" in str(told(path, errno.ENOEXEC))


def test_an_empty_file(tmp_path):
    assert "the file is empty" in str(told(script(tmp_path, b""), errno.ENOEXEC))


@pytest.mark.parametrize(
    ("step", "number", "words"),
    [
        ("chdir", errno.ENOENT, 'cannot enter "/w": No such file'),
        ("fork", errno.EAGAIN, "the kernel made no process"),
        ("pipe", errno.EMFILE, "no descriptor is left"),
        ("controlling terminal", errno.EPERM, "controlling terminal failed: Operation not permitted"),
    ],
)
def test_the_other_steps(step, number, words):
    error = explain("prog", step, number, "/w")
    assert words in str(error)
    assert (error.step, error.errno) == (step, number)
