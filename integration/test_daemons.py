"""nginx, redis, PostgreSQL and Prometheus under one ``ocelot supervise``, from one file as a user would write it.

They are started in order, each with its own way to say that it is ready; killed; reconfigured; their logs rotated; their
supervisor replaced; and stopped so that the database needs no recovery.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.desk import Desk, desk
from integration.lab import cache

NGINX = cache.daemon("nginx", "/usr/sbin/nginx")
REDIS = cache.daemon("redis", "/usr/bin/redis-server")
POSTGRES = cache.daemon("postgresql", "/usr/lib/postgresql/*/bin/postgres")
PROMETHEUS = cache.daemon("prometheus", "/usr/bin/prometheus")
TABLE = "create table if not exists kept (at int)"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not (NGINX and REDIS and POSTGRES and PROMETHEUS), reason="a daemon is missing: make machine says which"
    ),
]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def an_account() -> str:
    """A user that is not root, for the database: its own where there is one."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


class Site:
    """The file and the folders of one test, and what its clients ask."""

    def __init__(self, folder: Path) -> None:
        assert NGINX
        assert REDIS
        assert POSTGRES
        assert PROMETHEUS
        self.folder = folder
        self.metrics, self.web, self.prometheus = free_ports(3)
        self.user = an_account()
        account = pwd.getpwnam(self.user)
        folder.chmod(0o755)
        self.database = cache.open_to_others(POSTGRES, folder / "daemons")
        self.store = cache.open_to_others(REDIS, folder / "daemons")
        for name in ("pg", "redis", "prometheus", "nginx"):
            (folder / name).mkdir()
        for name in ("pg", "redis"):
            os.chown(folder / name, account.pw_uid, account.pw_gid)
        self.page("first")

    def page(self, text: str) -> None:
        (self.folder / "nginx" / "index.html").write_text(f"{text}\n")
        (self.folder / "nginx" / "nginx.conf").write_text(
            f"""
            daemon off; pid {self.folder}/nginx/pid; error_log stderr; worker_processes 1;
            events {{ worker_connections 64; }}
            http {{
              log_format line '$request_uri'; access_log /dev/stdout line;
              client_body_temp_path {self.folder}/nginx/a; proxy_temp_path {self.folder}/nginx/b;
              fastcgi_temp_path {self.folder}/nginx/c; uwsgi_temp_path {self.folder}/nginx/d;
              scgi_temp_path {self.folder}/nginx/e;
              server {{ listen 127.0.0.1:{self.web}; root {self.folder}/nginx; add_header X-Says {text}; }}
            }}
            """
        )
        (self.folder / "nginx" / "nginx.conf").chmod(0o644)

    def processes(self) -> dict[str, Any]:
        assert NGINX
        assert PROMETHEUS
        again = {"type": "Always", "backoff": "100ms", "multiplier": 1}
        binaries = self.database.program.parent
        data = f"{self.folder}/pg/data"
        config = self.folder / "prometheus" / "prometheus.yml"
        target = f"127.0.0.1:{self.metrics}"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: ocelot, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )

        def libraries(daemon: cache.Daemon) -> dict[str, str]:
            return {key: value for key, value in daemon.environment.items() if key == "LD_LIBRARY_PATH"}

        def often(handler: dict[str, Any]) -> dict[str, Any]:
            return {"handler": handler, "period": "500ms", "timeout": "500ms", "failureThreshold": 60}

        return {
            "initdb": {
                "type": "oneshot",
                "program": "/bin/sh",
                "arguments": [
                    "-c",
                    f"test -e {data}/PG_VERSION || {binaries}/initdb -D {data} --no-sync -A trust -U o",
                ],
                "user": self.user,
                "environmentVariables": libraries(self.database),
            },
            "postgres": {
                "program": str(binaries / "postgres"),
                "arguments": ["-D", data, "-k", f"{self.folder}/pg", "-c", "listen_addresses=", "-c", "fsync=off"],
                "user": self.user,
                "dependsOn": ["initdb"],
                "environmentVariables": libraries(self.database),
                "shutdownSignal": "SIGINT",
                "terminationGracePeriod": "30s",
                "restartPolicy": again,
                "readinessProbe": often(
                    {
                        "type": "exec",
                        "command": [str(binaries / "pg_isready"), "-h", f"{self.folder}/pg", "-d", "postgres"],
                    }
                ),
            },
            "redis": {
                "program": str(self.store.program),
                "arguments": [
                    *("--port", "0", "--unixsocket", f"{self.folder}/redis/sock", "--dir", f"{self.folder}/redis"),
                    *("--appendonly", "yes", "--appendfsync", "always", "--supervised", "systemd"),
                ],
                "user": self.user,
                "environmentVariables": libraries(self.store),
                "notify": "systemd",
                "restartPolicy": again,
            },
            "nginx": {
                "program": str(NGINX.program),
                "arguments": ["-c", f"{self.folder}/nginx/nginx.conf", "-e", "stderr", "-p", f"{self.folder}/nginx"],
                "environmentVariables": libraries(NGINX),
                "dependsOn": {"postgres": {"condition": "Healthy"}, "redis": {"condition": "Healthy"}},
                "shutdownSignal": "SIGQUIT",
                "reloadSignal": "SIGHUP",
                "restartPolicy": again,
                "readinessProbe": often({"type": "httpGet", "port": self.web, "path": "/index.html?probe"}),
                "log": {
                    "stdout": {
                        "destination": {"type": "file", "path": f"{self.folder}/nginx/access.log"},
                        "rotation": {"maxSizeBytes": "4KiB", "maxFiles": 100},
                    }
                },
            },
            "prometheus": {
                "program": str(PROMETHEUS.program),
                "arguments": [
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self.folder}/prometheus/data",
                    f"--web.listen-address=127.0.0.1:{self.prometheus}",
                ],
                "restartPolicy": again,
                "readinessProbe": often({"type": "httpGet", "port": self.prometheus, "path": "/-/ready"}),
            },
        }

    def get(self, path: str = "/index.html") -> tuple[str, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=10) as reply:
            return reply.read().decode().strip(), reply.headers["x-says"]

    def sql(self, text: str) -> str:
        command = [
            str(self.database.program.parent / "psql"),
            "-h",
            f"{self.folder}/pg",
            "-U",
            "o",
            "-d",
            "postgres",
            "-Atc",
            text,
        ]
        done = subprocess.run(
            command, env=self.database.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def redis(self, *words: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(f"{self.folder}/redis/sock")
            client.sendall((" ".join(words) + "\r\n").encode())
            return client.recv(4096).decode().split("\r\n")[-2]

    def scraped(self, query: str) -> str:
        """The value of ``query`` as soon as Prometheus has one."""
        address = f"http://127.0.0.1:{self.prometheus}/api/v1/query?query={urllib.request.quote(query)}"  # type: ignore[attr-defined]

        def ask() -> str | None:
            with urllib.request.urlopen(address, timeout=10) as reply:
                found = json.load(reply)["data"]["result"]
            return str(found[0]["value"][1]) if found else None

        return until(ask, query)

    def file(self) -> Path:
        return self.folder / "ocelot.yaml"


def until(look: Callable[[], str | None], what: str, patience: float = 30.0) -> str:
    deadline = time.monotonic() + patience
    while (found := look()) is None:
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def pids(machine: Desk) -> dict[str, int]:
    return {each["name"]: each["pid"] for each in machine.json("status")["processes"] if each["pid"] is not None}


def all_ready(machine: Desk) -> None:
    done = machine.ctl(
        "wait", "postgres", "redis", "nginx", "prometheus", "--for", "ready", "--timeout", "60s", timeout=70
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # Not below pytest's own folder: other users may not enter that, and each run of pytest sees to it anew
    with tempfile.TemporaryDirectory(prefix="ocelot-site-") as folder:
        yield Site(Path(folder))


@pytest.fixture(scope="module")
def machine(site: Site) -> Iterator[Desk]:
    with desk(site.folder, site.processes(), metrics={"listen": f"127.0.0.1:{site.metrics}"}) as machine:
        all_ready(machine)
        yield machine


def test_all_serve_and_the_database_is_not_roots(site: Site, machine: Desk) -> None:
    site.sql(f"{TABLE}; insert into kept values (1)")
    assert site.redis("SET", "kept", "yes") == "+OK"
    assert site.get() == ("first", "first")
    assert site.scraped('ocelot_process_ready{process="nginx"}') == "1"
    pid = pids(machine)["postgres"]
    assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(site.user).pw_uid


def test_all_come_back_after_kill_9(site: Site, machine: Desk) -> None:
    before = pids(machine)
    for pid in before.values():
        os.kill(pid, 9)
    until(lambda: "new" if not set(pids(machine).values()) & set(before.values()) else None, "new pids")
    all_ready(machine)
    assert site.sql("select count(*) from kept") == "1"
    assert site.redis("GET", "kept") == "yes"
    assert site.get()[0] == "first"
    restarts = {each["name"]: each["restartsByCause"] for each in machine.json("status")["processes"]}
    assert all(restarts[name].get("signal") == 1 for name in before), restarts


def test_no_line_of_the_log_is_lost_while_it_rotates(site: Site, machine: Desk) -> None:
    asked = [f"/index.html?{number:04}" for number in range(1200)]
    for path in asked:
        site.get(path)

    def written() -> str | None:
        lines = [line for file in site.folder.glob("nginx/access.log*") for line in file.read_text().splitlines()]
        found = sorted(line for line in lines if line.startswith("/index.html?") and "probe" not in line)
        return "all" if found == asked else None

    assert until(written, "every request in the log, once") == "all"
    assert len(list(site.folder.glob("nginx/access.log*"))) > 3


def test_a_reload_touches_only_what_has_changed(site: Site, machine: Desk) -> None:
    before = pids(machine)
    site.page("second")
    done = machine.ctl("reload", "nginx")  # its own signal: it reads its file again and goes on
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: "yes" if site.get() == ("second", "second") else None, "the new page")
    assert pids(machine) == before

    file = json.loads(site.file().read_text())
    file["processes"]["redis"]["environmentVariables"]["NEW"] = "1"
    site.file().write_text(json.dumps(file))
    shown = machine.ctl("reload", "--dry-run").stdout
    assert "redis: environmentVariables.NEW" in shown
    assert pids(machine) == before
    done = machine.ctl("reload", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    all_ready(machine)
    assert {name for name, pid in pids(machine).items() if pid != before[name]} == {"redis"}
    assert site.redis("GET", "kept") == "yes"

    site.file().write_text(json.dumps(file).replace('"Always"', '"Allways"', 1))
    refused = machine.ctl("reload")
    assert refused.returncode == 1
    assert "Allways" in refused.stderr + refused.stdout
    site.file().write_text(json.dumps(file))
    assert site.get()[0] == "second"


def test_another_image_of_ocelot_goes_on_with_all_of_them(site: Site, machine: Desk) -> None:
    before = pids(machine)
    done = machine.ctl("reexec", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    all_ready(machine)
    assert pids(machine) == before
    assert site.get()[0] == "second"
    site.sql("insert into kept values (2)")
    assert site.redis("GET", "kept") == "yes"


def test_the_database_stops_cleanly_and_needs_no_recovery(site: Site, machine: Desk) -> None:
    kept = site.sql("select count(*) from kept")
    machine.ctl("stop", "postgres", timeout=60)
    assert "database system is shut down" in machine.ctl("logs", "postgres").stdout
    machine.ctl("start", "postgres", timeout=60)
    all_ready(machine)
    log = machine.ctl("logs", "postgres").stdout.rpartition("database system is shut down")[2]
    assert "database system was shut down at" in log
    assert "recovery" not in log
    assert site.sql("select count(*) from kept") == kept
