"""Converting files of other supervisors: what becomes of each setting, and that nothing goes without a word."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocelot.convert import calendar_times, words
from ocelot.convert.command import check, convert, detect
from ocelot.convert.draft import Draft, Entry, write
from ocelot.convert.supervisord import environment
from ocelot.convert.units import split
from ocelot.errors import OcelotError, UsageError


def made(folder: Path, name: str, text: str) -> Draft:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return convert([str(path)])


def keys(draft: Draft, name: str) -> dict[str, Any]:
    """As the written file has them, which ocelot accepts."""
    text = write(draft)
    assert check(text) == []
    found = yaml.safe_load(text)["processes"][name]
    assert isinstance(found, dict)
    return found


def losses(draft: Draft, name: str) -> str:
    entry = draft.entry(name)
    assert entry is not None
    return "\n".join(entry.lost)


# -- supervisord


SUPERVISORD = """\
    [unix_http_server]
    file=/run/s.sock
    chown=root:adm
    chmod=0770
    [supervisord]
    loglevel=debug
    user=root
    [inet_http_server]
    port=127.0.0.1:9001
    [program:web]
    command=/usr/bin/gunicorn -w 4 "app:make app"   ; the app
    directory=/srv/app
    user=www-data
    umask=022
    autorestart=true
    startretries=5
    stopsignal=INT
    stopwaitsecs=30
    stopasgroup=false
    environment=A="1,2",B='x y',C=plain,D="50%%"
    stdout_logfile=/var/log/web.log
    stdout_logfile_maxbytes=20MB
    stdout_logfile_backups=5
    redirect_stderr=true
    priority=20
    serverurl=AUTO
    [program:worker]
    command=/usr/bin/worker --home %(here)s --n %(process_num)02d
    numprocs=3
    exitcodes=0,2
    priority=10
    stdout_logfile=NONE
    stderr_logfile=syslog
    [program:once]
    command=/bin/true
    autostart=false
    autorestart=false
    [fcgi-program:php]
    command=php-fpm
    socket=unix:///run/php.sock
    socket_mode=0660
    socket_owner=www-data:adm
    [eventlistener:mem]
    command=memmon
    events=TICK_60
    [group:all]
    programs=web,worker
    """


def test_a_supervisord_file(tmp_path: Path) -> None:
    draft = made(tmp_path, "supervisord.conf", SUPERVISORD)
    assert [entry.name for entry in draft.entries][:2] == ["worker", "web"]  # by priority
    web = keys(draft, "web")
    log = {
        "destination": {"type": "file", "path": "/var/log/web.log"},
        "rotation": {"maxSizeBytes": "20MiB", "maxFiles": 5},
    }
    assert web == {
        "program": "/usr/bin/gunicorn",
        "arguments": ["-w", "4", "app:make app"],
        "workingDirectory": "/srv/app",
        "user": "www-data",
        "umask": "022",
        "environmentVariables": {"A": "1,2", "B": "x y", "C": "plain", "D": "50%"},
        "restartPolicy": {"type": "Always", "maxRetries": 5, "backoff": "1s", "resetAfter": "1s"},
        "shutdownSignal": "SIGINT",
        "terminationGracePeriod": "30s",
        "log": {"stdout": log, "stderr": log},
    }
    worker = keys(draft, "worker")
    assert worker["arguments"][1] == str(tmp_path)
    assert worker["replicas"] == 3
    assert worker["restartPolicy"]["successExitCodes"] == [0, 2]
    assert worker["log"] == {"stdout": {"destination": {"type": "null"}}, "stderr": {"destination": {"type": "syslog"}}}
    assert "restartPolicy" not in keys(draft, "once")
    assert keys(draft, "php")["sockets"] == [
        {"name": "php", "listen": "unix:///run/php.sock", "mode": "0660", "user": "www-data", "group": "adm"}
    ]
    assert draft.sections == {"logLevel": "debug", "control": {"mode": "0770", "group": "adm"}}


def test_what_supervisord_has_and_we_have_not_is_a_comment(tmp_path: Path) -> None:
    text = write(made(tmp_path, "supervisord.conf", SUPERVISORD))
    for expected in (
        "# not taken over: [inet_http_server] port=127.0.0.1:9001",
        "# not taken over: [supervisord] user=root: set it for each process",
        "# not taken over: [group:all] programs=web,worker",
        "# not taken over: stopasgroup=false: a stop means the whole process group",
        "# not taken over: %(process_num)02d",
        "# not taken over: autostart=false",
        "# NOT CONVERTED: event listeners",
    ):
        assert expected in text


def test_included_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[program:a]\ncommand=/bin/a\n")
    draft = made(tmp_path, "supervisord.conf", "[supervisord]\n[include]\nfiles = conf.d/*.conf\n")
    assert keys(draft, "a")["program"] == "/bin/a"


def test_an_environment_that_cannot_be_read_is_told() -> None:
    entry = Entry("x")
    assert environment('A=1, =oops,B="2"', entry) == {"A": "1"}
    assert "=oops" in entry.lost[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[program:x]\nautorestart=true\n", "cannot convert [program:x]: it has no command"),
        ("[program:x]\ncommand=/bin/x 'open\n", "cannot read command of [program:x]: No closing quotation"),
        ("[program:x\n", "cannot read"),
    ],
)
def test_a_broken_supervisord_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.conf"
    path.write_text(text)
    with pytest.raises(OcelotError) as caught:
        convert([str(path)], "supervisord")
    assert caught.value.message.startswith(message)


# -- systemd


def units(folder: Path, **texts: str) -> Draft:
    for name, text in texts.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem.replace('_', '-')}.{suffix}").write_text(textwrap.dedent(text))
    return convert([str(folder)])


def test_a_service_with_nearly_everything(tmp_path: Path) -> None:
    draft = units(
        tmp_path,
        app_service=r"""
        [Unit]
        Description=The app
        After=network.target
        StartLimitBurst=4
        StartLimitIntervalSec=2min
        [Service]
        Type=notify
        ExecStartPre=-/bin/mkdir -p /run/app
        ExecStart=/usr/bin/app --name "a b" \
            --unit=%n $OPTIONS ${ONE}x
        Environment=A=1 "B=x y"
        EnvironmentFile=-/etc/default/app
        User=app
        Restart=on-failure
        RestartSec=3
        TimeoutStopSec=1min 30s
        TimeoutStartSec=20
        WatchdogSec=10
        KillSignal=SIGQUIT
        LimitNOFILE=4096:8192
        LimitCORE=infinity
        LimitMEMLOCK=64M
        MemoryMax=512M
        CPUQuota=150%
        TasksMax=50
        NoNewPrivileges=yes
        AmbientCapabilities=CAP_NET_BIND_SERVICE
        StandardOutput=append:/var/log/app.log
        StandardError=journal
        IOSchedulingClass=idle
        SuccessExitStatus=143 SIGTERM
        PrivateTmp=yes
        ProtectSystem=full
        """,
    )
    assert keys(draft, "app") == {
        "program": "/bin/sh",
        "arguments": ["-c", "exec /usr/bin/app --name 'a b' --unit=app.service $OPTIONS \"${ONE}\"x"],
        "notify": {"type": "systemd", "timeout": "20s", "watchdog": "10s"},
        "preStart": [{"command": "/bin/sh", "arguments": ["-c", "/bin/mkdir -p /run/app || true"]}],
        "environmentVariables": {"A": "1", "B": "x y"},
        "environmentFile": "/etc/default/app",
        "user": "app",
        "limits": {"nofile": {"soft": 4096, "hard": 8192}, "core": "unlimited", "memlock": "64MiB"},
        "resources": {"memoryMax": "512MiB", "cpuMax": "150%", "pidsMax": 50},
        "noNewPrivileges": True,
        "capabilities": {"ambient": ["CAP_NET_BIND_SERVICE"]},
        "log": {"stdout": {"destination": {"type": "file", "path": "/var/log/app.log"}}},
        "ioprio": {"class": "idle"},
        "restartPolicy": {
            "type": "OnFailure",
            "backoff": "3s",
            "multiplier": 1,
            "successExitCodes": [0, 143],
            "maxRetries": 4,
            "resetAfter": "120s",
        },
        "shutdownSignal": "SIGQUIT",
        "terminationGracePeriod": "90s",
    }
    lost = losses(draft, "app")
    assert "PrivateTmp=yes, ProtectSystem=full: there is no sandbox" in lost
    assert "SuccessExitStatus=SIGTERM" in lost
    assert "EnvironmentFile=-/etc/default/app" in lost


def test_order_between_services_sockets_and_timers(tmp_path: Path) -> None:
    draft = units(
        tmp_path,
        db_service="[Service]\nType=oneshot\nExecStart=/bin/a\nExecStart=/bin/b 'c d'\n",
        web_service="""
        [Unit]
        Requires=db.service other.service
        After=db.service cache.service
        [Service]
        ExecStart=/bin/web
        """,
        cache_service="[Unit]\nBindsTo=db.service\nAfter=db.service\n[Service]\nExecStart=/bin/cache\n",
        web_socket="[Socket]\nListenStream=8080\nListenStream=/run/web.sock\nSocketMode=0660\nFreeBind=yes\n",
        db_timer="[Timer]\nOnCalendar=Mon..Fri *-*-* 02:30:00\nPersistent=true\n",
    )
    web = keys(draft, "web")
    assert web["dependsOn"] == {"db": {}, "cache": {"required": False}}
    assert web["sockets"] == [
        {"name": "web", "listen": "tcp://[::]:8080"},
        {"name": "web-2", "listen": "unix:///run/web.sock", "mode": "0660"},
    ]
    assert keys(draft, "cache")["dependsOn"] == {"db": {"restart": True}}
    db = keys(draft, "db")
    assert (db["type"], db["schedule"]) == ("oneshot", {"cron": "30 2 * * 1-5"})
    assert db["arguments"] == ["-c", "/bin/a && /bin/b 'c d'"]
    assert "Requires=other.service: it is not among the converted units" in losses(draft, "web")
    assert "web.socket: FreeBind=yes" in losses(draft, "web")
    assert "db.timer: Persistent=true" in losses(draft, "db")


def test_what_would_not_run_as_it_stands_is_written_as_a_comment(tmp_path: Path) -> None:
    draft = units(
        tmp_path,
        bg_service="[Service]\nType=forking\nExecStart=/bin/bg\n",
        nginx_service="[Service]\nType=forking\nExecStart=/usr/sbin/nginx -g 'daemon on; master_process on;'\n",
        none_service="[Unit]\nDescription=x\n",
        each_service="[Service]\nExecStart=/bin/each\n",
        each_socket="[Socket]\nListenStream=1\nAccept=yes\n",
        odd_service="[Service]\nExecStart=/bin/odd\n",
        odd_timer="[Timer]\nOnBootSec=5min\n",
    )
    assert sorted(entry.name for entry in draft.entries if entry.withheld) == ["bg", "each", "none", "odd"]
    assert keys(draft, "nginx")["arguments"] == ["-g", "daemon off; master_process on;"]


@pytest.mark.parametrize(
    ("line", "signal"),
    [
        ("/bin/kill -HUP $MAINPID", "SIGHUP"),
        ("/usr/bin/kill -s USR1 ${MAINPID}", "SIGUSR1"),
        ("/bin/kill -10 $MAINPID", 10),
        ("/usr/sbin/app -s reload", None),
    ],
)
def test_a_reload_by_signal(tmp_path: Path, line: str, signal: str | int | None) -> None:
    draft = units(tmp_path, a_service=f"[Service]\nExecStart=/bin/a\nExecReload={line}\n")
    assert draft.entries[0].keys.get("reloadSignal") == signal
    assert bool(draft.entries[0].lost) is (signal is None)


def test_drop_ins_and_empty_assignments(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("[Service]\nExecStart=/bin/old\nEnvironment=A=1\n")
    (tmp_path / "a.service.d").mkdir()
    (tmp_path / "a.service.d" / "x.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/new\n")
    assert keys(convert([str(tmp_path / "a.service")]), "a")["program"] == "/bin/new"


def test_an_instance_knows_its_name(tmp_path: Path) -> None:
    (tmp_path / "pg@15-main.service").write_text("[Service]\nExecStart=/bin/pg %i %p\n")
    draft = convert([str(tmp_path / "pg@15-main.service")])
    assert draft.entries[0].keys["arguments"] == ["15-main", "pg"]


def test_a_masked_unit(tmp_path: Path) -> None:
    (tmp_path / "a.service").symlink_to("/dev/null")
    with pytest.raises(OcelotError, match="masked"):
        convert([str(tmp_path / "a.service")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 'b c' \"d\\te\" f\\x20g", ["a", "b c", "d\te", "f g"]),
        ("A='b c'd e", ["A=b cd", "e"]),
        ("''", [""]),
        ("", []),
    ],
)
def test_words_as_systemd_reads_them(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_a_quote_that_is_not_closed() -> None:
    with pytest.raises(OcelotError, match="a quote is not closed"):
        split("a 'b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("daily", ("0 0 * * *", "")),
        ("weekly UTC", ("0 0 * * 1", "UTC")),
        ("*-*-* 6,18:00", ("0 6,18 * * *", "")),
        ("Sun *-*-* 03:10:00", ("10 3 * * 0", "")),
        ("Mon,Wed 04:00 Europe/Berlin", ("0 4 * * 1,3", "Europe/Berlin")),
        ("*:0/15", ("*/15 * * * *", "")),
        ("*-*-01 00:00:00", ("0 0 1 * *", "")),
        ("*-*-* *:*:00", ("* * * * *", "")),
        ("*-*-* *:*:30", None),
        ("2027-01-01 00:00", None),
        ("Mon *-*-01 00:00", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_calendar_times(text: str, expected: tuple[str, str] | None) -> None:
    assert calendar_times.cron(text) == expected


# -- Procfile and compose


def test_a_procfile(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    draft = made(
        tmp_path,
        "Procfile",
        """\
        # the app
        web: bundle exec puma -p $PORT
        worker: bin/worker --queue "low, high"
        release: bin/migrate
        """,
    )
    web = keys(draft, "web")
    assert web["arguments"] == ["-c", "bundle exec puma -p $PORT"]
    assert web["environmentVariables"] == {"PORT": "5000"}
    assert web["environmentFile"] == str(tmp_path / ".env")
    assert keys(draft, "worker")["arguments"] == ["--queue", "low, high"]
    assert keys(draft, "release")["type"] == "oneshot"


def test_a_line_of_a_procfile_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OcelotError, match="Procfile:2: nonsense"):
        made(tmp_path, "Procfile", "web: x\nnonsense\n")


COMPOSE = """\
    name: shop
    x-common: &common {restart: unless-stopped}
    services:
      db:
        <<: *common
        image: postgres:15
        command: ["postgres", "-c", "fsync=on"]
        environment: {POSTGRES_DB: shop, DEBUG: true}
        healthcheck: {test: ["CMD-SHELL", "pg_isready"], interval: 5s, timeout: 3s, retries: 5, start_period: 20s}
        stop_signal: SIGINT
        stop_grace_period: 1m
        volumes: ["data:/var/lib"]
        mem_limit: 512m
        ulimits: {nofile: {soft: 1024, hard: 2048}, core: -1}
      web:
        entrypoint: /app/run --port ${APP_PORT:-8080} --price $$5
        user: "1000:1000"
        working_dir: /app
        depends_on:
          db: {condition: service_healthy, restart: true}
          cache: {condition: service_started, required: false}
        ports: ["80:8080"]
        deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64M, pids: 10}}}
        cap_add: [NET_ADMIN]
      cache:
        image: redis:7
        restart: on-failure:3
    volumes: {data: {}}
    """


def test_a_compose_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_PORT", raising=False)
    draft = made(tmp_path, "compose.yaml", COMPOSE)
    handler = {"type": "exec", "command": ["/bin/sh", "-c", "pg_isready"]}
    assert keys(draft, "db") == {
        "program": "postgres",
        "arguments": ["-c", "fsync=on"],
        "restartPolicy": {"type": "UnlessStopped"},
        "environmentVariables": {"POSTGRES_DB": "shop", "DEBUG": "true"},
        "readinessProbe": {"handler": handler, "period": "5s", "timeout": "3s", "failureThreshold": 5},
        "startupProbe": {"handler": handler, "period": "5s", "timeout": "3s", "failureThreshold": 9},
        "shutdownSignal": "SIGINT",
        "terminationGracePeriod": "60s",
        "resources": {"memoryMax": "512MiB"},
        "limits": {"nofile": {"soft": 1024, "hard": 2048}, "core": "unlimited"},
    }
    web = keys(draft, "web")
    assert web["arguments"] == ["--port", "8080", "--price", "$5"]
    assert (web["user"], web["group"], web["replicas"]) == ("1000", "1000", 2)
    assert web["dependsOn"] == {"db": {"condition": "Healthy", "restart": True}}
    assert web["resources"] == {"memoryMax": "64MiB", "cpuMax": "50%", "pidsMax": 10}
    assert web["capabilities"] == {"ambient": ["CAP_NET_ADMIN"]}
    text = write(draft)
    assert "# NOT CONVERTED: the file does not say what it runs" in text
    for lost in (
        "image: postgres:15",
        "volumes: ['data:/var/lib']",
        "ports: ['80:8080']",
        "depends_on: cache",
        "volumes: {'data': {}}",
    ):
        assert f"# not taken over: {lost}" in text


@pytest.mark.parametrize("text", ["services: [1]\n", "a: b\n", "services: {a: [}\n", "services: {a: 3}\n"])
def test_what_is_no_compose_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yml"
    path.write_text(text)
    with pytest.raises(OcelotError):
        convert([str(path)], "compose")


# -- all of them


def test_a_hostile_value_cannot_leave_its_comment(tmp_path: Path) -> None:
    entry = Entry("a", {"program": "/bin/a"}, about="x\nprocesses: {evil: {program: /bin/evil}}")
    entry.lose("b\r\n\u2028evil: 1", "c\nd")
    assert list(yaml.safe_load(write(Draft("f\nevil: 1", [entry])))) == ["version", "processes"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1min 30s", 90),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("infinity", None),
        ("", None),
        ("3 parsecs", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert words.span(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", "512MiB"), ("1g", "1GiB"), ("64kb", "64KiB"), ("1000", "1000B"), ("1.5M", "1572864B"), ("half", None)],
)
def test_sizes(text: str, size: str | None) -> None:
    assert words.size(text) == size


def test_the_format_is_found_out(tmp_path: Path) -> None:
    for name, text, expected in (
        ("a.service", "", "systemd"),
        ("Procfile.dev", "", "procfile"),
        ("x.ini", "[program:a]\n", "supervisord"),
        ("stack.yml", "services:\n", "compose"),
    ):
        (tmp_path / name).write_text(text)
        assert detect(str(tmp_path / name)) == expected
    assert detect(str(tmp_path)) == "systemd"
    (tmp_path / "what").write_text("?")
    with pytest.raises(UsageError, match="cannot tell what"):
        detect(str(tmp_path / "what"))
