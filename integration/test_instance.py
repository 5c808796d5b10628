"""One ocelot at a time on a control socket, and what its processes inherit: nothing of whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.desk import PATIENCE, await_socket, desk


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


AS_A_USER = ("unshare", "--map-user=1000", "--map-group=1000")
"""Not root, as far as one can tell from inside (user_namespaces(7))."""


@pytest.mark.skipif(
    subprocess.run([*AS_A_USER, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs user namespaces and an unshare that knows --map-user",
)
def test_another_user_than_root_has_an_ocelot_of_his_own(tmp_path: Path) -> None:
    """Nobody says where the socket is: it is below XDG_RUNTIME_DIR for both programs, if that folder is the user's."""
    file, folder = tmp_path / "supervise.yaml", tmp_path / "runtime"
    file.write_text('{"version": "1.0", "processes": {"main": {"program": "sleep", "arguments": ["1000"]}}}')
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "OCELOT_SOCKET"}
    environment["XDG_RUNTIME_DIR"] = str(folder)
    first = subprocess.Popen([*AS_A_USER, sys.executable, "-m", "ocelot", "supervise", str(file)], env=environment)
    try:
        await_socket(str(folder / "ocelot" / "control.sock"), first)

        def ask(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
            command = [*AS_A_USER, sys.executable, "-m", "ocelot.ctl", *words]
            return subprocess.run(
                command, env=environment | variables, capture_output=True, text=True, timeout=PATIENCE
            )

        assert "running" in ask("status", "main").stdout
        elsewhere = ask("status", XDG_RUNTIME_DIR=str(tmp_path))
        assert (elsewhere.returncode, '"/run/ocelot/control.sock"' in elsewhere.stderr) == (3, True)
        assert ask("poweroff").returncode == 0
        assert first.wait(PATIENCE) == 0
    finally:
        first.kill()
        first.wait()


def test_a_socket_that_cannot_be_made_says_how_another_is_named(tmp_path: Path) -> None:
    file = tmp_path / "supervise.yaml"
    file.write_text('{"version": "1.0", "processes": {"main": {"program": "true"}}}')
    done = subprocess.run(
        [sys.executable, "-m", "ocelot", "supervise", str(file), "--socket", "/proc/ocelot.sock"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "hint: name another with control.socket or --socket PATH" in done.stderr, done.stderr
