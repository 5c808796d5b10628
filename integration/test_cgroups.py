"""A process with ``resources`` and its cgroup, as far as a machine needs no controllers for it; limits need the VM."""

import contextlib
import os
import signal
import time

import pytest

from integration.desk import PATIENCE, SLEEPER, desk
from ocelot.errors import OcelotError
from supervisor.children import cgroups


def usable():
    try:
        place = cgroups.find()
    except OcelotError:
        return False
    return os.access(place.folder, os.W_OK) and os.path.exists(f"{place.folder}/cgroup.procs")


pytestmark = [pytest.mark.root, pytest.mark.skipif(not usable(), reason="no cgroup v2 of ours to make others in")]


def eventually(happened):
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def leaf(ocelot, name):
    """The cgroup folder of a process of this supervisor."""
    number = os.stat("/proc/self/ns/pid").st_ino
    return f"{cgroups.find().folder}/ocelot-{number}-{ocelot.process.pid}/{name}.process"


def members(folder):
    """The pids in a cgroup; none while there is no such folder."""
    with contextlib.suppress(FileNotFoundError), open(f"{folder}/cgroup.procs") as file:
        return [int(pid) for pid in file.read().split()]
    return []


def alive(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0] not in "ZX"
    return False


def shell(script, **more):
    return {"program": "/bin/sh", "arguments": ["-c", script], "resources": {}, **more}


STUBBORN = "trap '' TERM; while :; do sleep 1000 & wait; done"
RUNAWAYS = "setsid sleep 1000 & setsid sleep 1001 & exec sleep 1002"


def test_a_stop_means_the_whole_cgroup_and_the_folders_go_with_it(tmp_path):
    with desk(tmp_path, {"web": shell(RUNAWAYS), "other": SLEEPER}) as ocelot:
        folder = leaf(ocelot, "web")
        eventually(lambda: len(members(folder)) == 3)
        pids = members(folder)
        eventually(lambda: len({os.getsid(pid) for pid in pids}) == 3)
        assert ocelot.ctl("stop", "web").returncode == 0
        assert [pid for pid in pids if alive(pid)] == []
        assert not os.path.exists(os.path.dirname(folder))
        assert "left over" not in ocelot.log.read_text()


def test_whoever_ignores_the_signal_in_another_session_is_killed_after_the_grace(tmp_path):
    script = f'setsid sh -c "{STUBBORN}" & exec sleep 1000'
    with desk(tmp_path, {"web": shell(script, terminationGracePeriod="300ms")}) as ocelot:
        folder = leaf(ocelot, "web")
        eventually(lambda: len(members(folder)) == 3)
        pids = members(folder)
        ocelot.ctl("stop", "web")
        assert [pid for pid in pids if alive(pid)] == []
        assert not os.path.exists(folder)
        assert "of its cgroup: left over 0.3s after SIGTERM" in ocelot.log.read_text()


def test_a_crash_takes_what_it_has_left_behind_along_and_the_next_life_begins_anew(tmp_path):
    policy = {"type": "Always", "backoff": "0s"}
    with desk(tmp_path, {"web": shell(RUNAWAYS, restartPolicy=policy)}) as ocelot:
        folder = leaf(ocelot, "web")
        eventually(lambda: len(members(folder)) == 3)
        pids = members(folder)
        os.kill(ocelot.json("status")["processes"][0]["pid"], signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in pids))
        eventually(lambda: len(members(folder)) == 3)
        assert not set(pids) & set(members(folder))
        status = ocelot.json("status")["processes"][0]
        assert (status["restarts"], status["lastExit"]["cause"]) == (1, "signal")
    assert not os.path.exists(os.path.dirname(folder))


def test_a_swarm_that_forks_all_the_time_is_killed_as_a_whole(tmp_path):
    swarm = "trap '' TERM; f() { while :; do setsid sh -c 'trap \"\" TERM; sleep 0.02' & sleep 0.01; done; }; f & f & f"
    with desk(tmp_path, {"web": shell(swarm, terminationGracePeriod="300ms")}) as ocelot:
        folder = leaf(ocelot, "web")
        eventually(lambda: len(members(folder)) > 6)
        ocelot.ctl("stop", "web")
        assert not os.path.exists(folder)
        assert ocelot.json("status")["processes"][0]["state"] == "stopped"


def test_another_user_lives_in_its_cgroup_too_and_its_probes_and_guests_join_it(tmp_path):
    probe = {"handler": {"type": "exec", "command": ["cat", "/proc/self/cgroup"]}, "period": "100s"}
    tmp_path.chmod(0o755)
    with desk(tmp_path, {"web": shell("exec sleep 1000", user="nobody", readinessProbe=probe)}) as ocelot:
        folder = leaf(ocelot, "web")
        eventually(lambda: ocelot.json("status")["processes"][0]["state"] == "running")
        (pid,) = members(folder)
        assert os.stat(f"/proc/{pid}").st_uid == 65534
        name = folder.rsplit("/", 2)[1]
        assert f"/{name}/web.process" in str(ocelot.json("status")["processes"][0])
        guest = ocelot.ctl("exec", "web", "--", "cat", "/proc/self/cgroup")
        assert f"/{name}/web.process" in guest.stdout
    assert not os.path.exists(os.path.dirname(folder))


def test_another_image_of_ocelot_finds_the_cgroups_of_the_one_before(tmp_path):
    with desk(tmp_path, {"web": shell(RUNAWAYS)}) as ocelot:
        folder = leaf(ocelot, "web")
        eventually(lambda: len(members(folder)) == 3)
        pids = members(folder)
        assert "goes on with 1 process;" in ocelot.ctl("reexec").stdout
        assert "goes on with 1 process (" in ocelot.log.read_text()
        assert members(folder) == pids
        assert ocelot.ctl("stop", "web").returncode == 0
        assert [pid for pid in pids if alive(pid)] == []
        assert not os.path.exists(folder)


def test_what_the_machine_cannot_do_is_a_failed_start_that_says_so(tmp_path):
    with open(f"{cgroups.find().folder}/cgroup.controllers") as file:
        if "memory" in file.read().split():
            pytest.skip("this machine has the controller")
    limited = {**SLEEPER, "resources": {"memoryMax": "10MB"}}
    with desk(tmp_path, {"limited": limited, "free": SLEEPER}) as ocelot:
        found = {each["name"]: each for each in ocelot.json("status")["processes"]}
        assert (found["limited"]["state"], found["free"]["state"]) == ("fatal", "running")
        assert found["limited"]["lastExit"]["cause"] == "spawn-failed"
        assert "controller memory" in found["limited"]["lastExit"]["detail"]
