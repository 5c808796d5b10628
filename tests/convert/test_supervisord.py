"""supervisord.conf: what becomes of each setting, and that nothing goes without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocelot.convert.command import convert
from ocelot.convert.draft import Entry, write
from ocelot.convert.supervisord import environment
from ocelot.errors import OcelotError
from tests.convert.drafts import keys, losses, made

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


def test_sockets_and_streams_lose_what_does_not_fit_and_it_is_named(tmp_path: Path) -> None:
    draft = made(
        tmp_path,
        "supervisord.conf",
        """
        [supervisord]
        strip_ansi=true
        [fcgi-program:tcp]
        command=/bin/f
        socket=tcp://127.0.0.1:9000
        socket_owner=a:b
        socket_mode=0700
        socket_backlog=5
        [fcgi-program:local]
        command=/bin/f
        socket=unix:///run/f.sock
        socket_owner=a:b
        socket_mode=0700
        [program:both]
        command=/bin/f
        stdout_syslog=true
        stdout_logfile=/var/log/f
        """,
    )
    assert keys(draft, "tcp")["sockets"] == [{"name": "tcp", "listen": "tcp://127.0.0.1:9000", "backlog": 5}]
    assert "socket_owner=a:b" in losses(draft, "tcp")
    assert "socket_mode=0700" in losses(draft, "tcp")
    local = {"name": "local", "listen": "unix:///run/f.sock", "mode": "0700", "user": "a", "group": "b"}
    assert keys(draft, "local")["sockets"] == [local]
    assert keys(draft, "both")["log"] == {"stdout": {"destination": {"type": "syslog"}}}
    assert "stdout_logfile=/var/log/f" in losses(draft, "both")
    assert "strip_ansi=true" in write(draft)


def test_comments_are_those_of_supervisord(tmp_path: Path) -> None:
    text = "[program:web]\ncommand=/bin/web -a ;one\n    -b # two\n    -c;d\nautostart=true ; three\n"
    draft = made(tmp_path, "supervisord.conf", text)
    assert keys(draft, "web")["arguments"] == ["-a", "-b", "-c;d"]
    assert losses(draft, "web") == ""


NUMBERS = ("numprocs", "startsecs", "startretries", "stopwaitsecs", "stdout_logfile_backups", "stdout_logfile_maxbytes")


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["many", "%(ENV_NOT_HERE)s"])
def test_what_should_be_a_number(tmp_path: Path, key: str, value: str) -> None:
    text = f"[program:web]\ncommand=/bin/web\nstdout_logfile=/var/log/web\n{key}={value}\n"
    draft = made(tmp_path, "supervisord.conf", text)
    assert keys(draft, "web")["program"] == "/bin/web"
    assert (f"{key}=many" if value == "many" else value) in losses(draft, "web")


def test_words_to_put_in(tmp_path: Path) -> None:
    text = "[program:web app]\ncommand=/bin/web %(numprocs)d %(what)s\nnumprocs=3\n"
    draft = made(tmp_path, "supervisord.conf", text)
    assert keys(draft, "web-app")["arguments"] == ["3", "%(what)s"]
    assert "%(what)s: unknown" in losses(draft, "web-app")


def test_an_include_that_finds_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[program:a]\ncommand=/bin/a\n")
    draft = made(tmp_path, "supervisord.conf", "[supervisord]\n[include]\nfiles=*.ini /not/here/*.conf\n")
    assert keys(draft, "a")["program"] == "/bin/a"
    assert draft.lost == ["[include] files=/not/here/*.conf: there is no such file here"]
