"""The memory file of a reexec: what is written is read, and what was not written by ocelot is not."""

from __future__ import annotations

import fcntl
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot.errors import OcelotError
from ocelot.life.statefile import State, read, write

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.integers(0, 10**6), st.lists(words), st.binary())
def test_what_is_written_is_read(version: int, back: list[str], body: bytes) -> None:
    state = State(version, tuple(back), body)
    fd = write(state)
    try:
        assert read(fd) == state
        assert read(fd) == state, "and it can be read again"
    finally:
        os.close(fd)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_single_changed_bit_or_a_missing_end_is_refused(body: bytes, data: st.DataObject) -> None:
    fd = write(State(1, ("ocelot", "x"), body))
    whole = bytearray(os.pread(fd, 10_000, 0))
    os.close(fd)
    at = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[at // 8] ^= 1 << at % 8
    short = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for changed in (whole, short):
        fd = sealed(bytes(changed))
        try:
            with pytest.raises(OcelotError, match="cannot read the state"):
                read(fd)
        finally:
            os.close(fd)


def sealed(data: bytes) -> int:
    fd = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    return fd


def test_nobody_can_change_it() -> None:
    fd = write(State(1, ("ocelot",), b"body"))
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_file_that_somebody_may_still_change_is_not_read() -> None:
    sealed = write(State(1, ("ocelot",), b"body"))
    copy = os.memfd_create("copy", os.MFD_ALLOW_SEALING)
    try:
        os.write(copy, os.pread(sealed, 1000, 0))
        with pytest.raises(OcelotError, match="was not written by ocelot"):
            read(copy)
    finally:
        os.close(sealed)
        os.close(copy)


def test_what_is_no_memory_file_is_an_error() -> None:
    with open("/dev/null") as file, pytest.raises(OcelotError, match="cannot read the state") as caught:
        read(file.fileno())
    assert "ocelotctl reexec" in caught.value.hint
