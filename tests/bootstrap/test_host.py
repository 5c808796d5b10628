"""Finding the port by its name, and the words for the host."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bootstrap import host
from ocelot.wire.protocol import ExitReport

REPORT = ExitReport(status=7, reason='"web" exited with status 7', verb="poweroff", process="web", uptime=12.5)


def make_port(base: Path, node: str, name: str) -> None:
    folder = base / "class" / "virtio-ports" / node
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (base / "dev").mkdir(exist_ok=True)
    (base / "dev" / node).touch()


def test_a_port_is_found_by_its_name(tmp_path: Path) -> None:
    make_port(tmp_path, "vport0p1", "org.qemu.guest_agent.0")
    make_port(tmp_path, "vport1p1", "org.ocelot.exit")
    found = host.find_port("org.ocelot.exit", sysfs=str(tmp_path), dev=str(tmp_path / "dev"))
    assert found == str(tmp_path / "dev" / "vport1p1")
    assert host.find_port("org.ocelot", sysfs=str(tmp_path), dev=str(tmp_path / "dev")) is None


def test_a_port_without_its_node_is_not_there_yet(tmp_path: Path) -> None:
    make_port(tmp_path, "vport0p1", "org.ocelot.exit")
    (tmp_path / "dev" / "vport0p1").unlink()
    assert host.find_port("org.ocelot.exit", sysfs=str(tmp_path), dev=str(tmp_path / "dev")) is None


def test_ports_are_expected_only_where_a_device_is_bound_and_has_shown_none(tmp_path: Path) -> None:
    assert not host.expects_ports(sysfs=str(tmp_path))
    driver = tmp_path / "bus" / "virtio" / "drivers" / "virtio_console"
    driver.mkdir(parents=True)
    (driver / "bind").touch()
    assert not host.expects_ports(sysfs=str(tmp_path))
    (driver / "virtio2").mkdir()
    assert host.expects_ports(sysfs=str(tmp_path))
    make_port(tmp_path, "vport2p1", "other")
    assert not host.expects_ports(sysfs=str(tmp_path))


def test_the_report_is_one_json_line() -> None:
    line = host.encode(REPORT)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert msgspec.json.decode(line) == {
        "status": 7,
        "reason": '"web" exited with status 7',
        "verb": "poweroff",
        "process": "web",
        "phase": "running",
        "hint": "",
        "uptime": 12.5,
    }


def test_the_last_console_line() -> None:
    assert host.console_line(REPORT) == 'exit status 7: "web" exited with status 7'
