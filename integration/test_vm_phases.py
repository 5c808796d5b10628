"""Every field of a phase, before and after the switch, in one boot; and every flag of a mount, in another."""

from __future__ import annotations

import re

from integration.lab import roots
from integration.lab.devices import Drive, NineP
from integration.lab.guest import Lab
from integration.lab.vm import Hardware

PHASES = """
preSwitch:
  environment: {EARLY: one, BOTH: early}
  modules:
    mode: list
    names: [kernel/drivers/net/dummy.ko, kernel/fs/fuse/virtiofs.ko, kernel/fs/fuse/fuse.ko]
    depFilePath: modules.dep
    parameters: {dummy: numdummies=3}
  sysctl: {kernel.panic_on_oops: true, net/ipv4/ip_forward: 1}
  mounts:
    - {type: virtual, fstype: tmpfs, target: /mnt}
  tmpfiles:
    - {path: /run/early, type: f, mode: 0640, group: 5, content: "written early"}
    - {path: /mnt/kept, type: f, content: "from before the switch"}
  symlinks:
    - {source: /run/early, target: /run/link}
  hooks:
    - {name: early, command: /bin/sh, arguments: [-c, 'read x < /run/link; echo "early hook $EARLY $BOTH: $x"; head=; while read h; do head=$h; break; done < /proc/1/maps; echo "$head" > /run/maps-early']}
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
postSwitch:
  environment: {LATE: two, BOTH: late}
  modules: {mode: scan, names: [brd], parameters: {brd: rd_nr=3}}
  sysctl: {net.core.somaxconn: 1024}
  mounts:
    - {type: virtual, fstype: tmpfs, target: /srv/data}
    - {type: bind, source: /srv/data, target: /srv/bound, readOnly: true}
  tmpfiles:
    - {path: /srv/data/d, type: d, mode: 0750, owner: www-data}
    - {path: /srv/data/fifo, type: p}
    - {path: /srv/data/null, type: c, mode: 0666, content: "1:3"}
  symlinks:
    - {source: d, target: /srv/data/link}
  hooks:
    - {name: late, command: sh, arguments: [-c, 'echo "late hook $EARLY $LATE $BOTH in $PWD $OWN"'], workingDirectory: /srv, environment: {OWN: mine}}
  handoff:
    mode: supervise
    bootScript: {path: /srv/script, arguments: [a, b], environment: {S: script}}
    processes:
      report: {program: /srv/report, type: oneshot, arguments: [6379, on, 0644], environmentVariables: {PORT: 8080}}
hostname: phases
"""

REPORT = """
echo "process $EARLY $LATE $BOTH $PORT $*"
echo "sysctl $(cat /proc/sys/kernel/panic_on_oops /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn | tr '\\n' ' ')"
echo "dummies $(ls /sys/class/net | grep -c dummy) disks $(ls /sys/block | grep -c ram)"
echo "early $(stat -c '%a %g' /run/early) $(readlink /run/link)"
echo "kept $(cat /mnt/kept)"
echo "folder $(stat -c '%a %U %F' /srv/data/d) fifo $(stat -c %F /srv/data/fifo)"
echo "link $(readlink /srv/data/link)"
echo "hostname $(hostname)"
touch /srv/bound/x 2>/dev/null || echo "bound read-only"
[ "$(head -n 1 /proc/1/maps)" = "$(cat /run/maps-early)" ] && echo "the same process image"
grep ' / / ' /proc/self/mountinfo | grep -q shared: && echo "root is shared"
ls -l /dev/fd /dev/stdin | wc -l
"""


def test_every_phase_field_before_and_after_the_switch(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/report", REPORT)
    roots.script(tree, "/srv/script", 'echo "boot script $S $EARLY $LATE $*"\n')
    config = PHASES.replace(
        '{path: /srv/data/null, type: c, mode: 0666, content: "1:3"}', "{path: /srv/data/file, content: text}"
    )
    console = lab.boot(config, devices=[NineP(tree)]).wait().console
    for line in (
        "early hook one early: written early",
        "late hook one two late in /srv mine",
        "boot script script one two a b",
        "process one two late 8080 6379 on 0644",
        "sysctl 1 1 1024 ",
        "dummies 3 disks 3",
        "early 640 5 /run/early",
        "kept from before the switch",
        "folder 750 www-data directory fifo fifo",
        "link d",
        "hostname phases",
        "bound read-only",
        "the same process image",
        "root is shared",
    ):
        assert re.search(rf"^{re.escape(line)}", console, re.MULTILINE), line


FLAGS = """
switchRoot:
  rootFileSystem: {type: device, device: /dev/vda, target: /, noSuid: true, noDev: true, dirSync: true, atime: noAtime}
postSwitch:
  mounts:
    - {type: virtual, fstype: tmpfs, target: /m/readOnly, readOnly: true}
    - {type: virtual, fstype: tmpfs, target: /m/noExec, noExec: true}
    - {type: virtual, fstype: tmpfs, target: /m/noSuid, noSuid: true}
    - {type: virtual, fstype: tmpfs, target: /m/noDev, noDev: true}
    - {type: virtual, fstype: tmpfs, target: /m/sync, sync: true}
    - {type: virtual, fstype: tmpfs, target: /m/dirSync, dirSync: true}
    - {type: virtual, fstype: tmpfs, target: /m/noAtime, atime: noAtime}
    - {type: virtual, fstype: tmpfs, target: /m/relAtime, atime: relAtime}
    - {type: virtual, fstype: tmpfs, target: /m/strictAtime, atime: strictAtime}
    - {type: virtual, fstype: tmpfs, target: /m/lazyTime, atime: lazyTime}
    - {type: virtual, fstype: tmpfs, target: /m/options, options: "size=1m,mode=0700", posixAcl: true, mandatoryLocks: true}
    - {type: bind, source: /srv, target: /m/bind, readOnly: true, noExec: true, noSuid: true, noDev: true}
    - {type: overlay, lower: /srv, upper: /m/relAtime/u, work: /m/relAtime/w, target: /m/overlay}
  tmpfiles: []
  handoff:
    mode: supervise
    processes:
      report: {program: cat, arguments: [/proc/self/mountinfo], type: oneshot}
"""


def test_every_mount_flag_is_seen_in_mountinfo(lab: Lab) -> None:
    tree = lab.busybox()
    ending = lab.boot(FLAGS, devices=[Drive(lab.ext4(tree))]).wait()
    assert ending.status == 0
    mounts: dict[str, tuple[set[str], set[str]]] = {}
    for line in ending.console.splitlines():
        if match := re.match(r"\d+ \d+ \d+:\d+ \S+ (\S+) (\S+) .*- \S+ \S+ (\S+)", line):
            mounts[match[1]] = (set(match[2].split(",")), set(match[3].split(",")))

    def flags(name: str) -> set[str]:
        of_mount, of_super = mounts[f"/m/{name}"]
        return of_mount | of_super

    assert {"nosuid", "nodev", "noatime", "dirsync"} <= mounts["/"][0] | mounts["/"][1]
    expected = {"readOnly": "ro", "noExec": "noexec", "noSuid": "nosuid", "noDev": "nodev", "sync": "sync"}
    expected |= {"dirSync": "dirsync", "noAtime": "noatime", "relAtime": "relatime", "lazyTime": "lazytime"}
    for name, flag in expected.items():
        assert flag in flags(name), name
    assert not {"noatime", "relatime"} & flags("strictAtime")
    assert {"size=1024k", "mode=700"} <= flags("options")
    assert {"ro", "noexec", "nosuid", "nodev"} <= mounts["/m/bind"][0]
    assert "/m/overlay" in mounts
    assert re.search("warn: .*mandatoryLocks", ending.console)


def test_the_console_that_the_file_names_shows_it_all_and_the_other_only_the_kernel(lab: Lab) -> None:
    config = """\
console: ttyS1
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
postSwitch:
  hooks: [{name: greet, command: echo, arguments: [the hook]}]
  handoff:
    mode: supervise
    processes:
      only: {program: sh, arguments: [-c, "echo the process; exit 6"]}
"""
    second = lab.path("second")
    hardware = Hardware(options=("-serial", f"file:{second}"))
    ending = lab.boot(config, hardware=hardware, devices=[NineP(lab.busybox())]).wait()
    assert ending.status == 6
    lines = re.sub(r"\x1b\[\d*m", "", second.read_text()).splitlines()
    assert {"the hook", "only | the process"} <= set(lines), lines
    assert lines[-1].startswith("ocelot: exit status 6: ")
    assert "the process" not in ending.console
