"""nginx, redis, PostgreSQL and Prometheus under one ``ocelot supervise``, from one file as a user writes it (examples/site.yaml).

They are started in order, each with its own way to say that it is ready; killed; reconfigured; their logs rotated; their
supervisor replaced; and stopped so that the database needs no recovery.
"""

from __future__ import annotations

import gzip
import json
import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template

import pytest

from integration.desk import PATIENCE, Desk, supervising
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
        self.file = folder / "ocelot.yaml"
        self.metrics, self.web, self.prometheus, self.store_port, self.database_port = free_ports(5)
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
        self.write()

    def page(self, text: str) -> None:
        (self.folder / "nginx" / "index.html").write_text(f"{text}\n")
        (self.folder / "nginx" / "nginx.conf").write_text(
            f"""
            pid {self.folder}/nginx/pid; error_log stderr; worker_processes 1;
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

    def write(self) -> None:
        """The file of the user, and what Prometheus is told to look at."""
        assert NGINX
        assert PROMETHEUS
        (self.folder / "prometheus" / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: ocelot, static_configs: [{{targets: ['127.0.0.1:{self.metrics}']}}]}}]\n"
        )

        def libraries(daemon: cache.Daemon) -> str:
            """Empty where the daemon is installed, and not only unpacked."""
            return json.dumps({key: value for key, value in daemon.environment.items() if key == "LD_LIBRARY_PATH"})

        self.file.write_text(
            Template((Path(__file__).parent / "examples" / "site.yaml").read_text()).substitute(
                folder=self.folder,
                user=self.user,
                nginx=NGINX.program,
                redis=self.store.program,
                prometheus=PROMETHEUS.program,
                postgres_bin=self.database.program.parent,
                nginx_environment=libraries(NGINX),
                redis_environment=libraries(self.store),
                postgres_environment=libraries(self.database),
                nginx_port=self.web,
                redis_port=self.store_port,
                postgres_port=self.database_port,
                prometheus_port=self.prometheus,
                metrics_port=self.metrics,
            )
        )

    def change(self, old: str, new: str) -> None:
        """As with an editor."""
        text = self.file.read_text()
        assert text.count(old) == 1, old
        self.file.write_text(text.replace(old, new))

    def get(self, path: str = "/index.html") -> tuple[str, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=10) as reply:
            return reply.read().decode().strip(), reply.headers["x-says"]

    def sql(self, text: str) -> str:
        command = [
            *(str(self.database.program.parent / "psql"), "-h", "127.0.0.1", "-p", str(self.database_port)),
            *("-U", "o", "-d", "postgres", "-Atc", text),
        ]
        done = subprocess.run(
            command, env=self.database.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def redis(self, *words: str) -> str:
        with socket.create_connection(("127.0.0.1", self.store_port), timeout=10) as client:
            client.sendall((" ".join(words) + "\r\n").encode())
            return client.recv(4096).decode().split("\r\n")[-2]

    def scraped(self, metric: str, after: float = 0.0) -> str:
        """The value of ``metric`` as soon as Prometheus has one, of a scrape ``after`` that time."""
        query = f"{metric} and timestamp({metric}) > {after}"
        address = f"http://127.0.0.1:{self.prometheus}/api/v1/query?query={urllib.request.quote(query)}"  # type: ignore[attr-defined]

        def ask() -> str | None:
            with urllib.request.urlopen(address, timeout=10) as reply:
                found = json.load(reply)["data"]["result"]
            assert len(found) < 2, found
            return str(found[0]["value"][1]) if found else None

        return until(ask, query)

    def state_of_the_database(self) -> str:
        """As it stands on the disk, pg_controldata(1)."""
        command = [str(self.database.program.parent / "pg_controldata"), "-D", f"{self.folder}/pg/data"]
        environment = {**self.database.environment, "LC_ALL": "C"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
        return next(line.partition(":")[2].strip() for line in done.stdout.splitlines() if "cluster state" in line)


def until(look: Callable[[], str | None], what: str, patience: float = 30.0) -> str:
    deadline = time.monotonic() + patience
    while (found := look()) is None:
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def text_of(file: Path) -> str:
    """Of a log, also of one that is being compressed or moved away: then it is elsewhere, and read there."""
    if file.suffix == ".part":
        return ""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return ""
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()


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
    with supervising(site.file, f"{site.folder}/run/control.sock") as machine:
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
        os.kill(pid, signal.SIGKILL)
    killed = time.time()
    until(lambda: "new" if not set(pids(machine).values()) & set(before.values()) else None, "new pids")
    all_ready(machine)
    assert site.sql("select count(*) from kept") == "1"
    assert site.redis("GET", "kept") == "yes"
    assert site.get()[0] == "first"
    log = machine.ctl("logs", "postgres").stdout
    assert "automatic recovery in progress" in log  # what a stop must not leave behind: see below
    restarts = {each["name"]: each["restartsByCause"] for each in machine.json("status")["processes"]}
    assert all(restarts[name].get("signal") == 1 for name in before), restarts
    assert site.scraped('ocelot_process_restarts_total{process="postgres",cause="signal"}', after=killed) == "1"


def test_no_line_of_the_log_is_lost_while_it_rotates(site: Site, machine: Desk) -> None:
    before = pids(machine)["nginx"]
    asked = [f"/index.html?{number:04}" for number in range(1200)]
    for path in asked:
        site.get(path)

    def written() -> str | None:
        lines = [line for file in site.folder.glob("nginx/access.log*") for line in text_of(file).splitlines()]
        found = sorted(line for line in lines if line.startswith("/index.html?") and "probe" not in line)
        return "all" if found == asked else None

    assert until(written, "every request in the log, once") == "all"
    assert len(list(site.folder.glob("nginx/access.log.*.gz"))) > 3
    assert pids(machine)["nginx"] == before


def test_a_reload_touches_only_what_has_changed(site: Site, machine: Desk) -> None:
    before = pids(machine)
    site.page("second")
    done = machine.ctl("reload", "nginx")  # its own signal: it reads its file again and goes on
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: "yes" if site.get() == ("second", "second") else None, "the new page")
    assert pids(machine) == before

    site.change("--supervised, systemd]", "--supervised, systemd, --maxmemory, 64mb]")
    shown = machine.ctl("reload", "--dry-run").stdout
    assert "~ redis: arguments: " in shown
    assert "would be restarted: redis\n" in shown
    assert pids(machine) == before
    done = machine.ctl("reload", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    all_ready(machine)
    assert {name for name, pid in pids(machine).items() if pid != before[name]} == {"redis"}
    assert site.redis("GET", "kept") == "yes"
    assert site.redis("CONFIG", "GET", "maxmemory") == str(64 << 20)

    after = pids(machine)
    site.change("notify: systemd", "notify: sytemd")
    refused = machine.ctl("reload")
    assert refused.returncode == 1
    assert 'did you mean "systemd"?' in refused.stderr
    assert pids(machine) == after
    site.change("notify: sytemd", "notify: systemd")
    assert site.get()[0] == "second"


def test_another_image_of_ocelot_goes_on_with_all_of_them(site: Site, machine: Desk) -> None:
    before = pids(machine)
    replaced = time.time()
    done = machine.ctl("reexec", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    all_ready(machine)
    assert pids(machine) == before
    assert site.get()[0] == "second"
    site.sql("insert into kept values (2)")
    assert site.redis("GET", "kept") == "yes"
    counted = 'ocelot_process_restarts_total{process="postgres",cause="signal"}'
    assert site.scraped(counted, after=replaced) == "1"  # Prometheus goes on scraping, and no counter begins anew


def test_the_database_stops_cleanly_and_needs_no_recovery(site: Site, machine: Desk) -> None:
    kept = site.sql("select count(*) from kept")
    done = machine.ctl("stop", "postgres", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.state_of_the_database() == "shut down"
    assert "database system is shut down" in machine.ctl("logs", "postgres").stdout
    assert site.get()[0] == "second"  # what depends on it goes on without it
    machine.ctl("start", "postgres", timeout=60)
    all_ready(machine)
    log = machine.ctl("logs", "postgres").stdout.rpartition("database system is shut down")[2]
    assert "database system was shut down at" in log
    assert "recovery" not in log
    assert site.sql("select count(*) from kept") == kept


def test_at_the_end_all_stop_in_order_and_the_database_is_whole(site: Site, machine: Desk) -> None:
    machine.process.send_signal(signal.SIGTERM)
    assert machine.process.wait(PATIENCE) == 0
    end = machine.log.read_text().rpartition("SIGTERM: stops everything in order")[2]
    assert end.index("ocelot: nginx: stopped") < end.index("ocelot: postgres: stopped")
    assert "SIGKILL" not in end
    assert site.state_of_the_database() == "shut down"
