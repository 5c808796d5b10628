"""TLS weighs 6 MiB: it is taken in for a file with https probes, and for no other."""

from __future__ import annotations

import pytest

from ocelot.config.loading import load
from ocelot.config.structs import Bootstrap
from ocelot.image import runtime
from ocelot.image.initramfs import speaks_tls

FILE = """
postSwitch:
  handoff:
    mode: supervise
    processes:
      plain: {{program: /bin/a, livenessProbe: {{handler: {{type: tcpSocket, port: 1}}}}}}
      web:
        program: /bin/web
        {probe}: {{handler: {{type: httpGet, port: 8443, scheme: {scheme}}}}}
"""


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_it_depends_on_the_probes(probe: str, scheme: str) -> None:
    config = load(FILE.format(probe=probe, scheme=scheme).encode(), "f", "bootstrap").config
    assert isinstance(config, Bootstrap)
    assert speaks_tls(config) is (scheme == "https")


def test_a_file_that_supervises_nothing_needs_none() -> None:
    config = load(b"postSwitch: {handoff: {mode: shell, program: /bin/sh}}", "f", "bootstrap").config
    assert isinstance(config, Bootstrap)
    assert not speaks_tls(config)


def test_without_it_the_modules_that_would_bring_it_are_stood_in_for() -> None:
    assert runtime._stand_ins(tls=False).keys() >= runtime.TLS
    assert not runtime._stand_ins(tls=True).keys() & runtime.TLS
