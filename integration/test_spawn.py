"""What a child finds when it starts, on both paths, and what is said when it cannot."""

import errno
import glob
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from integration.scenarios import in_namespace
from integration.signal_masks import mask
from ocelot.errors import SpawnError
from ocelot.linux.inherited import Inherited, keep_descriptors
from supervisor.children.spawn import ChildFailed, SpawnSpec, await_report, spawn

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

REPORT = """
import json, os, resource, signal, sys
print(json.dumps({
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1],
    "stdin": os.readlink("/proc/self/fd/0"),
    "sid": os.getsid(0) == os.getpid(),
    "pgid": os.getpgid(0) == os.getpid(),
    "cwd": os.getcwd(),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "environment": dict(os.environ),
    "status": {k: v.strip() for k, v in (line.split(":", 1) for line in open("/proc/self/status")) if k.startswith("Sig")},
}))
"""


def run(argv, *, environment=None, **kwargs):
    """Spawn, wait, and return the status and what was written."""
    reader, writer = os.pipe()
    try:
        pid = spawn(
            SpawnSpec(
                argv=tuple(argv),
                environment={"PATH": "/bin:/usr/bin"} if environment is None else environment,
                stdout=writer,
                stderr=writer,
                **kwargs,
            )
        )
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as file:
        output = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def report(**kwargs):
    status, text = run([sys.executable, "-S", "-c", REPORT], **kwargs)
    assert status == 0, text
    return json.loads(text)


@pytest.fixture(params=["vfork", "fork"])
def path(request):
    """What makes spawn take the plain path, or the other one."""
    if request.param == "vfork":
        return {}
    return {"aside": True, "limits": {resource.RLIMIT_CORE: resource.getrlimit(resource.RLIMIT_CORE)}}


def test_a_child_gets_a_session_an_empty_input_and_nothing_else_of_ours(path):
    keep_open = os.open("/", os.O_RDONLY)
    os.set_inheritable(keep_open, True)
    keep_descriptors()
    found = report(**path, working_directory="/usr")
    os.close(keep_open)
    assert found["fds"] == [0, 1, 2]
    assert (found["stdin"], found["sid"], found["pgid"], found["cwd"]) == ("/dev/null", True, True, "/usr")
    assert found["environment"]["PATH"] == "/bin:/usr/bin"


def test_a_group_without_a_session(path):
    found = report(**path, session=False, group=True)
    assert (found["sid"], found["pgid"]) == (False, True)


def test_signals_are_as_they_were_given_to_us(path):
    """The child is a shell: an interpreter would ignore SIGPIPE again by itself."""
    status, text = run(["grep", "^Sig[BIC]", "/proc/self/status"], **path)
    assert status == 0
    values = {line.split(":")[0]: mask(line.split()[1]) for line in text.splitlines()}
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # ours
    assert (values["SigIgn"], values["SigBlk"]) == (0, 0)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_child_gets_the_original_limit_and_ours_stays(isolated):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = {resource.RLIMIT_NOFILE: (77, before[1])}
    assert report(limits=limits, aside=isolated)["nofile"] == [77, before[1]]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_python_variables_of_ours_do_not_reach_a_child(monkeypatch):
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    environment = Inherited.capture().child_environment()
    assert not [name for name in environment if name.startswith("PYTHON")]
    assert environment["PATH"].endswith(":/run/ocelot/bin")


def test_python_variables_that_our_interpreter_does_not_heed_are_for_the_children():
    script = (
        f"import sys; sys.path.insert(0, {HERE!r}); from ocelot.linux.inherited import Inherited; "
        "print(Inherited.capture().child_environment()['PYTHONUNBUFFERED'])"
    )
    given = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "yes"}
    done = subprocess.run([sys.executable, "-ISB", "-c", script], env=given, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("yes\n", "")


def free_numbers(count):
    """The numbers that the next descriptors here will get."""
    opened = [os.open("/", os.O_RDONLY) for _ in range(count)]
    for fd in opened:
        os.close(fd)
    return opened


@pytest.mark.parametrize("aside", [False, True])
def test_descriptors_get_the_numbers_that_were_asked_for(tmp_path, aside):
    """Those that they have crosswise, and those that copies of them, the report and the streams would get here."""
    files = []
    for name in "abcdefgh":
        (tmp_path / name).write_text(name)
        files.append(os.open(tmp_path / name, os.O_RDONLY))
    try:
        numbers = [files[1], files[0], *reversed(free_numbers(6))]
        wanted = dict(zip(numbers, files, strict=True))
        script = 'for fd in "$@"; do cat /dev/fd/$fd; done; ls /proc/self/fd | wc -l'
        status, text = run(["sh", "-c", script, "sh", *map(str, wanted)], descriptors=wanted, aside=aside)
        assert (status, text.split()) == (0, [f"abcdefgh{3 + len(wanted) + 1}"])
    finally:
        for fd in files:
            os.close(fd)


def test_a_child_that_is_handed_sockets_knows_that_it_is_meant():
    script = 'echo $LISTEN_PID $$ "$(readlink /proc/$$/fd/3)"'
    with open("/dev/zero", "rb") as zero:
        status, text = run(["sh", "-c", script], descriptors={3: zero.fileno()}, listen_pid=True)
    listen_pid, pid, target = text.split()
    assert (status, listen_pid, target) == (0, pid, "/dev/zero")


def test_a_refusal_while_descriptors_are_handed_over_says_why(tmp_path):
    (tmp_path / "file").write_text("no first line")
    with open("/dev/zero", "rb") as zero:
        more = {"descriptors": dict.fromkeys((3, *free_numbers(20)), zero.fileno())}
        assert refused(["/nowhere"], **more).errno == errno.ENOENT
        path = {"PATH": f"{tmp_path}:/nowhere"}
        assert refused(["file"], environment=path, **more).errno == errno.EACCES


def test_bare_names_are_looked_up_on_the_childs_path(tmp_path):
    for folder, code in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prog").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / folder / "prog").chmod(0o755)
    path = f"{tmp_path}/none:{tmp_path}/b:{tmp_path}/a"
    assert run(["prog"], environment={"PATH": path})[0] == 4
    (tmp_path / "b" / "prog").chmod(0o644)
    assert run(["prog"], environment={"PATH": path})[0] == 3
    assert run(["./prog"], environment={"PATH": "/nowhere"}, working_directory=str(tmp_path / "a"))[0] == 3


def refused(argv, **kwargs):
    with pytest.raises(SpawnError) as caught:
        run(argv, **kwargs)
    if isinstance(caught.value, ChildFailed):
        os.waitpid(caught.value.pid, 0)
    return caught.value


def test_refusals_say_why(path, tmp_path):
    assert refused(["/nowhere"], **path).errno == errno.ENOENT
    assert "not found on its PATH" in str(refused(["nowhere"], **path))
    assert refused(["/bin/true"], working_directory="/nowhere", **path).step == "chdir"
    file = tmp_path / "file"
    file.write_text("echo no first line\n")
    assert "is not executable" in str(refused([str(file)], **path))
    file.chmod(0o755)
    assert refused([str(file)], **path).errno == errno.ENOEXEC
    assert "remove the NUL byte" in str(refused(["/bin/true", "a\0b"], **path))


def test_after_vfork_nobody_waits_for_the_end_of_the_report():
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ready, began = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.alarm(30)  # should nobody end it
        os.write(began, b"x")
        signal.pause()
    os.close(writer)
    os.read(ready, 1)
    try:
        assert await_report(pid, reader, suspended=True) == b""
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # its end of the pipe is still open
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (reader, ready, began):
            os.close(fd)


def test_a_vfork_that_is_a_mere_fork_is_waited_for():
    """As under an emulator: it comes back when the child has not begun."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os.read(wait, 1)
        os.write(writer, b"OSError:2:")
        os._exit(255)
    os.close(writer)
    before = signal.signal(signal.SIGALRM, lambda *_: os.write(go, b"x"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert await_report(pid, reader, suspended=True) == b"OSError:2:"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (reader, wait, go):
            os.close(fd)


def test_a_child_that_is_stopped_before_it_became_the_program_is_not_waited_for():
    """As whoever runs as its user may do, from the change of user on."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(255)
    os.close(writer)
    guard = threading.Timer(30, os.kill, (pid, signal.SIGKILL))  # should we wait after all
    guard.start()
    try:
        with pytest.raises(ChildFailed, match="it was stopped before it became the program") as caught:
            await_report(pid, reader, suspended=False)
        assert caught.value.pid == pid
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    finally:
        guard.cancel()
        os.close(reader)


def test_a_child_in_a_frozen_cgroup_is_not_waited_for(tmp_path):
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)  # should we wait after all
            signal.pause()
        finally:
            os._exit(255)
    os.close(writer)
    freezer = threading.Timer(0.1, (tmp_path / "cgroup.events").write_text, ("populated 1\nfrozen 1\n",))
    freezer.start()
    try:
        with pytest.raises(ChildFailed, match="its cgroup is frozen"):
            await_report(pid, reader, suspended=False, cgroup=str(tmp_path))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    finally:
        freezer.join()
        os.close(reader)


def test_a_child_that_waits_for_its_program_is_not_waited_for_without_end():
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # should we wait after all
        signal.pause()
    os.close(writer)
    try:
        with pytest.raises(ChildFailed, match=r"it did not become the program within 0\.1s"):
            await_report(pid, reader, suspended=False, longest=0.1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    finally:
        os.close(reader)


@pytest.mark.root
def test_a_step_that_fails_in_the_child_is_named():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    error = refused(["/bin/true"], aside=True, limits={resource.RLIMIT_NOFILE: (hard, 1 << 40)})
    assert (error.step, error.errno) == ("setrlimit", errno.EPERM)


@pytest.mark.root
def test_a_noexec_mount_is_named():
    script = (
        "mount -t tmpfs -o noexec tmpfs /mnt && cp /bin/true /mnt/prog && exec "
        f"{sys.executable} -c 'from supervisor.children.spawn import *; spawn(SpawnSpec(argv=(\"/mnt/prog\",), environment={{}}))'"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=30, cwd=HERE)
    assert "is on a file system that is mounted noexec (remove noExec from its mount)" in done.stderr


@pytest.mark.root
def test_failed_starts_leave_nothing_behind():
    result = in_namespace("failures")
    assert [message[:2] for message in result["messages"]] == [
        ["exec", errno.ENOENT],
        ["exec", errno.EACCES],
        ["chdir", errno.ENOENT],
        ["open /dev/nowhere", errno.ENOENT],
        ["controlling terminal", errno.ENOTTY],
        ["exec", errno.E2BIG],
    ]
    assert (result["descriptors"], result["zombies"], result["orphans"]) == (0, 0, 0)


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no FUSE here")
def test_a_server_that_never_answers_holds_up_one_program_only():
    result = in_namespace("silent_server")
    assert (result["hanging"], result["stopped"]) == ("starting", "stopped")
    assert result["took"] < 2
    assert 0.5 <= result["waited"] < 3
    assert "its file system did not answer within 0.5s" in result["message"]
    assert result["lag"] < 1
    assert (result["spawning"], result["living"], result["zombies"], result["parked"]) == (0, 1, 0, 0)


def interpreters():
    """The other Pythons of this machine, by version."""
    found = {}
    for minor in (11, 12, 13, 14):
        name = f"python3.{minor}"
        root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
        candidates = [*sorted(glob.glob(f"{root}/versions/3.{minor}.*/bin/{name}")), shutil.which(name)]
        found[f"3.{minor}"] = next((c for c in candidates if c and "shims" not in c), None)
    return found


@pytest.mark.parametrize(("version", "python"), list(interpreters().items()))
def test_both_paths_work_with_every_supported_python(version, python):
    if python is None:
        pytest.skip(f"no Python {version} here")
    script = """
import os, resource, threading, time
from supervisor.children.privileges import Credentials, Privileges
from supervisor.children.spawn import *
threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
kinds = [{}, {"aside": True, "limits": {resource.RLIMIT_NOFILE: (50, 60)}}]
if os.geteuid() == 0:
    kinds.append({"privileges": Privileges(credentials=Credentials(65534, 65534, (65534,)))})
    kinds.append({"privileges": Privileges(credentials=Credentials(65534, 65534, (65534,)), nice=1)})
for more in kinds:
    pid = spawn(SpawnSpec(argv=("sh", "-c", "exit $(ulimit -n | cut -c1-2)"), environment={"PATH": "/bin"}, **more))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    try:
        spawn(SpawnSpec(argv=("true",), environment={"PATH": "/bin"}, working_directory="/nowhere", **more))
    except ChildFailed as error:
        os.waitpid(error.pid, 0)
        print(error.step, error.errno)
os._exit(0)
"""
    done = subprocess.run(
        [python, "-u", "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, cwd=HERE
    )
    said = done.stdout.splitlines()
    assert said[1:4] == ["chdir 2", "50", "chdir 2"], done.stderr
    if os.geteuid() == 0:
        assert (said[5::2], len(said)) == (["chdir 2", "chdir 2"], 8)
