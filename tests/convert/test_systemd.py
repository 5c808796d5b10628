"""Units of systemd: what becomes of each setting, and that nothing goes without a word."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from ocelot.convert import calendar_times
from ocelot.convert.command import check, convert
from ocelot.convert.draft import Draft, write
from ocelot.convert.units import split
from ocelot.errors import OcelotError
from tests.convert.drafts import keys, losses


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


DISTRIBUTED = {
    "agetty@.service": """\
        [Unit]
        Description=Getty on %I
        After=systemd-user-sessions.service plymouth-quit-wait.service
        Conflicts=rescue.service
        ConditionPathExists=/dev/tty0
        [Service]
        ExecStart=-/sbin/agetty -o '-p -- \\\\u' --noclear - $TERM
        Type=idle
        Restart=always
        RestartSec=0
        UtmpIdentifier=%I
        StandardInput=tty
        TTYPath=/dev/%I
        TTYReset=yes
        KillMode=process
        UnsetEnvironment=LANG LC_CTYPE
        [Install]
        WantedBy=getty.target
        DefaultInstance=tty1
        """,
    "bus.service": """\
        [Service]
        Type=notify-reload
        NotifyAccess=main
        ExecStart=@/usr/bin/bus-daemon @bus-daemon --system --address=systemd: --nofork
        ExecReload=/usr/bin/bus-send --print-reply --type=method_call / ReloadConfig
        OOMScoreAdjust=-900
        User=messagebus
        AmbientCapabilities=CAP_AUDIT_WRITE CAP_SETPCAP
        """,
    "cron.service": """\
        [Service]
        EnvironmentFile=-/etc/default/cron
        ExecStart=/usr/sbin/cron -f -P $EXTRA_OPTS
        IgnoreSIGPIPE=false
        KillMode=process
        Restart=on-failure
        SyslogFacility=cron
        """,
    "hooked.service": """\
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStartPre=-/bin/mkdir -p /run/hooked
        ExecStartPre=+/bin/chown daemon: /run/hooked
        ExecStart=/bin/first
        ExecStart=!/bin/second --with "two words" ${A:-b} %%
        ExecStop=/bin/last
        ExecStopPost=:/bin/tidy $NOT_EXPANDED
        TimeoutStartSec=infinity
        SuccessExitStatus=0 143 SIGTERM TEMPFAIL
        """,
    "ssh.service": """\
        [Unit]
        Documentation=man:sshd(8)
        ConditionPathExists=!/etc/ssh/sshd_not_to_be_run
        [Service]
        EnvironmentFile=-/etc/default/ssh
        ExecStartPre=/usr/sbin/sshd -t
        ExecStart=/usr/sbin/sshd -D $SSHD_OPTS
        ExecReload=/usr/sbin/sshd -t
        ExecReload=/bin/kill -HUP $MAINPID
        KillMode=process
        Restart=on-failure
        RestartPreventExitStatus=255
        Type=notify
        RuntimeDirectory=sshd
        RuntimeDirectoryMode=0755
        [Install]
        WantedBy=multi-user.target
        Alias=sshd.service
        """,
    "udev.service": """\
        [Unit]
        DefaultDependencies=no
        After=systemd-sysusers.service
        ConditionPathIsReadWrite=/sys
        [Service]
        CapabilityBoundingSet=~CAP_SYS_TIME CAP_WAKE_ALARM
        Delegate=pids
        DelegateSubgroup=udev
        Type=notify
        OOMScoreAdjust=-1000
        Sockets=udev-control.socket udev-kernel.socket
        Restart=always
        RestartSec=0
        ExecStart=/lib/systemd/systemd-udevd
        KillMode=mixed
        TasksMax=infinity
        PrivateMounts=yes
        SystemCallFilter=@system-service @module @raw-io bpf
        SystemCallErrorNumber=EPERM
        IPAddressDeny=any
        WatchdogSec=3min
        LimitNOFILE=1024:524288
        LimitMEMLOCK=64M
        LimitCORE=infinity
        """,
}
"""In the manner of what distributions ship: every prefix of a command, lists with a tilde, infinities, specifiers."""


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_units_in_the_manner_of_distributions_become_something_that_is_accepted(tmp_path: Path, name: str) -> None:
    """A process, or a comment that says why not."""
    for unit, text in DISTRIBUTED.items():
        (tmp_path / unit).write_text(textwrap.dedent(text))
    alone = convert([str(tmp_path / name)])
    assert check(write(alone)) == []
    [entry] = alone.entries
    assert entry.lost or entry.keys
    assert check(write(convert([str(tmp_path)]))) == []


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


def test_whatever_is_lost_is_named(tmp_path: Path) -> None:
    """Also units that are not among the converted ones, and habits of systemd that have an effect."""
    draft = units(
        tmp_path,
        a_service="""
        [Unit]
        After=network.target b.service near.service
        Before=c.service
        Wants=d.service
        BindsTo=f.service
        PartOf=g.service near.service away.service
        StopWhenUnneeded=yes
        [Service]
        ExecStart=/bin/a
        KillMode=mixed
        SendSIGKILL=no
        SyslogIdentifier=other
        RuntimeDirectory=a
        RuntimeDirectoryMode=0750
        [Install]
        Alias=z.service
        """,
        near_service="[Service]\nExecStart=/bin/near\nSyslogIdentifier=%N\nSendSIGKILL=yes\n",
        away_service="[Service]\nExecStart=/bin/away\n",
    )
    lost = losses(draft, "a")
    for setting in (
        "After=b.service",
        "Before=c.service",
        "Wants=d.service",
        "BindsTo=f.service",
        "PartOf=g.service",
        "PartOf=away.service",
        "StopWhenUnneeded=yes",
        "KillMode=mixed",
        "SendSIGKILL=no",
        "SyslogIdentifier=other",
        "RuntimeDirectoryMode=0750",
        "Alias=z.service",
    ):
        assert f"{setting}: " in lost, setting
    assert "near" not in lost
    assert "network.target" not in lost
    assert keys(draft, "a")["dependsOn"] == {"near": {"required": False, "restart": True}}
    assert losses(draft, "near") == ""


@pytest.mark.parametrize(
    ("lines", "notify", "signal"),
    [
        ("Type=notify\nExecReload=/bin/kill -HUP $MAINPID", {"type": "systemd", "reload": False}, "SIGHUP"),
        ("Type=notify", "systemd", None),
        ("Type=notify-reload", "systemd", "SIGHUP"),
        ("Type=notify-reload\nReloadSignal=SIGUSR1", "systemd", "SIGUSR1"),
        ("Type=notify-reload\nReloadSignal=10", "systemd", 10),
        ("Type=simple\nReloadSignal=SIGUSR1", None, None),
    ],
)
def test_only_notify_reload_says_when_it_has_reloaded(tmp_path: Path, lines: str, notify: Any, signal: Any) -> None:
    draft = units(tmp_path, app_service=f"[Service]\nExecStart=/bin/app\n{lines}\n")
    assert (keys(draft, "app").get("notify"), keys(draft, "app").get("reloadSignal")) == (notify, signal)


def test_prefixes_and_numbers_that_are_lost(tmp_path: Path) -> None:
    draft = units(tmp_path, a_service="[Service]\nExecStart=-/bin/a\nIOSchedulingPriority=x\nIOSchedulingClass=y\n")
    assert keys(draft, "a")["program"] == "/bin/a"
    for lost in ("- before /bin/a", "IOSchedulingPriority=x", "IOSchedulingClass=y"):
        assert lost in losses(draft, "a")


@pytest.mark.parametrize("line", ["ExecStart=-", "ExecStart=/bin/a\nExecStartPre=@"])
def test_a_command_line_of_nothing(tmp_path: Path, line: str) -> None:
    with pytest.raises(OcelotError, match="empty command line"):
        units(tmp_path, a_service=f"[Service]\n{line}\n")
