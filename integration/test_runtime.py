"""The runtime at work: a supervise file with nearly every key, where there is no Python, no C library and no tzdata.

A module that the runtime leaves out, or has a stand-in for, shows only when something asks for it; this asks.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.lab import cache
from ocelot.wire.client import call

CHECKOUT = Path(__file__).parents[1]
PREFIX = "/usr/lib/ocelot"
PATIENCE = 30.0
BUSYBOX = cache.tool("busybox")
LIBPTHREAD = "/lib/x86_64-linux-gnu/libpthread.so.0"

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(BUSYBOX is None, reason="no busybox"),
]

CHATTY = "while :; do echo 0123456789012345678901234567890123456789; usleep 1000; done"

FILE = f"""\
version: "1.0"
metrics: {{listen: "127.0.0.1:9464"}}
control: {{mode: 0660, group: web, roles: {{read: [web]}}}}
processes:
  prepare:
    type: oneshot
    program: sh
    arguments: [-c, "ip link set lo up; echo done > /tmp/prepared"]
    umask: 0077
  db:
    program: sh
    arguments: [-c, "echo >&5; exec sleep 1000"]
    notify: {{fd: 5}}
    dependsOn: [prepare]
  web:
    program: sh
    arguments: [-c, "echo $USER $OCELOT_REPLICA $GREETING; exec sleep 1000"]
    environmentFile: /etc/web.env
    user: web
    replicas: 2
    dependsOn: {{db: {{condition: Healthy}}}}
    nice: 5
    ioprio: {{class: idle}}
    oomScoreAdjust: 100
    noNewPrivileges: true
    limits: {{nofile: 256, core: 0}}
    supplementaryGroups: [staff]
    capabilities: {{bounding: [CAP_NET_BIND_SERVICE], ambient: [CAP_NET_BIND_SERVICE]}}
    restartPolicy: {{type: Always, backoff: 100ms}}
    livenessProbe: {{handler: {{type: exec, command: ["true"]}}, period: 1s}}
    preStart: {{command: "true"}}
    postStop: {{command: sh, arguments: [-c, "echo stopped with $OCELOT_EXIT_STATUS"]}}
    reloadSignal: SIGUSR1
  http:
    program: httpd
    arguments: [-f, -p, "127.0.0.1:8089", -h, /etc]
    dependsOn: [prepare]
    startupProbe: {{handler: {{type: tcpSocket, port: 8089}}, period: 1s}}
    readinessProbe: {{handler: {{type: httpGet, port: 8089, path: /passwd}}, period: 1s}}
  told:
    program: sh
    arguments: [-c, "sleep 0.2; echo it is up; exec sleep 1000"]
    readinessProbe: {{handler: {{type: log, pattern: "is u."}}, period: 1s}}
    log: {{stdout: {{format: json}}}}
  held:
    program: sh
    arguments: [-c, "echo $LISTEN_FDS $LISTEN_FDNAMES; exec sleep 1000"]
    sockets: [{{name: door, listen: "unix:///run/door", mode: 0660, group: web}}]
    readinessProbe: {{handler: {{type: unixSocket, path: /run/door}}, period: 1s}}
  asked:
    program: sleep
    arguments: [1000]
    readinessProbe: {{handler: {{type: grpc, port: 8099}}, period: 1s}}
  again:
    program: sh
    arguments: [-c, exit 3]
    restartPolicy: {{type: OnFailure, maxRetries: 2, backoff: 10ms}}
  gzipped:
    program: sh
    arguments: [-c, "{CHATTY}"]
    log:
      stdout:
        destination: {{type: file, path: /var/log/gzipped}}
        rotation: {{maxSizeBytes: 10KiB, maxFiles: 3, compression: gzip}}
  lz4:
    program: sh
    arguments: [-c, "{CHATTY}"]
    log:
      stdout:
        destination: {{type: file, path: /var/log/lz4}}
        format: json
        rotation: {{maxSizeBytes: 10KiB, maxFiles: 3, compression: lz4}}
  shell:
    program: sh
    arguments: [-i]
    user: web
    stdin: pty
    shutdownSignal: SIGHUP
  often:
    type: oneshot
    program: sh
    arguments: [-c, echo tick]
    schedule: {{every: 1s}}
  nightly:
    type: oneshot
    program: "true"
    schedule: {{cron: "30 2 * * *", timezone: UTC}}
  elsewhere:
    type: oneshot
    program: "true"
    schedule: {{cron: "30 2 * * *", timezone: Europe/Berlin}}
"""

UP = ("db", "web[0]", "web[1]", "http", "told", "held")


class Root:
    """A root file system of busybox and a runtime, and the ocelot that is PID 1 in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("bin", "etc", "tmp", "proc", "sys", "run", "dev", "mnt", "var/log", "usr/lib"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # pytest makes folders that only we may enter
        shutil.copy(BUSYBOX or "", folder / "bin/busybox")
        for name in ("sh", "sleep", "echo", "true", "stat", "httpd", "ip", "wget", "tty"):
            (folder / "bin" / name).symlink_to("busybox")
        (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/tmp:/bin/sh\n")
        (folder / "etc/group").write_text("root:x:0:\nweb:x:1000:\nstaff:x:50:\n")
        (folder / "etc/web.env").write_text("GREETING=hello\n")
        (folder / "etc/supervise.yaml").write_text(FILE)
        build = [sys.executable, "-m", "ocelot", "runtime", "build", "--prefix", PREFIX, str(folder / PREFIX[1:])]
        subprocess.run(build, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)

    def enter(self, *command: str, before: str = ":") -> list[str]:
        """The command line that runs ``command`` as PID 1 in namespaces of its own; the folder is ``$r`` in ``before``."""
        script = (
            f'r=$1; shift; {before}; mount -t proc proc "$r/proc"; mount --rbind /dev "$r/dev"; '
            'exec env -i PATH="$PATH" chroot "$r" /bin/busybox env PATH=/bin "$@"'
        )
        namespaces = ["unshare", "--fork", "--pid", "--kill-child", "--mount", "--net", "--uts", "--ipc"]
        return [*namespaces, "sh", "-c", script, "sh", str(self.folder), *command]

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the runtime on its own."""
        return subprocess.run(
            self.enter(f"{PREFIX}/bin/{command[0]}", *command[1:], **more),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @property
    def pid(self) -> str:
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()

    def ctl(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """``ocelotctl`` of the runtime, beside the running ocelot."""
        beside = ["nsenter", "--target", self.pid, "--mount", "--pid", "--net", "--root", "--"]
        return subprocess.run(
            [*beside, f"{PREFIX}/bin/ocelotctl", *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={"PATH": "/bin"},
        )

    def processes(self) -> dict[str, Any]:
        socket = str(self.folder / "run/ocelot/control.sock")
        return {each["name"]: each for each in call(socket, "GET", "/v1/status")["processes"]}

    def until(self, happened: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not happened(found := self.processes()):
            assert time.monotonic() < deadline, {name: (each["state"], each["reason"]) for name, each in found.items()}
            time.sleep(0.1)
        return found

    def logs(self, name: str) -> str:
        return self.ctl("logs", "--plain", name).stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return Root(tmp_path_factory.mktemp("root"))


BOOT = """\
preSwitch:
  environment: {GREETING: hello}
  mounts: [{type: virtual, fstype: tmpfs, target: /mnt}]
postSwitch:
  tmpfiles:
    - {path: /mnt/null, type: c, mode: 0666, content: "1:3"}
    - {path: /run/disk, type: b, content: "7:200"}
  hooks: [{name: greet, command: sh, arguments: [-c, "echo $GREETING; echo hook > /tmp/hook"]}]
  handoff:
    mode: supervise
    bootScript: {path: sh, arguments: [-c, "echo script"]}
    processes:
      last: {program: sh, arguments: [-c, "stat -c '%F %t:%T %a' /mnt/null /run/disk; exit 4"]}
"""
SWITCH = "switchRoot: {rootFileSystem: {type: 9p, tag: rootfs}}\n"
CONTAINER = 'mount --bind "$r" "$r"; mount -t tmpfs t "$r/run"; touch "$r/run/.containerenv"'


def test_a_boot_in_a_container_stays_inside(root: Root) -> None:
    (root.folder / "etc/boot.yaml").write_text(BOOT)
    done = root.run("ocelot", "bootstrap", "run", "-f", "/etc/boot.yaml", before=CONTAINER)
    assert done.returncode == 4, done.stderr
    lines = ["hello", "script", "character special file 1:3 666", "block special file 7:c8 644"]
    assert [line for line in done.stdout.splitlines() if line in lines] == lines, done.stdout
    assert os.listdir(root.folder / "mnt") == []


def test_without_its_bundle_it_loads_nothing_that_is_not_its_own(root: Root) -> None:
    """So another image of ocelot starts on a machine, whose bundle goes after the boot: a library of the new root would be another libc's."""
    bundle = Path(f"{root.folder}{PREFIX}/lib/start.bundle")
    foreign = Path(f"{root.folder}{LIBPTHREAD}")
    foreign.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(LIBPTHREAD, foreign)
    (root.folder / "etc/maps.yaml").write_text(
        'version: "1.0"\nprocesses: {maps: {program: busybox, arguments: [cat, /proc/1/maps]}}\n'
    )
    bundle.rename(bundle.with_suffix(".away"))
    try:
        done = root.run("ocelot", "supervise", "/etc/maps.yaml")
    finally:
        bundle.with_suffix(".away").rename(bundle)
        foreign.unlink()
    files = {line.split()[5] for line in done.stdout.splitlines() if len(line.split()) > 5}
    mapped = {file for file in files if file.startswith("/") and not file.startswith(("/memfd:", "/dev/"))}
    assert not list(bundle.parent.glob("python*/ocelot/deferred.*"))  # which asks for libpthread by its name
    assert f"{PREFIX}/lib/libc.so.6" in mapped, done.stdout + done.stderr
    assert not {file for file in mapped if not file.startswith(PREFIX)}


@pytest.mark.parametrize(
    ("level", "begins"),
    [("error", set()), ("warn", {"warn"}), ("info", {"warn", "info"}), ("debug", {"warn", "info", "debug"})],
)
def test_the_log_level_holds_once_the_file_is_read(root: Root, level: str, begins: set[str]) -> None:
    (root.folder / "etc/boot.yaml").write_text(f"logLevel: {level}\n{BOOT}")
    done = root.run("ocelot", "bootstrap", "run", "-f", "/etc/boot.yaml", before=CONTAINER)
    signs = {"ocelot: warn: last: exited with status 4": "warn", "going down: ": "info", "last: to be started": "debug"}
    assert {level for sign, level in signs.items() if sign in done.stderr} == begins, done.stderr


@pytest.mark.parametrize(
    ("file", "before", "says"),
    [
        (BOOT, ":", "does not look like a container"),
        (SWITCH + BOOT, CONTAINER, "for a container, remove switchRoot"),
        (BOOT, 'mount -t tmpfs t "$r/run"; touch "$r/run/.containerenv"', '"/" is not a mount point'),
    ],
    ids=["namespace", "switch", "chroot"],
)
def test_a_boot_in_the_wrong_place_changes_nothing(root: Root, file: str, before: str, says: str) -> None:
    (root.folder / "etc/boot.yaml").write_text(file)
    (root.folder / "tmp/hook").unlink(missing_ok=True)
    done = root.run("ocelot", "bootstrap", "run", "-f", "/etc/boot.yaml", before=before)
    assert done.returncode == 1
    assert says in done.stderr
    assert "hint: " in done.stderr
    assert not (root.folder / "tmp/hook").exists()


def test_a_plan_is_shown_step_by_step_and_not_carried_out(root: Root) -> None:
    (root.folder / "etc/boot.yaml").write_text(SWITCH + BOOT)
    done = root.run("ocelot", "bootstrap", "plan", "/etc/boot.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    steps = [line.strip() for line in done.stdout.splitlines()]
    for begin in (
        "mount proc on /proc", 'mount "tmpfs" on /mnt', 'mount "rootfs" on /sysroot', "move /proc, /sys, /dev, /run, /tmp into /sysroot",
        "make character device /mnt/null, 1:3", "make block device /run/disk", "run sh -c", "run sh -c", "supervise last",
    ):  # fmt: skip
        at = next((number for number, step in enumerate(steps) if step.startswith(f"- {begin}")), None)
        assert at is not None, f"{begin}\n{done.stdout}"
        steps = steps[at + 1 :]
    assert not (root.folder / "tmp/hook").exists()


@pytest.fixture(scope="module")
def running(root: Root) -> Iterator[Root]:
    log = root.folder / "tmp/log"
    with log.open("wb") as output:
        root.process = subprocess.Popen(
            root.enter(f"{PREFIX}/bin/ocelot", "supervise", "/etc/supervise.yaml"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (root.folder / "run/ocelot/control.sock").exists():
            assert root.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield root
        assert "Traceback" not in log.read_text()
    finally:
        root.process.kill()
        root.process.wait()


def test_the_file_is_valid_but_for_the_time_zone(root: Root) -> None:
    done = root.run("ocelot", "supervise", "validate", "--output", "json", "/etc/supervise.yaml")
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == (0, True), found
    assert [each["path"] for each in found["warnings"]] == ["processes.elsewhere.schedule.timezone"]


@pytest.mark.parametrize("command", ["initramfs --help", "runtime build /x", "convert /etc/passwd", "man ocelot.1"])
def test_what_a_runtime_lacks_is_refused_in_a_line(root: Root, command: str) -> None:
    done = root.run("ocelot", *command.split())
    assert done.returncode == 1
    assert done.stderr.endswith("that is not part of this runtime\n  hint: use ocelot on a desk\n")
    assert len(done.stderr.splitlines()) == 2


def test_everybody_becomes_what_it_should(running: Root) -> None:
    running.until(lambda found: all(name in found and found[name]["ready"] for name in UP))
    found = running.until(lambda found: found["again"]["state"] == "fatal" and found["asked"]["state"] == "starting")
    assert "Connection refused" in found["asked"]["reason"]
    assert "2 restarts" in found["again"]["reason"]
    assert "02:30:00 UTC" in found["nightly"]["reason"]
    assert 'this machine has no time zone "Europe/Berlin"' in found["elsewhere"]["reason"]
    assert (running.folder / "tmp/prepared").stat().st_mode & 0o777 == 0o600
    assert running.logs("web") == "web 0 hello\nweb 1 hello\n" or running.logs("web") == "web 1 hello\nweb 0 hello\n"
    assert running.logs("held") == "1 door\n"
    socket = (running.folder / "run/ocelot/control.sock").stat()
    assert (socket.st_mode & 0o777, socket.st_gid) == (0o660, 1000)


def test_a_schedule_runs_it(running: Root) -> None:
    deadline = time.monotonic() + PATIENCE
    while running.logs("often").count("tick") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_log_files_are_rotated_and_compressed(running: Root) -> None:
    import lz4.frame

    folder, deadline = running.folder / "var/log", time.monotonic() + PATIENCE
    while not (list(folder.glob("gzipped.*.gz")) and list(folder.glob("lz4.*.lz4"))):
        assert time.monotonic() < deadline, os.listdir(folder)
        time.sleep(0.05)
    running.ctl("stop", "gzipped", "lz4")
    for path in folder.glob("gzipped.*.gz"):
        assert set(gzip.decompress(path.read_bytes()).splitlines()) == {b"0123456789" * 4}
    for path in folder.glob("lz4.*.lz4"):
        first = lz4.frame.decompress(path.read_bytes()).splitlines()[0]
        assert json.loads(first)["message"] == "0123456789" * 4


def test_every_command_of_ocelotctl_works_there(running: Root) -> None:
    for command in (
        "status", "status db --json", "logs -n 1 often", "events", "graph", "graph --svg /tmp/g.svg", "boot",
        "boot --svg /tmp/b.svg", "top", "metrics", "version", "reload --dry-run", "rotate gzipped", "signal CONT db",
        "restart told", "wait told --for ready --timeout 30s", "scale web 1", "exec http -- true", "help wait",
    ):  # fmt: skip
        done = running.ctl(*command.split())
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), f"{command}: {done.stderr}"
    assert running.ctl("health").returncode == 1, "somebody is fatal"


def test_a_process_has_a_terminal_that_one_can_type_into(running: Root) -> None:
    done = running.ctl("attach", "shell", typed="echo $USER $TERM on $(tty); jobs; exit 5\n")
    assert done.returncode == 5, done.stderr
    assert "\nweb xterm on /dev/pts/" in done.stdout
    assert "job control" not in done.stdout


def test_metrics_are_served(running: Root) -> None:
    done = running.ctl("exec", "http", "--", "wget", "-q", "-O", "-", "http://127.0.0.1:9464/metrics")
    assert 'ocelot_process_up{process="http"} 1.0' in done.stdout, done.stderr
    assert 'ocelot_probe_success{probe="readiness",process="asked"} 0.0' in done.stdout


def test_a_changed_file_and_another_image_are_taken(running: Root) -> None:
    file = running.folder / "etc/supervise.yaml"
    file.write_text(file.read_text().replace("echo >&5; exec sleep 1000", "echo >&5; exec sleep 2000"))
    http = running.processes()["http"]["pid"]
    done = running.ctl("reload")
    assert (done.returncode, "restarted: db" in done.stdout) == (0, True), done.stdout + done.stderr
    done = running.ctl("reexec")
    assert (done.returncode, "goes on with" in done.stdout) == (0, True), done.stdout + done.stderr
    found = running.until(lambda found: all(found[name]["ready"] for name in UP))
    assert found["http"]["pid"] == http


def test_it_goes_down_in_order_when_it_is_asked_to(running: Root) -> None:
    assert running.process is not None
    os.kill(int(running.pid), 15)
    assert running.process.wait(PATIENCE) == 0
    log = (running.folder / "tmp/log").read_text()
    assert "stopped with 143" in log
    assert log.rindex("web[0]: stopped (shutdown)") < log.rindex("db: stopped (shutdown)")
