"""Limits that need a kernel with cgroup v2 controllers: set, enforced, and told when they killed. Privileges in a guest without libc."""

from __future__ import annotations

import json
import re

from integration.lab import roots
from integration.lab.devices import Drive
from integration.lab.guest import Lab

CONFIG = """
switchRoot:
  rootFileSystem: {type: device, device: /dev/vda}
postSwitch:
  handoff:
    mode: supervise
    processes:
      limited:
        program: sleep
        arguments: [1000]
        user: www-data
        supplementaryGroups: [tty]
        umask: 0027
        limits: {nofile: 512}
        nice: 3
        oomScoreAdjust: 50
        noNewPrivileges: true
        capabilities: {bounding: [CAP_NET_BIND_SERVICE, CAP_CHOWN], ambient: [CAP_NET_BIND_SERVICE]}
        resources:
          memoryMax: 40MiB
          memoryHigh: 30MiB
          cpuMax: 150%
          pidsMax: 30
          ioMax: [{device: /dev/vda, wbps: 5MB, riops: 200}]
      bomb: {program: /srv/bomb, resources: {pidsMax: 8}}
      spin: {program: sh, arguments: [-c, "while :; do :; done"], resources: {cpuMax: 0.1}}
      swarm: {program: /srv/swarm, resources: {}, terminationGracePeriod: 1s}
      box: {program: unshare, arguments: [-m, -p, -f, --mount-proc, /srv/box], terminationGracePeriod: 3s}
      talker: {program: sh, arguments: [-c, "echo on $(tty) as $TERM; echo through > /dev/tty; exec sleep 1000"], stdin: tty}
      checks: {program: /srv/checks, type: oneshot}
      hog:
        program: dd
        arguments: [if=/dev/zero, of=/dev/null, bs=100M, count=1]
        essential: true
        resources: {memoryMax: 20MiB}
        restartPolicy: {type: OnFailure, maxRetries: 1, backoff: 0s}
        dependsOn: {checks: {condition: CompletedSuccessfully}}
"""

# The inner shell gives up when it cannot fork; what it has started stays.
BOMB = "sh -c 'while :; do sleep 1000 & done' 2> /dev/null; echo bomb: gave up; exec sleep 1000\n"
SWARM = "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 777; done\" & while :; do sleep 778; done\n"

# As a container engine would: a cgroup of its own, which holds nobody else, and a new PID namespace.
BOX = """
mkdir -p /sys/fs/cgroup/box
echo '+memory +pids' > /sys/fs/cgroup/cgroup.subtree_control
echo 0 > /sys/fs/cgroup/box/cgroup.procs
exec ocelot supervise /srv/box.yaml
"""
INNER = """
echo inner: $(cat /proc/self/cgroup)
echo "spared: $(cat /proc/1/oom_score_adj), not: $(cat /proc/self/oom_score_adj) $(sh -c 'cat /proc/self/oom_score_adj')"
exec sleep 1000
"""
BOX_FILE = {
    "version": "1.0",
    "control": {"socket": "/run/box.sock"},
    "processes": {
        "inner": {
            "program": "sh",
            "arguments": ["-c", INNER],
            "resources": {"memoryMax": "16MiB", "pidsMax": 5},
        },
        "hog": {
            "program": "dd",
            "arguments": ["if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"],
            "resources": {"memoryMax": "16MiB"},
        },
    },
}

CHECKS = """
G=/sys/fs/cgroup/ocelot
cd $G/limited.process
echo "limits: $(cat memory.max memory.high cpu.max pids.max | tr '\\n' ' ')"
echo "io: $(cat io.max)"
P=$(cat cgroup.procs)
echo "status: $(grep -E '^(Uid|Gid|Groups|Umask|NoNewPrivs|Cap...):' /proc/$P/status | tr '\\t\\n' ' ;')"
echo "files: $(grep 'Max open files' /proc/$P/limits)"
echo "scores: $(cat /proc/$P/oom_score_adj) $(cut -d' ' -f19 /proc/$P/stat)"
cd /
seen() { n=0; until grep -qs "$1" $2; do sleep 0.3; n=$((n+1)); [ $n -lt 60 ] || return; done; echo "seen: $3"; }
seen 'max [1-9]' $G/bomb.process/pids.events 'a fork was refused'
echo "bomb: $(cat $G/bomb.process/pids.current) of $(cat $G/bomb.process/pids.max)"
seen 'nr_throttled [1-9]' $G/spin.process/cpu.stat 'a loop was throttled'
ocelotctl metrics | grep -E '^ocelot_(process_(cgroup|pressure)|machine_pressure)' | sed 's/^/figure: /'
ocelotctl stop swarm
echo "swarm: $(ps -o args | grep -c '[s]leep 77') left, folder $(ls -d $G/swarm.process 2>/dev/null || echo gone)"
n=0
until [ -S /run/box.sock ] || [ $n -gt 60 ]; do sleep 0.5; n=$((n+1)); done
sleep 2
ocelotctl --socket /run/box.sock status --json | tr -d '\\n' | sed 's/^/box: /'
echo
echo "box folders: $(cd /sys/fs/cgroup/box && ls -d ocelot* | tr '\\n' ' ') subtree $(cat /sys/fs/cgroup/box/cgroup.subtree_control)"
"""


def test_limits_are_set_enforced_and_told(lab: Lab) -> None:
    tree = lab.busybox()
    for name, text in (("bomb", BOMB), ("swarm", SWARM), ("box", BOX), ("checks", CHECKS)):
        roots.script(tree, f"/srv/{name}", text)
    (tree / "srv/box.yaml").write_text(json.dumps(BOX_FILE))
    disk = Drive(lab.ext4(tree))
    ending = lab.boot(CONFIG, devices=[disk]).wait(180)
    console = ending.console

    assert "limits: 41943040 31457280 150000 100000 30" in console
    assert re.search(r"io: \d+:0 rbps=max wbps=5000000 riops=200 wiops=max", console)
    status = re.search("status: (.*)", console)
    assert status is not None
    found = {key: value.split() for key, value in re.findall(r"(\w+): ([^;]*);", status[1])}
    assert (found["Uid"], found["Gid"]) == (["33"] * 4, ["33"] * 4)
    assert sorted(found["Groups"]) == ["33", "5"]
    assert (found["Umask"], found["NoNewPrivs"]) == (["0027"], ["1"])
    held = {key: int(value[0], 16) for key, value in found.items() if key.startswith("Cap")}
    assert held == {"CapInh": 0x400, "CapPrm": 0x400, "CapEff": 0x400, "CapBnd": 0x401, "CapAmb": 0x400}
    assert re.search(r"files: Max open files +512 +512", console)
    assert "scores: 50 3" in console

    assert "on /dev/ttyS0 as vt220" in console
    assert "through" in console
    assert "seen: a fork was refused" in console
    assert "bomb: 7 of 8" in console
    assert "seen: a loop was throttled" in console
    assert "swarm: 0 left, folder gone" in console
    assert "swarm: killed: still running 1s after SIGTERM" in console

    figures = {name: float(value) for name, value in re.findall(r"figure: (\S+) (\S+)", console)}
    assert figures['ocelot_process_cgroup_memory_limit_bytes{process="limited"}'] == 40 * 2**20
    assert 0 < figures['ocelot_process_cgroup_memory_bytes{process="limited"}'] < 40 * 2**20
    assert figures['ocelot_process_cgroup_throttled_seconds_total{process="spin"}'] > 0
    assert figures['ocelot_process_pressure_seconds_total{kind="some",process="spin",resource="cpu"}'] > 0
    assert figures['ocelot_process_cgroup_oom_kills_total{process="limited"}'] == 0
    assert figures['ocelot_machine_pressure_seconds_total{kind="some",resource="cpu"}'] > 0

    assert re.search(r"inner: 0::/box/ocelot-\d+-1/inner\.process", console)
    assert "spared: -1000, not: 0 0" in console, "where memory runs out the kernel spares PID 1 of a container alone"
    assert re.search(r"box folders: ocelot-\d+-1 ocelot\.self +subtree memory pids", console)
    box = re.search("box: ({.*})", console)
    assert box is not None
    inner, hog = json.loads(box[1])["processes"]
    assert inner["state"] == "running"
    assert hog["lastExit"]["cause"] == "oom-killed"

    assert "hog: was killed by SIGKILL: out of memory, memoryMax is 20MiB; " in console
    assert ending.status == 137
    assert ending.report["process"] == "hog"
    assert "out of memory, memoryMax is 20MiB" in ending.report["reason"]
