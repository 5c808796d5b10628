"""How a machine ends: the shell, another program in our place, the rescue shell, the power button; and what it leaves."""

from __future__ import annotations

from integration.lab import roots
from integration.lab.devices import Drive
from integration.lab.guest import Lab

ROOT = "switchRoot: {rootFileSystem: {type: device, device: /dev/vda}}\n"

STUBBORN = """\
trap '' TERM
exec 9>/held
while :; do sleep 1; echo x >&9; done
"""

SERVICE = """\
setsid /stubborn &
echo "service up"
while :; do sleep 1; done
"""


def test_the_power_button_ends_everything_and_leaves_every_disk_clean(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/stubborn", STUBBORN)
    roots.script(tree, "/service", SERVICE)
    image = lab.ext4(tree)
    folder = lab.path("data")
    folder.mkdir()
    data = lab.ext4(folder, label="data")
    vm = lab.boot(
        ROOT
        + """\
shutdown: {timeout: 10s}
postSwitch:
  mounts:
    - {type: device, device: LABEL=data, target: /data}
  handoff:
    mode: supervise
    processes:
      service: {program: /service, restartPolicy: {type: Always}, terminationGracePeriod: 2s}
      logged:
        program: /bin/sh
        arguments: [-c, "echo to a file; exec sleep 1000"]
        log: {stdout: {destination: {type: file, path: /data/log/logged}}}
""",
        devices=[Drive(image), Drive(data)],
    )
    vm.expect("service up")
    vm.power_button()
    ending = vm.wait()
    assert ending.how == "guest-shutdown"
    assert ending.status == 0
    assert ending.report["verb"] == "poweroff"
    ours = [line for line in ending.console.splitlines() if line and not line.startswith("[")]  # else the kernel's
    assert ours[-1] == "ocelot: exit status 0: the power button was pressed"
    assert "could not be made read-only" not in ending.console
    assert not roots.needs_recovery(image)
    assert not roots.needs_recovery(data)


def test_a_shell_with_job_control_and_its_status_at_the_end(lab: Lab) -> None:
    vm = lab.boot(
        ROOT + "postSwitch: {environment: {PS1: 'READY> '}, handoff: {mode: shell, program: /bin/sh}}\n",
        devices=[Drive(lab.ext4(lab.busybox()))],
    )
    vm.expect("READY> ")
    assert vm.run("tty") == "/dev/ttyS0\n"
    vm.send("sh -c 'echo u\"\"p; exec sleep 1000'\n")
    vm.expect("^up$")
    vm.send("\x1a")
    vm.expect("Stopped")
    assert "sleep 1000" in vm.run("jobs")
    vm.send("exit 3\nexit 3\n")  # the first is answered with a warning about the stopped job
    ending = vm.wait()
    assert (ending.how, ending.status) == ("guest-shutdown", 3)


BECOME = """\
echo "i am $$, argument $1, PHASE=$PHASE PATH=$PATH"
grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status
echo "runtime: $(ls -d /run/ocelot /run/ocelot/runtime 2>/dev/null | wc -l), maps: $(grep -c python /proc/1/maps)"
grep -c /run/ocelot /proc/self/mountinfo
cat /proc/sys/kernel/ctrl-alt-del /etc/from-script
echo end
poweroff -f
"""


def test_another_program_takes_our_place_after_the_boot_script(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/become", BECOME)
    roots.script(tree, "/script", 'echo "script $1 as $$"; echo made > /etc/from-script')
    vm = lab.boot(
        ROOT
        + """\
postSwitch:
  environment: {PHASE: "yes"}
  handoff:
    mode: exec
    program: /become
    arguments: [one]
    bootScript: {path: /script, arguments: [two]}
""",
        devices=[Drive(lab.ext4(tree))],
    )
    vm.expect(r"^script two as \d+")
    vm.expect(r"^i am 1, argument one, PHASE=yes PATH=/.*bin$")
    vm.expect(r"^SigBlk:\t0+$")
    vm.expect(r"^SigIgn:\t0+$")
    vm.expect("^runtime: 0, maps: 0$")
    vm.expect("^0$")
    vm.expect("^made$")
    vm.expect("^end$")
    assert vm.wait().how == "guest-shutdown"


def test_a_missing_program_is_a_failure_a_person_can_act_on(lab: Lab) -> None:
    vm = lab.boot(
        ROOT + "postSwitch: {handoff: {mode: exec, program: /bin/nosuch}}\n", devices=[Drive(lab.ext4(lab.busybox()))]
    )
    vm.expect(r'cannot execute "/bin/nosuch": No such file or directory')
    ending = vm.wait()
    assert (ending.how, ending.status) == ("guest-shutdown", 1)
    assert "/bin/nosuch" in ending.report["reason"]


def test_the_rescue_shell_has_job_control_and_the_machine_goes_down_after_it(lab: Lab) -> None:
    vm = lab.boot(
        ROOT
        + """\
onFatal: {action: shell}
postSwitch:
  environment: {PS1: 'RESCUE> '}
  mounts: [{type: device, device: /dev/vdz, target: /mnt, timeout: 1s}]
  handoff: {mode: shell}
""",
        devices=[Drive(lab.ext4(lab.busybox()))],
    )
    vm.expect("/dev/vdz")
    vm.expect("RESCUE> ")
    assert vm.run("tty") == "/dev/ttyS0\n"
    vm.send("exit\n")
    ending = vm.wait()
    assert (ending.how, ending.status) == ("guest-shutdown", 1)
    assert "/dev/vdz" in ending.report["reason"]
