"""The init of a machine replaces itself by another runtime, which lies in the root, and again by itself, in one boot."""

from __future__ import annotations

import re

from integration.lab import cache, roots
from integration.lab.devices import NineP
from integration.lab.guest import Lab
from ocelot.image.runtime import build_runtime

CONFIG = """
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
postSwitch:
  environment: {PHASE: "1"}
  handoff:
    mode: supervise
    processes:
      sleeper: {program: /bin/sleep, arguments: ["100000"]}
      crasher:
        program: /bin/sh
        arguments: [-c, "echo x >> /tmp/tally; exit 3"]
        restartPolicy: {type: Always, backoff: 200ms, multiplier: 1, successExitCodes: []}
      driver: {program: /srv/driver, type: oneshot, essential: true}
"""

DRIVER = """
cat /proc/1/limits | grep 'open files' > /tmp/limits
echo "exe $(readlink /proc/1/exe)"
echo "sleeper $(pidof sleep)"
for runtime in "--runtime /opt/ocelot" ""; do
    ocelotctl reexec $runtime || exit 9
    echo "exe $(readlink /proc/1/exe)"
    echo "sleeper $(pidof sleep)"
    echo "tool $(readlink /run/ocelot/bin/ocelotctl)"
done
ocelotctl reload
ocelotctl reload --file /etc/changed.yaml && pidof tail
ocelotctl reexec --runtime /nowhere
n=$(wc -l < /tmp/tally)
while [ "$(wc -l < /tmp/tally)" -lt $((n + 3)) ]; do sleep 0.1; done
ocelotctl stop crasher > /dev/null
echo "starts $(wc -l < /tmp/tally)"
ocelotctl metrics | grep 'restarts_total.*"exit".*crasher'
grep 'open files' /proc/1/limits | cmp - /tmp/limits && echo "limits as before"
sh -c 'ulimit -n; echo "phase $PHASE"'
kill -TERM 1 & # asked by a signal, after all of that
exec sleep 1000
"""


def test_pid_1_becomes_another_runtime_and_goes_down_in_order(lab: Lab) -> None:
    tree = lab.busybox()
    (tree / "opt").mkdir()
    build_runtime(str(tree / "opt/ocelot"), prefix="/opt/ocelot", cache=str(cache.folder() / "runtime"))
    roots.script(tree, "/srv/driver", DRIVER)
    added = "      more: {program: /bin/tail, arguments: [-f, /dev/null]}\n"
    (tree / "etc/changed.yaml").write_text(CONFIG + added)
    vm = lab.boot(CONFIG, devices=[NineP(tree)])
    vm.expect("exe /run/ocelot/runtime/bin/python3")
    vm.expect("tool /opt/ocelot/bin/ocelotctl", 180)
    vm.expect("tool /opt/ocelot/bin/ocelotctl", 180)
    vm.expect("limits as before", 120)
    ending = vm.wait(120)
    console = ending.console
    assert ending.how == "guest-shutdown"
    assert ending.report["reason"] == "asked by SIGTERM"
    said = [line.strip() for line in console.splitlines()]

    def words(pattern: str) -> list[str]:
        return [match[1] for line in said if (match := re.fullmatch(pattern, line))]

    assert words(r"exe (\S+)") == ["/run/ocelot/runtime/bin/python3", *["/opt/ocelot/bin/python3"] * 2]
    assert len(words(r"sleeper (\d+)")) == 3
    assert len(set(words(r"sleeper (\d+)"))) == 1
    assert words(r"tool (\S+)") == ["/opt/ocelot/bin/ocelotctl"] * 2
    (starts,), (restarts,) = words(r"starts (\d+)"), words(r"ocelot_process_restarts_total\S+ ([\d.]+)")
    assert int(starts) - float(restarts) in (0, 1)
    assert {"1024", "phase 1", "limits as before"} <= set(said)
    assert 'there is no "/etc/ocelot/bootstrap.yaml" in this root file system' in console
    assert "+ more: added" in said
    assert 'cannot use the runtime "/nowhere"' in console
    assert console.count("goes on with 3 processes") == 4  # said by PID 1, and by ocelotctl
    assert "Kernel panic" not in console
