"""What a reload changes beside the processes: who may ask what, and where ocelot listens."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from integration.test_metrics import free_port
from integration.test_reload import File, until
from ocelot.wire.client import Client, call

NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
ADM = {**NOBODY, "extra_groups": [4]}


def reload(machine: Desk, file: File, *arguments: str, status: int = 0) -> str:
    file.write()
    done = machine.ctl("reload", *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def health(port: int, host: str = "127.0.0.1") -> bool:
    """Whether ocelot answers there."""
    with socket.socket(socket.AF_INET) as sock:
        sock.settimeout(PATIENCE)
        if sock.connect_ex((host, port)) == errno.ECONNREFUSED:
            return False
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")
        return sock.recv(100).startswith(b"HTTP/1.1 200")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users can reach: pytest closes the parents of its own whenever another run of it begins."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.root
def test_who_may_ask_what_changes_at_once(open_folder: Path) -> None:
    with desk(open_folder, {"web": SLEEPER}) as machine:
        file = File(open_folder)
        assert machine.curl("/v1/status", **ADM)[0] == 0  # not even let in
        file.content["control"] |= {"mode": "0660", "group": "adm", "roles": {"read": ["@adm"]}}
        told = reload(machine, file)
        assert "~ control.mode: 0600 -> 0660 (no restart)" in told
        assert '~ control.roles.read: [] -> ["@adm"] (no restart)' in told
        found = os.stat(machine.socket)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 4)
        assert machine.curl("/v1/status", **ADM)[0] == 200
        assert machine.curl("/v1/status", **NOBODY)[0] == 0
        assert machine.curl("/v1/processes/web/stop", "-d", "{}", **ADM)[0] == 403
        assert machine.ctl("reexec").returncode == 0
        assert machine.curl("/v1/status", **ADM)[0] == 200
        file.content["control"] |= {"roles": {"operate": ["65534"]}, "mode": "0666"}
        del file.content["control"]["group"]
        reload(machine, file)
        found = os.stat(machine.socket)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o666, os.getegid())
        assert machine.curl("/v1/processes/web/stop", "-d", "{}", **NOBODY)[0] == 200
        file.content["control"]["group"] = "no-such-group"
        told = reload(machine, file, status=1)
        assert 'cannot give the control socket to the group "no-such-group"' in told
        assert stat.S_IMODE(os.stat(machine.socket).st_mode) == 0o666


def test_metrics_come_move_and_go(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with desk(tmp_path, {"web": SLEEPER}) as machine:
        file = File(tmp_path)
        file.content["metrics"] = {"listen": f"127.0.0.1:{port}"}
        assert f"~ metrics.listen: (not set) -> 127.0.0.1:{port} (no restart)" in reload(machine, file, "--dry-run")
        assert not health(port)
        reload(machine, file)
        assert health(port)
        file.content["metrics"]["listen"] = f"0.0.0.0:{port}"  # it is in its own way
        reload(machine, file)
        assert health(port)
        assert health(port, "127.0.0.2")
        assert machine.ctl("reexec").returncode == 0
        assert health(port, "127.0.0.2")
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", other))
            busy.listen()
            file.content["metrics"]["listen"] = f"127.0.0.1:{other}"
            file.processes["new"] = SLEEPER
            told = reload(machine, file, status=1)
            assert f'cannot listen on "127.0.0.1:{other}": Address already in use' in told
            assert "nothing was changed" in told
            assert health(port)
            assert list(machine.processes()) == ["web"]
        with socket.socket() as late:  # nobody else may listen there, as another ocelot would
            late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="already in use"):
                late.bind(("127.0.0.1", port))
        reload(machine, file)
        assert health(other)
        until(lambda: not health(port))
        assert list(machine.processes()) == ["web", "new"]
        del file.content["metrics"]
        reload(machine, file)
        until(lambda: not health(other))


def test_the_control_socket_moves_and_who_has_asked_for_it_gets_its_answer(tmp_path: Path) -> None:
    with desk(tmp_path, {"web": SLEEPER}) as machine:
        file = File(tmp_path)
        moved = str(tmp_path / "elsewhere" / "new.sock")
        file.content["control"]["socket"] = moved
        with Client(machine.socket) as inside:
            reply = inside.request("GET", "/v1/logs?follow=1")  # without an end
            reload(machine, file)
            assert call(moved, "GET", "/v1/status")["pid"] == machine.process.pid
            until(lambda: not os.path.exists(machine.socket))
            began = time.monotonic()
            with pytest.raises(Exception, match="the connection ended"):
                reply.read()
            assert time.monotonic() - began < 10
        machine.socket = moved
        assert machine.ctl("reexec").returncode == 0
        assert call(moved, "GET", "/v1/status")["processes"][0]["state"] == "running"


def test_vsock_comes_and_goes(tmp_path: Path) -> None:
    """The host of this machine cannot be asked to connect; but what listens is in the way of others."""
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError:
        pytest.skip("the kernel has no vsock")
    port = 10_000 + os.getpid() % 50_000

    def listens() -> bool:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((socket.VMADDR_CID_ANY, port))
            except OSError as error:
                return error.errno == errno.EADDRINUSE
            return False

    with desk(tmp_path, {"web": SLEEPER}, control={"vsock": {"port": port}}) as machine:
        until(listens)
        (tmp_path / "other").mkdir()
        with desk(tmp_path / "other", {"web": SLEEPER}, control={"vsock": {"port": port}}) as other:
            until(lambda: f"cannot listen on vsock port {port}: Address already in use" in other.log.read_text())
            assert other.processes()["web"]["state"] == "running"
        file = File(tmp_path)
        assert machine.ctl("reexec").returncode == 0
        assert listens()
        file.content["control"]["vsock"]["role"] = "operate"
        assert "~ control.vsock.role: read -> operate (no restart)" in reload(machine, file)
        assert listens()
        del file.content["control"]["vsock"]
        reload(machine, file)
        until(lambda: not listens())
