"""``ocelot entry`` as tini, ``ocelot idle`` as a pause container, and the makers and finders of zombies."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from contextlib import contextmanager

import pytest

from integration.signal_masks import mask

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OCELOT = [sys.executable, "-m", "ocelot"]
NAMESPACE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]


def run(*arguments, namespace=False, **kwargs):
    command = [*(NAMESPACE if namespace else []), *OCELOT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=HERE, **kwargs)


@pytest.mark.parametrize("code", [0, 1, 2, 77, 127, 128, 255])
def test_the_exit_status_is_the_programs(code):
    assert run("entry", "--", "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("given", [{}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "C", "A": "b"}])
def test_the_environment_is_the_one_that_was_given(given):
    """Python adds a locale of its own where there is none: the program must not find that."""
    done = run("entry", "--", "/usr/bin/env", env=given)
    assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == given


@pytest.mark.parametrize("number", [1, 2, 6, 9, 11, 15, 34, 64])
def test_a_signal_gives_128_and_its_number(number):
    assert run("entry", "--", "perl", "-e", f"kill {number}, $$; sleep 9").returncode == 128 + number


def test_what_cannot_be_run_is_said_and_numbered_as_a_shell_does():
    missing = run("entry", "--", "nowhere")
    assert missing.returncode == 127
    assert 'cannot start "nowhere": not found on its PATH' in missing.stderr
    assert run("entry", "--", "/etc/passwd").returncode == 126


@contextmanager
def started(*arguments, **kwargs):
    """A program under entry that has said a line: its signal handlers are in place."""
    process = subprocess.Popen(
        [*OCELOT, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=HERE, **kwargs
    )
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


LISTEN = (
    '$| = 1; for $s (@ARGV) { $SIG{$s} = sub { print "$_[0]\\n" } }'
    ' $SIG{TERM} = sub { print "bye\\n"; exit 3 }; print "ready\\n"; sleep 1 while 1'
)
NAMES = ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "CONT", "IO", "PWR", "TSTP", "URG", "VTALRM", "PROF"]


def test_signals_are_forwarded():
    with started("entry", "--", "perl", "-e", LISTEN, *NAMES, "NUM35", "RTMAX") as process:
        for name in NAMES:
            process.send_signal(getattr(signal, f"SIG{name}"))
            assert process.stdout.readline() == f"{name}\n"
        for number, name in ((35, "NUM35"), (64, "RTMAX")):
            process.send_signal(number)
            assert process.stdout.readline() == f"{name}\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "bye\n"
        assert process.wait(10) == 3


GROUP = (
    "$| = 1; pipe(R, W); if (!fork) { $SIG{TERM} = sub { print \"worker\\n\"; exit 0 }; syswrite W, 'x'; sleep 1 while 1 }"
    ' sysread R, $x, 1; $SIG{TERM} = sub { print "leader\\n"; select undef, undef, undef, 0.5; exit 0 };'
    ' print "ready\\n"; sleep 1 while 1'
)


@pytest.mark.root
@pytest.mark.parametrize(("options", "said"), [([], {"leader"}), (["-g"], {"leader", "worker"})])
def test_the_group_option_reaches_the_whole_group(options, said):
    process = subprocess.Popen(
        [*NAMESPACE, *OCELOT, "entry", *options, "--", "perl", "-e", GROUP],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )
    assert process.stdout.readline() == "ready\n"
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        os.kill(int(file.read()), signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert set(out.split()) == said
    assert process.returncode == 0


@pytest.mark.root
def test_what_tini_takes_is_taken():
    """Its options and its environment, so that an image's ENTRYPOINT need not change."""
    assert run("entry", "-gsvv", "-p", "TERM", "-e", "143", "--", "sh", "-c", "kill $$").returncode == 0
    told = run("entry", "-v", "--", "true").stderr.splitlines()
    assert [line.rpartition(" pid ")[0] or line for line in told] == [
        "ocelot: started true with",
        "ocelot: true exited with status 0",
    ]
    for options in (["-e", "256"], ["-e", "-1"], ["-p", "SIGNOTHING"]):
        done = run("entry", *options, "--", "true")
        assert (done.returncode, bool(done.stderr)) == (2, True), options


def test_orphans_that_were_reaped_are_told_if_asked():
    orphans = (
        "import os\nfor _ in range(3):\n  if not os.fork():\n    os.fork() or os._exit(0); os._exit(0)\n  os.wait()\n"
    )
    wait = "import time; time.sleep(0.3)"
    done = run("entry", "-w", "--", sys.executable, "-c", orphans + wait)
    assert (done.returncode, done.stderr) == (
        0,
        f"ocelot: warn: reaped 3 processes that {sys.executable} has left behind\n",
    )
    assert run("entry", "-w", "--", "true").stderr == ""


def test_the_signal_for_the_death_of_the_parent_ends_it():
    starter = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); input()"
    program = [*OCELOT, "entry", "-p", "TERM", "--", "sh", "-c", "echo up; exec sleep 1000"]
    command = [sys.executable, "-c", starter, *program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE) as process:
        assert process.stdout.readline() == "up\n"
        process.kill()
        assert process.stdout.read() == "", "and nobody holds its output any more"


def test_orphans_are_reaped_as_pid_1_and_as_a_subreaper():
    script = "(sleep 0.1 &) ; (true &) ; sleep 0.5; ps -o stat= --ppid $PPID | grep -c Z; echo $PPID"
    for namespace in (True, False):
        done = run("entry", "--", "sh", "-c", script, namespace=namespace)
        assert done.stdout.split()[0] == "0", done.stderr
    assert run("entry", "--", "sh", "-c", script, namespace=True).stdout.split()[1] == "1"


def test_on_a_terminal_the_program_is_in_the_foreground_and_ctrl_c_reaches_it():
    master, slave = os.openpty()

    def take():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    script = "trap 'echo interrupted; exit 9' INT; [ $(ps -o tpgid= -p $$) = $$ ] && echo foreground; read x"
    process = subprocess.Popen(
        [*OCELOT, "entry", "--", "sh", "-c", script], stdin=slave, stdout=slave, stderr=slave, preexec_fn=take, cwd=HERE
    )
    os.close(slave)
    said = b""
    while b"foreground" not in said:
        said += os.read(master, 1000)
    os.write(master, b"\x03")
    while b"interrupted" not in said:
        said += os.read(master, 1000)
    assert process.wait(10) == 9
    os.close(master)


def test_an_ignored_signal_stays_ignored():
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with started("entry", "--", "sh", "-c", "echo ready; exec sleep 1000", **ignore) as process:
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            child = file.read().strip()
        with open(f"/proc/{child}/status") as file:
            ignored = mask(next(line for line in file if line.startswith("SigIgn")).split()[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + 15
        assert ignored == 1 << (signal.SIGHUP - 1)


@pytest.mark.root
def test_idle_reaps_and_ends_well():
    script = "(sleep 0.1 & exec >/dev/null) ; exec $0 -m ocelot idle"
    process = subprocess.Popen([*NAMESPACE, "sh", "-c", script, sys.executable], cwd=HERE)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    while True:
        with open(children) as file:
            init = file.read().strip()
        if init:
            with open(f"/proc/{init}/cmdline", "rb") as file, open(f"/proc/{init}/status") as status:
                caught = int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)
                if b"idle" in file.read() and caught & (1 << 14):
                    break
    while True:  # the orphan that it found
        with open(f"/proc/{init}/task/{init}/children") as file:
            if not file.read():
                break
    os.kill(int(init), signal.SIGTERM)
    assert process.wait(20) == 0


def test_zombies_are_made_and_found():
    maker = subprocess.Popen([*OCELOT, "zombie", "-n", "3"], stdout=subprocess.PIPE, text=True, cwd=HERE)
    assert maker.stdout.readline().startswith("made 3 zombies")
    found = run("zombie-finder", "--json")
    mine = [zombie for zombie in json.loads(found.stdout) if zombie["parent"] == maker.pid]
    assert len(mine) == 3
    assert str(maker.pid) in run("zombie-finder").stdout
    maker.terminate()
    maker.communicate()
    assert maker.returncode == 0
    left = json.loads(run("zombie-finder", "--json").stdout)
    assert not [zombie for zombie in left if zombie["parent"] == maker.pid]


@pytest.mark.root
def test_a_maker_of_zombies_that_is_pid_1_ends_too():
    command = [*NAMESPACE, *OCELOT, "zombie"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE) as outer:
        assert outer.stdout.readline().startswith("made 1 zombies; their parent is 1")
        with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as file:
            os.kill(int(file.read()), signal.SIGTERM)
        try:
            assert outer.wait(20) == 0
        finally:
            outer.kill()


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_no_zombies_cannot_be_made(count):
    assert run("zombie", "-n", count).returncode == 2


def test_entry_and_idle_are_light():
    code = "import sys, ocelot.entry, ocelot.idle; print(*{'yaml', 'h11', 'prometheus_client', 'psutil'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE).stdout == "\n"
