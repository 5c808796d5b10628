"""What weighs much is taken in for a file that needs it, and for no other: TLS (6 MiB), and the packages behind some keys."""

from __future__ import annotations

import pytest

from ocelot.config.loading import load
from ocelot.config.structs import Bootstrap
from ocelot.image import initramfs, runtime
from ocelot.image.packages import left_out, speaks_tls

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


PROCESS = "postSwitch: {{handoff: {{mode: supervise, processes: {{one: {{program: /bin/a, {0}}}}}}}}}\n"
FEATURES = {
    "schedule: {cron: '* * * * *'}, type: oneshot": {"cronsim"},
    "schedule: {every: 1h}, type: oneshot": set(),
    "livenessProbe: {handler: {type: grpc, port: 1}}": {"h2", "hpack", "hyperframe"},
    "livenessProbe: {handler: {type: tcpSocket, port: 1}}": set(),
    "log: {stderr: {destination: {type: file, path: /a}, rotation: {maxSizeBytes: 1MB, compression: lz4}}}": {"lz4"},
    "log: {stdout: {destination: {type: file, path: /a}, rotation: {maxSizeBytes: 1MB, compression: gzip}}}": set(),
}


@pytest.mark.parametrize("keys", FEATURES)
def test_packages_that_the_file_has_no_use_for_stay_out_of_the_memory_of_the_machine(keys: str) -> None:
    config = load(PROCESS.format(keys).encode(), "f", "bootstrap").config
    assert isinstance(config, Bootstrap)
    everything = {"cronsim", "h2", "hpack", "hyperframe", "lz4", "zstandard"}
    assert left_out(config, compressed_modules=False) == everything - FEATURES[keys]
    assert left_out(config, compressed_modules=True) == everything - FEATURES[keys] - {"zstandard"}


def test_the_files_of_a_package_are_those_below_its_folder() -> None:
    library = runtime.library(runtime.PREFIX).lstrip("/")
    assert initramfs._package(f"{library}/lz4/frame/_frame.so") == "lz4"
    assert initramfs._package(f"{library}/lz4") == "lz4"
    assert initramfs._package(f"{library}/lz4.pyc") == "lz4.pyc"
    assert initramfs._package("run/ocelot/runtime/lib/libz.so.1") == ""
