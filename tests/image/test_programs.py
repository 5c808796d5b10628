"""Which programs an image must hold, by what its file says."""

from __future__ import annotations

import pytest

from ocelot.config.loading import load
from ocelot.config.structs import Bootstrap
from ocelot.image.programs import named_programs

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
