"""The control socket's server on vsock: only the host gets an answer.

There is no host on vsock here, but vsock_loopback, over which a process of the machine itself comes as CID 1. So ocelot must refuse
it; and the same server, told that its peer is CID 1, shows the whole way.
"""

from __future__ import annotations

from integration.lab import roots
from integration.lab.devices import Drive
from integration.lab.guest import Lab

CONFIG = """
logLevel: debug
preSwitch:
  modules: {mode: scan, names: [vsock_loopback]}
switchRoot:
  rootFileSystem: {type: device, device: /dev/vda}
control: {vsock: {role: operate}}
postSwitch:
  handoff:
    mode: supervise
    processes:
      driver: {program: /srv/driver, type: oneshot, essential: true}
      sleeper: {program: sleep, arguments: ["100000"]}
"""

SERVER = """
from functools import partial

import trio

from ocelot.config import structs
from ocelot.linux.identity import identity
from ocelot.linux.inherited import Inherited
from ocelot.pid1 import Pid1
from supervisor.control.vsock import serve


async def main():
    life = Pid1("supervise", None, inherited=Inherited.capture(), who=identity())
    life.config = structs.SuperviseFile(control=structs.Control(vsock=structs.Vsock()))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, life, 9470, peer=1))
        print("the other listens", flush=True)


trio.run(main)
"""

DRIVER = """
ocelotctl --socket vsock:1:9465 version
echo "exit $?"
ocelotctl --socket vsock:1:9466 version
echo "exit $?"
/run/ocelot/runtime/bin/python3 /srv/server.py > /tmp/said 2>&1 &
until grep listens /tmp/said; do sleep 0.1; done
OCELOT_SOCKET=vsock:1:9470 ocelotctl version
echo "exit $?"
ocelotctl --socket vsock:1:9470 --json status
echo "exit $?"
ocelotctl --socket vsock:1:9470 poweroff
echo "exit $?"
ocelotctl --socket vsock:1:9470 shell
echo "exit $?"
kill $!
"""


def test_only_the_host_gets_an_answer(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/driver", DRIVER)
    (tree / "srv/server.py").write_text(SERVER)
    ending = lab.boot(CONFIG, devices=[Drive(lab.ext4(tree))]).wait(120)
    console = ending.console
    exits = [line.split()[-1] for line in console.splitlines() if line.strip().startswith("exit ")]
    assert exits == ["3", "3", "0", "0", "5", "5"], console
    assert "CID 1 came over vsock, and only CID 2 may" in console
    assert 'cannot reach ocelot at "vsock:1:9466": nobody answers there' in console
    assert "the host cannot reach it: this machine has no vsock device" in console
    assert '"processes": []' in console or '"processes":[]' in console
    assert "control.vsock.role of the configuration says what the host may do: admin, for example" in console
    assert ending.status == 0
