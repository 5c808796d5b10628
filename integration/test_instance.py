"""One ocelot at a time on a control socket, and what its processes inherit: nothing of whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from integration.desk import desk


def test_a_second_instance_on_a_living_socket_refuses_and_the_first_goes_on(tmp_path: Path) -> None:
    with desk(tmp_path, {"main": {"program": "sleep", "arguments": ["1000"]}}) as first:
        file = next(tmp_path.rglob("*.yaml"))
        second = subprocess.run(
            [sys.executable, "-m", "ocelot", "supervise", str(file), "--socket", str(first.socket)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1
        assert "another instance answers there" in second.stderr
        assert first.json("status")["processes"][0]["state"] == "running"


def test_a_process_inherits_no_descriptor_beyond_its_three_streams(tmp_path: Path) -> None:
    file = tmp_path / "supervise.yaml"
    socket = tmp_path / "control.sock"
    file.write_text(f"""
version: "1.0"
control: {{ socket: {socket} }}
processes:
  look: {{ program: ls, arguments: [/proc/self/fd], type: oneshot }}
""")
    leaked = os.open("/dev/null", os.O_RDONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ocelot", "supervise", str(file)],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(leaked,),
            timeout=60,
        )
    finally:
        os.close(leaked)
    # 3 is the folder that ls itself reads.
    assert done.stdout.split() == ["0", "1", "2", "3"]
    assert done.returncode == 0
