"""Which programs an image must hold, by what its file says."""

from __future__ import annotations

import pytest

from ocelot.config.loading import load
from ocelot.config.structs import Bootstrap
from ocelot.errors import OcelotError
from ocelot.image import cpio
from ocelot.image.programs import complete_program, named_programs

SWITCH = "switchRoot: {rootFileSystem: {type: virtiofs, tag: rootfs}}\n"


def named(text: str) -> list[str]:
    config = load(text.encode(), "f", "bootstrap").config
    assert isinstance(config, Bootstrap)
    return [program for program, _, _ in named_programs(config)]


def early(keys: str, command: str) -> list[str]:
    return named(f"""{SWITCH}
preSwitch:
  {keys}
  hooks: [{{name: h, command: {command}}}]
postSwitch: {{handoff: {{mode: shell}}}}
""")


@pytest.mark.parametrize(
    ("keys", "command", "taken"),
    [
        ("sysctl: {}", "/sbin/tool", ["/sbin/tool"]),
        ("mounts: [{type: virtual, fstype: tmpfs, target: /mnt}]", "/mnt/tool", []),
        ("mounts: [{type: virtual, fstype: tmpfs, target: /mnt}]", "/mnt2/tool", ["/mnt2/tool"]),
        ("tmpfiles: [{path: /bin/tool, mode: 0755, content: '#!/bin/sh'}]", "/bin/tool", []),
        ("tmpfiles: [{path: /opt, type: d}]", "/opt/tool", ["/opt/tool"]),
        ("symlinks: [{source: /bin/busybox, target: /bin/tool}]", "/bin/tool", ["/bin/busybox"]),
        ("symlinks: [{source: ../lib/busybox, target: /bin/tool}]", "/bin/tool", ["/lib/busybox"]),
        ("tmpfiles: [{path: /bin/tool, type: L, target: busybox}]", "/bin/tool", ["/bin/busybox"]),
    ],
)
def test_what_pre_switch_brings_itself_is_not_asked_for(keys: str, command: str, taken: list[str]) -> None:
    assert early(keys, command) == taken


PROCESS = """
postSwitch:
  handoff:
    mode: supervise
    bootScript: {path: /script}
    processes:
      a:
        program: /a
        preStart: [{command: /before}]
        livenessProbe: {handler: {type: exec, command: [/probe, x]}}
"""


def test_without_switch_root_everything_that_is_started_is_named_and_else_nothing_of_it() -> None:
    assert named(PROCESS) == ["/script", "/a", "/before", "/probe"]
    assert named(SWITCH + PROCESS) == []


def completed(data: bytes, *present: str, mode: int = 0o755) -> list[str]:
    brought = cpio.file("hooks/setup", data, mode)
    return [f"/{entry.path}" for entry in complete_program(brought, search=None, present=present)]


def test_a_script_that_was_brought_comes_with_its_interpreter() -> None:
    taken = completed(b"#!/bin/sh -e\nexit 0\n")
    assert taken[0] == "/bin/sh"
    assert len(taken) > 1, "and the libraries of that"
    assert completed(b"#!/bin/sh -e\nexit 0\n", "/bin/sh") == []
    assert completed(b"#!/usr/bin/env tool\n", "/usr/bin/env", "/usr/sbin/tool") == []


@pytest.mark.parametrize(
    "line", ["env -S sh -e", "env -Ssh -e", "env -S -i A=1 sh", "env -S -u NAME -C / sh", "env --split-string=sh -e"]
)
def test_what_env_starts_is_the_interpreter(line: str) -> None:
    assert completed(f"#!/usr/bin/{line}\n".encode(), "/usr/bin/env")[0].endswith("/sh")


def test_a_program_that_was_brought_comes_with_libraries_and_one_of_another_c_library_as_it_is() -> None:
    with open("/bin/sh", "rb") as file:
        program = file.read()
    assert any("libc.so" in path for path in completed(program))
    foreign = program.replace(b"libc.so.6\0", b"libq.so.6\0")
    assert completed(foreign) == []


@pytest.mark.parametrize(
    ("data", "mode", "why"),
    [
        (b"#!/bin/sh\n", 0o644, "it is not executable"),
        (b"#!/no/such/shell\n", 0o755, 'its interpreter "/no/such/shell" is not on this machine'),
        (b"#!/usr/bin/python3\n", 0o755, "it is a script for python3"),
    ],
)
def test_what_could_not_be_started_is_refused(data: bytes, mode: int, why: str) -> None:
    with pytest.raises(OcelotError, match=why):
        completed(data, mode=mode)
