"""Converting files that Debian's packages ship, and running what came out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from integration.desk import SLEEPER, desk
from integration.lab import cache
from ocelot.convert.command import check, convert
from ocelot.convert.draft import write


def shipped(package: str, path: str) -> Path | None:
    """A file of a package that is installed, or that setup.sh has unpacked."""
    for root in (Path("/"), cache.folder() / package):
        for found in (root / path, root / "usr" / path):
            if found.is_file():
                return found
    return None


@pytest.mark.parametrize(
    ("package", "unit", "expected"),
    [
        ("nginx", "nginx.service", {"arguments": ["-g", "daemon off; master_process on;"]}),
        ("redis", "redis-server.service", {"notify": "systemd", "user": "redis"}),
        ("prometheus", "prometheus.service", {"reloadSignal": "SIGHUP", "user": "prometheus"}),
    ],
)
def test_the_units_of_real_daemons(package: str, unit: str, expected: dict[str, object]) -> None:
    path = shipped(package, f"lib/systemd/system/{unit}")
    if path is None:
        pytest.skip(f"no {unit} here: make machine")
    text = write(convert([str(path)]))
    assert check(text) == []
    found = yaml.safe_load(text)["processes"][path.stem]
    assert {key: found.get(key) for key in expected} == expected


def test_debians_supervisord_file() -> None:
    path = shipped("supervisor", "etc/supervisor/supervisord.conf")
    if path is None:
        pytest.skip("Debian's supervisor is not here")
    assert check(write(convert([str(path)]))) == []


def test_a_converted_unit_runs(tmp_path: Path) -> None:
    """The command, its result in a file, and that file supervised."""
    (tmp_path / "app.service").write_text(
        "[Service]\nType=notify\nEnvironment=WORDS='a b'\n"
        "ExecStart=/bin/sh -c 'echo got: \"$*\"; exec sleep 1000' app $WORDS ${WORDS}\n"
        "Type=simple\nRestart=always\nProtectSystem=full\n"
    )
    result = tmp_path / "converted.yaml"
    command = [sys.executable, "-m", "ocelot", "convert", str(tmp_path / "app.service"), "-o", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 setting without a counterpart" in done.stderr) == (0, True), done.stderr
    assert subprocess.run([*command, "--strict"], capture_output=True, check=False).returncode == 1
    processes = yaml.safe_load(result.read_text())["processes"]
    with desk(tmp_path, {**processes, "other": SLEEPER}) as machine:
        assert machine.ctl("wait", "app").returncode == 0
        [line] = [json.loads(each) for each in machine.ctl("logs", "app", "--json").stdout.splitlines()]
        assert line["text"] == "got: a b a b"


def test_a_unit_that_is_no_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.service"
    path.write_bytes(b"\x00\xff binary")
    command = [sys.executable, "-m", "ocelot", "convert", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "cannot read" in done.stderr) == (1, True)
