"""What keeps a program from being executed, told before it is tried."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bootstrap import executable
from ocelot.errors import OcelotError


def make(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def refused(path: str) -> str:
    with pytest.raises(OcelotError) as caught:
        executable.require(path)
    assert f'cannot execute "{path}": ' in caught.value.message
    return str(caught.value).partition('": ')[2]


def test_a_program_and_a_script_that_work() -> None:
    executable.require(os.path.realpath(sys.executable))
    executable.require("/bin/sh")


def test_a_script_whose_interpreter_is_there(tmp_path: Path) -> None:
    executable.require(make(tmp_path / "script", b"#!/bin/sh -e\necho\n"))


def test_missing(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "none")).startswith("No such file or directory")
    assert "is this the right root?" in refused(str(tmp_path / "no" / "such"))


def test_a_folder(tmp_path: Path) -> None:
    assert refused(str(tmp_path)) == "it is not a regular file (name a program)"


def test_no_execute_permission(tmp_path: Path) -> None:
    path = make(tmp_path / "x", b"#!/bin/sh\n", 0o644)
    assert refused(path) == f"it has no execute permission (chmod +x {path})"


def test_a_script_without_its_first_line(tmp_path: Path) -> None:
    assert refused(make(tmp_path / "x", b"echo hello\n")).startswith("it is neither an ELF program nor a script")
    assert "names no interpreter" in refused(make(tmp_path / "y", b"#!\n"))


def test_a_script_whose_interpreter_is_missing(tmp_path: Path) -> None:
    assert refused(make(tmp_path / "x", b"#!/bin/nosuch -x\n")).startswith(
        'its interpreter "/bin/nosuch" does not exist'
    )


def test_a_script_with_the_line_ends_of_windows(tmp_path: Path) -> None:
    """The kernel looks for an interpreter whose name ends with the carriage return."""
    why = "its first line ends with a carriage return (save the script with Unix line ends)"
    assert refused(make(tmp_path / "x", b"#!/bin/sh\r\necho hi\r\n")) == why
    executable.require(make(tmp_path / "y", b"#! /bin/sh -e\r\n"))  # the shell itself complains of its option


def test_a_script_whose_interpreter_cannot_be_executed(tmp_path: Path) -> None:
    interpreter = make(tmp_path / "interpreter", b"nothing\n")
    script = make(tmp_path / "x", f"#!{interpreter}\n".encode())
    with pytest.raises(OcelotError, match="neither an ELF") as caught:
        executable.require(script)
    assert interpreter in caught.value.message


def test_another_machine(tmp_path: Path) -> None:
    elf = bytearray(Path(os.path.realpath(sys.executable)).read_bytes()[:4096])
    elf[18:20] = (21).to_bytes(2, "little")  # 64-bit PowerPC
    assert refused(make(tmp_path / "x", bytes(elf))).startswith(
        "it is made for another machine (ELF machine 21, this is"
    )


def test_another_c_library(tmp_path: Path) -> None:
    elf = Path("/bin/sh").read_bytes()
    at = elf.index(b"/lib", 0, 4096)
    end = elf.index(b"\0", at)
    changed = elf[:at] + b"/nib" + elf[at + 4 : end] + elf[end:]
    why = refused(make(tmp_path / "x", changed))
    assert why.startswith('its dynamic loader "/nib')
    assert "use a static program" in why


def test_a_header_that_is_cut_off(tmp_path: Path) -> None:
    assert refused(make(tmp_path / "x", b"\x7fELF\x02\x01")).startswith("its ELF header is cut off")


def test_bare_names_are_looked_up_on_path(tmp_path: Path) -> None:
    wanted = make(tmp_path / "tool", b"#!/bin/sh\n")
    assert executable.find("tool", {"PATH": f"/nowhere:{tmp_path}"}) == wanted
    assert executable.find("/x/y", {}) == "/x/y"
    with pytest.raises(OcelotError, match=r'"tool": it is in no folder of PATH \(/nowhere\)'):
        executable.find("tool", {"PATH": "/nowhere"})
