"""Sockets that ocelot holds: no connection is refused while the process behind them is killed again and again."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from integration.desk import PATIENCE, SLEEPER, desk
from integration.test_metrics import free_port
from ocelot.config import structs
from ocelot.errors import OcelotError
from ocelot.linux.links import held_socket
from supervisor.process.sockets import Listening

SERVER = """
import os, socket, sys
assert int(os.environ["LISTEN_PID"]) == os.getpid()
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == int(os.environ["LISTEN_FDS"])
found = {name: socket.socket(fileno=3 + n) for n, name in enumerate(names)}
print({name: (s.family.name, s.type.name, os.get_blocking(s.fileno())) for name, s in found.items()}, flush=True)
here = found[sys.argv[1]]
if here.type == socket.SOCK_DGRAM:
    while True:
        data, peer = here.recvfrom(1000)
        here.sendto(data.upper(), peer)
while True:
    connection, _ = here.accept()
    with connection:
        try:
            connection.sendall(b"%d\\n" % os.getpid())
        except OSError:
            pass
"""


def serving(sockets: list[dict[str, Any]], name: str, **more: Any) -> dict[str, Any]:
    again = {"type": "Always", "backoff": "0s"}
    return {
        "program": sys.executable,
        "arguments": ["-SE", "-c", SERVER, name],
        "sockets": sockets,
        "restartPolicy": again,
        **more,
    }


class Load:
    """Connects as fast as it can, and counts how that ended."""

    def __init__(self, family: int, where: Any) -> None:
        self.family, self.where = family, where
        self.answers: set[bytes] = set()
        self.served = self.cut = 0
        self.failed: list[OSError] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with socket.socket(self.family) as sock:
                    sock.settimeout(PATIENCE)
                    sock.connect(self.where)
                    # A connection that was accepted by one that was then killed is cut: nobody can save that one
                    try:
                        answer = sock.recv(100)
                    except ConnectionResetError:
                        answer = b""
                self.answers.add(answer)
                self.served += bool(answer)
                self.cut += not answer
            except OSError as error:
                self.failed.append(error)

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_no_connection_is_refused_while_the_server_is_killed_again_and_again(tmp_path: Path, kind: str) -> None:
    port = free_port()
    path = str(tmp_path / "folder" / "server.sock")
    listen = f"tcp://127.0.0.1:{port}" if kind == "tcp" else f"unix://{path}"
    with desk(tmp_path, {"server": serving([{"name": "main", "listen": listen}], "main")}) as machine:
        machine.until(lambda all_: all_["server"]["pid"] and (kind == "tcp" or os.path.exists(path)))
        family, where = (socket.AF_INET, ("127.0.0.1", port)) if kind == "tcp" else (socket.AF_UNIX, path)
        with Load(family, where) as load:
            for count in range(15):
                pid = machine.until(
                    lambda all_, count=count: all_["server"]["restarts"] == count and all_["server"]["pid"]
                )
                served = load.served
                deadline = time.monotonic() + PATIENCE
                while load.served < served + 20:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
                os.kill(pid["server"]["pid"], signal.SIGKILL)
            machine.until(lambda all_: all_["server"]["restarts"] == 15)
        print(
            f"{kind}: {load.served} connections served by {len(load.answers) - 1} processes, {load.cut} cut, none refused"
        )
        assert load.failed == []
        assert load.served > 15 * 20
        assert len(load.answers - {b""}) >= 15
        assert load.cut <= 15 * 2
        assert machine.processes()["server"]["restartsByCause"] == {"signal": 15}
    assert not os.path.exists(path)


@pytest.mark.root
def test_every_kind_of_socket(tmp_path: Path) -> None:
    port, datagrams = free_port(), free_port()
    path = tmp_path / "owned.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # left over from a former life
    sockets = [
        {"name": "all", "listen": f"*:{port}"},
        {"name": "datagrams", "listen": f"udp://[::1]:{datagrams}"},
        {"name": "owned", "listen": str(path), "mode": "0640", "user": "nobody", "group": "65533"},
        {"name": "abstract", "listen": f"@{tmp_path}"},
    ]
    with desk(tmp_path, {"server": serving(sockets, "datagrams")}) as machine:
        machine.until(lambda all_: "'abstract'" in machine.log.read_text())
        assert (
            "{'all': ('AF_INET6', 'SOCK_STREAM', True), 'datagrams': ('AF_INET6', 'SOCK_DGRAM', True),"
            " 'owned': ('AF_UNIX', 'SOCK_STREAM', True), 'abstract': ('AF_UNIX', 'SOCK_STREAM', True)}"
        ) in machine.log.read_text()
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 65534, 65533)
        for family, where in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))):
            with socket.socket(family) as sock:
                sock.connect(where)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"\0{tmp_path}")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.sendto(b"hello", ("::1", datagrams))
            assert sock.recv(100) == b"HELLO"
    assert not path.exists()


def test_what_is_in_the_way_is_said_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    (tmp_path / "file").write_text("precious")
    again = {"type": "Always", "backoff": "100ms", "multiplier": 1}
    with socket.create_server(("127.0.0.1", 0)) as busy, socket.socket(socket.AF_UNIX) as lively:
        lively.bind(str(path))
        lively.listen()
        port = busy.getsockname()[1]
        set_ = {
            "port": serving([{"name": "a", "listen": f"127.0.0.1:{port}"}], "a", restartPolicy=again),
            "path": serving([{"name": "a", "listen": str(path)}], "a", restartPolicy={"type": "Never"}),
            "file": serving([{"name": "a", "listen": f"{tmp_path}/file"}], "a", restartPolicy={"type": "Never"}),
            "user": serving(
                [{"name": "a", "listen": f"{tmp_path}/user", "user": "no-such-user"}],
                "a",
                restartPolicy={"type": "Never"},
            ),
        }
        with desk(tmp_path, set_) as machine:
            found = machine.until(lambda all_: all(each["state"] in ("backoff", "fatal") for each in all_.values()))
            for name, address in (("port", f"tcp://127.0.0.1:{port}"), ("path", f"unix://{path}")):
                assert (
                    f'cannot open its sockets: cannot listen on "{address}": Address already in use'
                    in found[name]["reason"]
                )
            assert "Address already in use" in found["file"]["reason"]
            assert 'cannot find the user "no-such-user"' in found["user"]["reason"]
            assert (tmp_path / "file").read_text() == "precious"
            assert not (tmp_path / "user").exists()
            busy.close()
            found = machine.until(lambda all_: all_["port"]["state"] == "running")
            assert found["port"]["restartsByCause"].keys() == {"spawn-failed"}
        assert path.exists()


def test_another_configuration_keeps_the_sockets_that_it_still_has(tmp_path: Path) -> None:
    """The same socket all the time, by its inode; what is left out is closed, what is new is opened."""
    path, other = str(tmp_path / "a.sock"), str(tmp_path / "b.sock")
    port = free_port()
    kept = structs.Socket(name="kept", listen=f"tcp://127.0.0.1:{port}")
    listening = Listening([kept, structs.Socket(name="old", listen=path)])
    try:
        before = os.fstat(listening.handles().descriptors[3]).st_ino
        assert os.path.exists(path)
        listening.renew(
            [structs.Socket(name="new", listen=other, mode=0o600), structs.Socket(name="web", listen=kept.listen)]
        )
        assert not os.path.exists(path)
        assert not os.path.exists(other)  # that is for the next start
        handed = listening.handles()
        assert handed.environment["LISTEN_FDNAMES"] == "new:web"
        assert os.fstat(handed.descriptors[4]).st_ino == before
        assert stat.S_IMODE(os.stat(other).st_mode) == 0o600
        listening.renew([structs.Socket(name="new", listen=other, mode=0o640)])
        listening.handles()
        assert stat.S_IMODE(os.stat(other).st_mode) == 0o640
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
    finally:
        listening.close()
    assert not os.path.exists(other)


def held(pid: int) -> str:
    """The socket behind the first descriptor that a process was handed."""
    return os.readlink(f"/proc/{pid}/fd/3")


def test_replicas_share_their_sockets(tmp_path: Path) -> None:
    """The same ones for all, over scaling (also to none), a reload, another image, and becoming one without replicas."""
    port = free_port()
    sockets = [{"name": "main", "listen": f"tcp://127.0.0.1:{port}"}]
    entry = serving(sockets, "main", replicas=3)
    with desk(tmp_path, {"web": entry, "other": SLEEPER}) as machine:

        def running(count: int) -> dict[str, int]:
            """The pids of so many replicas."""
            found = machine.until(lambda all_: sum(_serves(name, each) for name, each in all_.items()) == count)
            return {name: each["pid"] for name, each in found.items() if _serves(name, each)}

        first = running(3)
        socket_ = {held(pid) for pid in first.values()}
        assert len(socket_) == 1
        with Load(socket.AF_INET, ("127.0.0.1", port)) as load:
            _until_served_by(load, first)
            assert machine.ctl("scale", "web", "5").returncode == 0
            _until_served_by(load, running(5))
            assert machine.ctl("scale", "web", "0").returncode == 0
            running(0)
            assert machine.ctl("reexec").returncode == 0  # nobody but the entry holds them now
            served = load.served
            assert machine.ctl("scale", "web", "2").returncode == 0
            _until_served_by(load, running(2))
            assert load.served > served
            before = running(2)
            assert machine.ctl("reexec").returncode == 0
            assert running(2) == before
            file = json.loads((tmp_path / "ocelot.yaml").read_text())
            file["processes"]["web"]["replicas"] = 2
            file["processes"]["web"]["environment"] = {"NEW": "1"}
            (tmp_path / "ocelot.yaml").write_text(json.dumps(file))
            assert machine.ctl("reload").returncode == 0
            again = machine.until(lambda all_: all_["web[1]"]["pid"] not in (None, before["web[1]"]))
            _until_served_by(load, running(2))
            assert again["web[0]"]["pid"] != before["web[0]"]
            socket_ |= {held(pid) for pid in running(2).values()}
            del file["processes"]["web"]["replicas"]
            (tmp_path / "ocelot.yaml").write_text(json.dumps(file))
            assert machine.ctl("reload").returncode == 0
            alone = machine.until(lambda all_: all_.keys() == {"web", "other"} and all_["web"]["pid"])
            _until_served_by(load, {"web": alone["web"]["pid"]})
            socket_.add(held(alone["web"]["pid"]))
        assert load.failed == []
        assert len(socket_) == 1, "it was the same one all the time"
        del file["processes"]["web"]
        (tmp_path / "ocelot.yaml").write_text(json.dumps(file))
        assert machine.ctl("reload").returncode == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()


def _serves(name: str, status: dict[str, Any]) -> bool:
    return name.startswith("web[") and status["state"] == "running" and bool(status["pid"])


def _until_served_by(load: Load, pids: dict[str, int]) -> None:
    """Until each of them has answered somebody."""
    wanted = {b"%d\n" % pid for pid in pids.values()}
    deadline = time.monotonic() + PATIENCE
    while not wanted <= load.answers:
        assert time.monotonic() < deadline, wanted - load.answers
        time.sleep(0.002)


SWAPPER = """
import os, sys
path, victim, link = sys.argv[1:]
os.setgroups([])
os.setresgid(61234, 61234, 61234)
os.setresuid(61234, 61234, 61234)
print("ready", flush=True)
while True:
    try:
        os.symlink(victim, link)
    except FileExistsError:
        pass
    try:
        while os.path.islink(path) or not os.path.lexists(path):
            pass
        os.rename(link, path)
    except OSError:
        pass
"""


@pytest.mark.root
def test_the_owner_of_the_folder_cannot_have_the_mode_of_another_file_changed() -> None:
    """By putting a link to it in the place of the socket in the moment after that was bound."""
    with TemporaryDirectory() as base, ExitStack() as undo:  # those of pytest are closed to others
        folder, victim = Path(base, "run"), Path(base, "victim")
        os.chmod(base, 0o755)
        folder.mkdir()
        os.chown(folder, 61234, 61234)
        victim.touch(0o600)
        path = folder / "sock"
        argv = [sys.executable, "-SE", "-c", SWAPPER, path, victim, folder / "link"]
        swapper = undo.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE))
        undo.callback(swapper.kill)
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"ready\n"
        end = time.monotonic() + 2
        while time.monotonic() < end:
            listening = Listening((structs.Socket(name="main", listen=str(path), mode=0o666),))
            with suppress(OcelotError):
                listening.handles()
            listening.close()
            path.unlink(missing_ok=True)
            assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_socket_that_has_another_name_is_not_the_one_that_was_bound(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        with held_socket(str(path)) as (same, _):
            path.rename(tmp_path / "moved")
            path.touch(0o600)
            os.chmod(same, 0o604)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "moved").stat().st_mode) == 0o604
        (tmp_path / "other").hardlink_to(tmp_path / "moved")
        with pytest.raises(OSError, match="something else was put in the place"), held_socket(str(tmp_path / "other")):
            pass
