"""Times on the command line of ocelotctl: those to wait for, and those that are past."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import datetime

import pytest

from ocelot.errors import UsageError
from ocelot.verbs.arguments import LONGEST, duration, moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("1.5s", 1.5),
        ("10m", 600),
        ("10min", 600),
        ("1h 30m", 5400),
        ("250ms", 0.25),
        ("0", 0),
        ("20d", LONGEST),
    ],
)
def test_a_time_to_wait(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "x", "5x", "s", ".", ".s", "1.2.3s", "²s", "1e5", "nan", "-5s", "5S"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="not a time such as"):
        duration(text)
    with pytest.raises(UsageError, match="cannot tell which time"):
        moment(text)


@pytest.mark.parametrize("text", ["21d", "9999999999999s", "9" * 400 + "s"])
def test_nobody_waits_for_longer_than_a_socket_can(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="at most 20d"):
        duration(text)


def test_the_past_is_as_long_as_one_likes() -> None:
    assert moment("30d ago") == pytest.approx(datetime.now().timestamp() - 30 * 86400, abs=60)
    assert moment("9" * 400 + "s") == 0.0
    assert moment("1970-01-02T00:00+00:00") == 86400.0
