"""The ``lab`` fixture: virtual machines that end with the test, and whose consoles are shown when it fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.lab.guest import Lab

_LAB = pytest.StashKey[Lab]()


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Lab, None, None]:
    with ExitStack() as stack:
        made = Lab(tmp_path, stack)
        request.node.stash[_LAB] = made
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = item.stash.get(_LAB, None)
    if report.when == "call" and report.failed and made is not None:
        report.sections.append(("console", made.consoles()))
    return report


def pytest_configure() -> None:
    """As at a prompt: what a shell starts in the background (``make test &``) ignores these two, and so would all that we start."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="needs root: run the tests as root to include it")
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(600))
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(skip)
