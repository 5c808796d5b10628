"""Kernel settings: names, values, and errors that say what is missing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import trio

from bootstrap.steps import Machine
from bootstrap.sysctl import SetSysctl, explain, namespaced, plan_sysctl, relative_path
from ocelot.errors import OcelotError
from ocelot.linux.identity import Identity


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.core.somaxconn", "net/core/somaxconn"),
        ("net/core/somaxconn", "net/core/somaxconn"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("/proc/sys/kernel/panic", "kernel/panic"),
        ("kernel.panic", "kernel/panic"),
    ],
)
def test_the_first_separator_decides(key: str, path: str) -> None:
    assert relative_path(key) == path


def test_true_and_false_become_numbers_and_the_order_is_kept() -> None:
    steps = plan_sysctl({"b.x": "true", "a.y": "False", "c.z": "4096 87380"})
    assert [(step.key, step.value) for step in steps if isinstance(step, SetSysctl)] == [
        ("b.x", "1"),
        ("a.y", "0"),
        ("c.z", "4096 87380"),
    ]


@pytest.fixture
def proc_sys(tmp_path: Path) -> Path:
    (tmp_path / "net/core").mkdir(parents=True)
    (tmp_path / "net/core/somaxconn").write_text("128\n")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/panic").write_text("0\n")
    return tmp_path


def apply(step: SetSysctl, *, trial: bool = False) -> list[str]:
    said: list[str] = []
    nothing: Any = None
    trio.run(step.apply, Machine(nothing, Identity.CONTAINER, said.append, said.append, trial=trial))
    return said


def test_the_value_is_written_as_one_line(proc_sys: Path) -> None:
    apply(SetSysctl("net.core.somaxconn", "1024", proc_sys=str(proc_sys)))
    assert (proc_sys / "net/core/somaxconn").read_text() == "1024\n"


def test_a_typo_is_met_with_what_was_meant_and_makes_no_file(proc_sys: Path) -> None:
    with pytest.raises(OcelotError) as caught:
        apply(SetSysctl("net.core.somaxcon", "1", proc_sys=str(proc_sys)))
    assert caught.value.message == (
        f'cannot set sysctl "net.core.somaxcon" to "1": {proc_sys}/net/core has no "somaxcon"'
    )
    assert caught.value.hint == 'did you mean "somaxconn"?'
    assert not (proc_sys / "net/core/somaxcon").exists()


def test_a_setting_that_a_module_brings_names_the_module(proc_sys: Path) -> None:
    with pytest.raises(OcelotError) as caught:
        apply(SetSysctl("net.bridge.bridge-nf-call-iptables", "1", proc_sys=str(proc_sys)))
    assert f'{proc_sys}/net has no "bridge"' in caught.value.message
    assert "br_netfilter" in caught.value.hint


def test_a_folder_of_settings_is_no_setting(proc_sys: Path) -> None:
    with pytest.raises(OcelotError, match="it is a folder of settings"):
        apply(SetSysctl("net.core", "1", proc_sys=str(proc_sys)))


def test_a_trial_shows_what_is_the_hosts_and_does_the_rest(proc_sys: Path) -> None:
    said = apply(SetSysctl("kernel.panic", "9", proc_sys=str(proc_sys)), trial=True)
    assert said == [f"not done in a trial, it is the host's: write '9' to {proc_sys}/kernel/panic"]
    assert (proc_sys / "kernel/panic").read_text() == "0\n"
    apply(SetSysctl("net.core.somaxconn", "999", proc_sys=str(proc_sys)), trial=True)
    assert (proc_sys / "net/core/somaxconn").read_text() == "999\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EINVAL, "the kernel does not accept the value"),
        (errno.EACCES, "the kernel does not allow it to be written"),
        (errno.EROFS, "is mounted read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_every_refusal_is_told_in_words(number: int, said: str) -> None:
    assert said in explain("kernel.panic", "x", OSError(number, "")).message


def test_user_settings_belong_to_the_host_and_net_ones_do_not() -> None:
    assert namespaced("net/core/somaxconn")
    assert namespaced("kernel/msgmax")
    assert not namespaced("user/max_user_namespaces")
    assert not namespaced("network")
