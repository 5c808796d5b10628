"""A calendar on a machine whose clock is set: forward over years, and back."""

from __future__ import annotations

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
      job:
        program: sh
        arguments: [-c, 'echo "ran at $(date -u "+%F %H:%M")"; echo x >> /tmp/ran']
        schedule: {cron: "0 4 * * *", timezone: UTC}
      setter: {program: /srv/setter, type: oneshot, essential: true}
"""

SETTER = """
ran() { n=0; until [ "$(wc -l < /tmp/ran)" = $1 ]; do sleep 0.2; n=$((n+1)); [ $n -lt 150 ] || exit 9; done; }
touch /tmp/ran
date -u -s '2031-01-01 03:59:57'
ran 1
date -u -s '2030-06-01 03:59:57'
ran 2
ocelotctl status job
"""


def test_a_clock_that_is_set_is_noticed(lab: Lab) -> None:
    tree = lab.busybox()
    roots.script(tree, "/srv/setter", SETTER)
    ending = lab.boot(CONFIG, devices=[Drive(lab.ext4(tree))]).wait()
    assert re.findall("^ran at (.*)", ending.console, re.MULTILINE) == ["2031-01-01 04:00", "2030-06-01 04:00"]
    assert "the clock was set" in ending.console  # the second time it may be before the next time was worked out
    assert "starts in 23h" in ending.console
    assert ending.status == 0
