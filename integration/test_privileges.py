"""Who a child is and what it may do, read from /proc of the running child, and what is said when that cannot be."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
import pytest

from integration.desk import PATIENCE, SLEEPER, desk
from ocelot.config import structs
from ocelot.config.loading import load
from ocelot.errors import SpawnError
from ocelot.linux import accounts, capabilities
from ocelot.linux.inherited import Inherited
from supervisor.children.spawn import ChildFailed, spawn
from supervisor.process import launch

pytestmark = pytest.mark.root

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIND = 1 << capabilities.NAMES.index("CAP_NET_BIND_SERVICE")
PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")  # ours may be where only root can read it
OTHER_PATH = {"nice": "3"}
"""A key that makes the child take the path with Python in it."""


@dataclass
class Streams:
    stdout: int = -1
    stderr: int = -1


def process(**keys):
    """A process entry as the loader makes it, from its keys in YAML's flow style."""
    entry = "\n".join(f"    {key}: {value}" for key, value in keys.items())
    text = f"processes:\n  p:\n    program: /bin/sleep\n    arguments: [100]\n{entry}\n"
    loaded = load(text.encode(), "f", "supervise")
    assert loaded.config is not None, loaded.errors
    assert isinstance(loaded.config, structs.SuperviseFile)
    return loaded.config.processes["p"]


def specification(config, **more):
    inherited = Inherited({}, {"PATH": "/usr/bin:/bin", "HOME": "/root", "USER": "root"})
    environment = launch.environment(config, inherited, {"LOGNAME": "phase"}, {})
    return launch.specification(config, environment, Streams(), inherited, **more)


@contextmanager
def running(aside=False, **keys):
    """The folder below /proc of a child with these keys, while it runs."""
    pid = spawn(replace(specification(process(**keys)), aside=aside))
    try:
        yield f"/proc/{pid}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def status(folder):
    with open(f"{folder}/status") as file:
        return {key: value.split() for key, value in (line.split(":", 1) for line in file)}


def sets(folder):
    return {key: int(value[0], 16) for key, value in status(folder).items() if key.startswith("Cap")}


def environment(folder):
    with open(f"{folder}/environ") as file:
        return dict(line.split("=", 1) for line in file.read().split("\0") if line)


def output(argv, **keys):
    """Exit status and output of a program that is run to its end with these keys."""
    reader, writer = os.pipe()
    config = process(**keys)
    inherited = Inherited({}, {"PATH": "/usr/bin:/bin"})
    variables = launch.environment(config, inherited, {}, {})
    try:
        pid = spawn(launch.specification(config, variables, Streams(writer, writer), inherited, argv=argv))
    finally:
        os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def refused(**keys):
    with pytest.raises(SpawnError) as caught:
        spawn(specification(process(**keys)))
    if isinstance(caught.value, ChildFailed):
        os.waitpid(caught.value.pid, 0)
    return caught.value


@pytest.mark.parametrize("more", [{}, OTHER_PATH, {"aside": True}])
def test_a_user_comes_with_its_groups_its_environment_and_no_capability(more):
    known = accounts.read()
    user = known.users["www-data"]
    with running(user="www-data", **more) as child:
        found = status(child)
        assert found["Uid"] == [str(user.uid)] * 4
        assert found["Gid"] == [str(user.gid)] * 4
        assert [int(each) for each in found["Groups"]] == sorted({user.gid, *known.supplementary("www-data")})
        held = sets(child)
        assert (held["CapEff"], held["CapPrm"], held["CapAmb"]) == (0, 0, 0)
        variables = environment(child)
        shown = {key: variables[key] for key in ("HOME", "USER", "LOGNAME", "SHELL")}
        assert shown == {"HOME": user.home, "USER": "www-data", "LOGNAME": "www-data", "SHELL": user.shell}


@pytest.mark.parametrize("more", [{}, OTHER_PATH])
def test_a_user_cannot_become_root_again(more):
    tries = ("--reuid 0", "--regid 0 --keep-groups", "--groups 0", "--inh-caps=+chown")
    script = "; ".join(f"setpriv {words} true 2>/dev/null && echo {words}" for words in tries)
    assert output(["/bin/sh", "-c", f"{script}; echo tried"], user="nobody", **more) == (0, "tried\n")
    _, text = output(["/bin/sh", "-c", f"{script}; echo tried"], **more)
    assert len(text.splitlines()) > 3, "root itself can do none of it: this shows nothing"


@pytest.mark.parametrize("more", [{}, OTHER_PATH])
def test_groups_are_those_that_were_named(more):
    gid = accounts.read().groups["www-data"].gid
    keys = {"user": "nobody", "group": "www-data", "supplementaryGroups": "[adm, 4242]", "umask": "0027", **more}
    with running(**keys) as child:
        found = status(child)
        assert found["Gid"] == [str(gid)] * 4
        assert {int(each) for each in found["Groups"]} == {gid, accounts.read().groups["adm"].gid, 4242}
        assert found["Umask"] == ["0027"]
    with running(group="4242", **more) as child:
        found = status(child)
        assert (found["Uid"], found["Gid"], found["Groups"]) == (["0"] * 4, ["4242"] * 4, ["4242"])


def test_its_own_variables_win_over_those_of_its_user():
    with running(user="nobody", environment="{HOME: /srv}") as child:
        variables = environment(child)
        assert (variables["HOME"], variables["USER"]) == ("/srv", "nobody")


def test_a_number_without_an_entry_needs_a_group():
    error = refused(user="54321")
    assert str(error) == (
        'cannot start "/bin/sleep": the user "54321" has no entry in /etc/passwd that would name its group (set group)'
    )
    with running(user="54321", group="54321") as child:
        found = status(child)
        assert (found["Uid"][0], found["Gid"][0], found["Groups"]) == ("54321", "54321", ["54321"])
        assert environment(child)["HOME"] == "/"


def test_a_name_that_does_not_exist_is_a_failed_start():
    assert 'cannot find the user "nobdy"' in str(refused(user="nobdy"))
    assert 'cannot find the group "wheeel"' in str(refused(supplementaryGroups="[wheeel]"))


LINES = {
    "as": "Max address space", "core": "Max core file size", "cpu": "Max cpu time", "data": "Max data size",
    "fsize": "Max file size", "memlock": "Max locked memory", "msgqueue": "Max msgqueue size", "nice": "Max nice priority",
    "nofile": "Max open files", "nproc": "Max processes", "rss": "Max resident set", "rtprio": "Max realtime priority",
    "rttime": "Max realtime timeout", "sigpending": "Max pending signals", "stack": "Max stack size",
}  # fmt: skip
"""What proc_pid_limits(5) calls them."""


def test_every_limit_is_the_one_of_its_name():
    values = {name: 500 + number for number, name in enumerate(LINES)}
    values |= {name: 1_000_000_000 + number for number, name in enumerate(("as", "data", "stack", "rttime"))}
    values |= dict.fromkeys(("nice", "rtprio"), 0)  # only the privileged may raise what is 0
    keys = "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
    with running(limits=keys) as child, open(f"{child}/limits") as file:
        shown = file.read().splitlines()
    assert sorted(LINES) == sorted(field.encode_name for field in msgspec.structs.fields(structs.Limits))
    for name, title in LINES.items():
        line = next(line for line in shown if line.startswith(f"{title} "))
        assert line.removeprefix(title).split()[:2] == [str(values[name])] * 2, line


def test_limits_are_set_by_name():
    keys = "{nofile: 4096, core: {soft: 0, hard: unlimited}, memlock: 64KiB, nproc: 99}"
    with running(user="nobody", limits=keys) as child:
        with open(f"{child}/limits") as file:
            found = {line[:26].strip(): line[26:].split()[:2] for line in file}
        assert found["Max open files"] == ["4096", "4096"]
        assert found["Max core file size"] == ["0", "unlimited"]
        assert found["Max locked memory"] == ["65536", "65536"]
        assert found["Max processes"] == ["99", "99"]


def test_a_user_that_has_all_the_processes_it_may_have_is_told_apart():
    with running(user="54321", group="54321"), running(user="54321", group="54321"):
        error = refused(user="54321", group="54321", limits="{nproc: 1}")
        assert (
            str(error)
            == 'cannot start "/bin/sleep": its user has as many processes as it may have (raise limits.nproc)'
        )
    with running(user="54321", group="54321", limits="{nproc: 1}"):
        pass


def test_a_limit_that_would_choke_our_own_interpreter_is_for_the_program_only():
    with running(limits="{as: 16MiB, data: 4MiB}", user="nobody") as child:
        assert status(child)["Name"] == ["sleep"]


def test_priorities():
    with running(nice="7", ioprio="{class: best-effort, level: 2}", oomScoreAdjust="321") as child:
        pid = os.path.basename(child)
        assert os.getpriority(os.PRIO_PROCESS, int(pid)) == 7
        with open(f"{child}/oom_score_adj") as file:
            assert file.read() == "321\n"
        shown = subprocess.run(["ionice", "-p", pid], capture_output=True, text=True, check=True).stdout
        assert shown == "best-effort: prio 2\n"
    with running(ioprio="idle", user="nobody", nice="-5") as child:
        pid = os.path.basename(child)
        assert os.getpriority(os.PRIO_PROCESS, int(pid)) == -5
        assert subprocess.run(["ionice", "-p", pid], capture_output=True, text=True, check=True).stdout == "idle\n"


def test_no_new_privileges():
    with running(noNewPrivileges="true") as child:
        assert status(child)["NoNewPrivs"] == ["1"]
    with running(user="nobody") as child:
        assert status(child)["NoNewPrivs"] == ["0"]


def test_a_user_with_an_ambient_capability_has_that_one_only():
    keys = {"user": "nobody", "capabilities": "{bounding: [CAP_NET_BIND_SERVICE], ambient: [net_bind_service]}"}
    with running(noNewPrivileges="true", **keys) as child:
        assert sets(child) == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), BIND)
        assert status(child)["Uid"] == ["65534"] * 4
    script = "import socket; socket.socket().bind(('127.0.0.1', 81)); print('bound')"
    if PYTHON is not None:
        assert output([PYTHON, "-S", "-c", script], **keys) == (0, "bound\n")


def test_the_bounding_set_holds_for_root_too():
    with running(capabilities="{bounding: [CAP_NET_BIND_SERVICE]}") as child:
        assert sets(child) == {"CapInh": 0, "CapPrm": BIND, "CapEff": BIND, "CapBnd": BIND, "CapAmb": 0}
    with running(capabilities="{bounding: []}") as child:
        assert set(sets(child).values()) == {0}


def test_without_capabilities_of_its_own_a_root_process_keeps_those_that_we_have():
    with running(nice="1") as child:
        ours = sets("/proc/self")
        assert {key: sets(child)[key] for key in ("CapPrm", "CapEff", "CapBnd")} == {
            key: ours[key] for key in ("CapPrm", "CapEff", "CapBnd")
        }


def test_our_own_identity_and_limits_are_untouched():
    before = (status("/proc/self"), resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0))
    keys = {"user": "nobody", "nice": "5", "limits": "{nofile: 10}", "umask": "0077", "noNewPrivileges": "true"}
    with running(capabilities="{bounding: []}", **keys):
        pass
    with running(user="nobody", umask="0077"):
        pass
    after = (status("/proc/self"), resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0))
    for key in ("Uid", "Gid", "Groups", "Umask", "CapEff", "CapPrm", "CapBnd", "CapInh", "NoNewPrivs"):
        assert before[0][key] == after[0][key]
    assert before[1:] == after[1:]


def test_each_step_that_fails_is_named_with_its_reason():
    with open("/proc/sys/fs/nr_open") as file:
        too_many = int(file.read()) + 1
    error = refused(limits=f"{{nofile: {too_many}}}")
    assert (error.step, error.errno) == ("RLIMIT_NOFILE", 1)
    assert str(error) == (
        'cannot start "/bin/sleep": RLIMIT_NOFILE failed: Operation not permitted'
        " (raise the hard limit of whoever starts ocelot, or fs.nr_open for nofile)"
    )


def as_nobody(script):
    """Run a script that drops to nobody once everything is imported, from where nobody may look."""
    script = f"import supervisor.children.privileges\nfrom integration.test_privileges import process\nprocess(nice='1')\n{script}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=HERE)


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        ({"user": "root"}, "change of user"),
        ({"user": "root", "noNewPrivileges": "true"}, "setgroups"),
        ({"nice": "-5"}, "setpriority"),
        ({"oomScoreAdjust": "-500"}, "oom_score_adj"),
        ({"capabilities": "{bounding: []}"}, "capability bounding set"),
        ({"capabilities": "{ambient: [CAP_SYS_ADMIN]}"}, "capset"),
        ({"limits": "{nofile: 100000000}"}, "RLIMIT_NOFILE"),
    ],
)
def test_without_root_what_it_may_not_do_is_refused(keys, step):
    script = f"""
import os
from integration.test_privileges import process, specification
from ocelot.errors import SpawnError
from supervisor.children.spawn import spawn
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    spawn(specification(process(**{keys!r})))
except SpawnError as error:
    print(error.step, error.errno, bool(error.hint))
"""
    done = as_nobody(script)
    words = done.stdout.split()
    assert (" ".join(words[:-2]), words[-1]) == (step, "True"), done.stderr
    assert words[-2] in ("1", "13")


def test_without_root_the_user_that_it_is_anyway_is_fine():
    script = """
import os
from integration.test_privileges import process, specification
from supervisor.children.spawn import spawn
os.setgroups([]), os.setgid(65534), os.setuid(65534)
pid = spawn(specification(process(user="nobody", group="nogroup"), argv=["/bin/true"]))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = as_nobody(script)
    assert done.stdout == "0\n", done.stderr


def test_a_supervised_user_may_open_its_own_output_and_nothing_of_ours_changes_hands(tmp_path):
    before = os.stat("/dev/null")
    script = "id -un; echo reopened > /dev/stdout; echo mistaken > /dev/stderr; exec sleep 100"
    processes = {
        "web": {"program": "/bin/sh", "arguments": ["-c", script], "user": "nobody"},
        "quiet": {**SLEEPER, "user": "nobody", "log": {"stdout": {"destination": {"type": "null"}}}},
        "typo": {**SLEEPER, "user": "nobdy"},
    }
    tmp_path.chmod(0o755)
    with desk(tmp_path, processes) as ocelot:
        deadline = time.monotonic() + PATIENCE
        while "mistaken" not in ocelot.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        lines = ocelot.log.read_text()
        assert "nobody" in lines
        assert "reopened" in lines
        found = {each["name"]: each for each in ocelot.json("status")["processes"]}
        assert found["web"]["state"] == "running"
        assert found["typo"]["state"] == "fatal"
        assert 'cannot find the user "nobdy" (add it to /etc/passwd or give its number)' in found["typo"]["reason"]
    after = os.stat("/dev/null")
    assert (before.st_uid, before.st_gid) == (after.st_uid, after.st_gid)
