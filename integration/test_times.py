"""Times and numbers of a process entry on the real clock: bounds that hold, and would not without the key."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from integration.desk import desk

READY = {"handler": {"type": "exec", "command": ["true"]}, "period": "300ms", "timeout": "300ms"}


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"program": "/bin/sh", "arguments": ["-c", script], **more}


def test_the_shutdown_timeout_bounds_every_grace(tmp_path: Path) -> None:
    stubborn = shell("trap '' TERM; while :; do sleep 0.2; done", terminationGracePeriod="50s")
    with desk(tmp_path, {"a": stubborn, "b": {**stubborn, "dependsOn": ["a"]}}, shutdownTimeout="2s") as running:
        running.until(lambda found: found["b"]["state"] == "running")
        began = time.monotonic()
        running.process.terminate()
        assert running.process.wait(30) == 0
        assert time.monotonic() - began < 20
    assert "within 2s" in running.log.read_text()


def test_the_delay_grows_no_further_than_its_maximum(tmp_path: Path) -> None:
    """Without the maximum the sixth restart would come after 1,111 s."""
    policy = {"type": "Always", "backoff": "10ms", "multiplier": 10, "maxBackoff": "50ms"}
    with desk(tmp_path, {"again": shell("exit 1", restartPolicy=policy)}, logLevel="error") as running:
        running.until(lambda found: found["again"]["restarts"] >= 8)


def test_probes_begin_after_their_delay_and_must_succeed_so_often(tmp_path: Path) -> None:
    processes = {
        "delayed": shell("exec sleep 1000", readinessProbe={**READY, "initialDelay": "1s"}),
        "thrice": shell("exec sleep 1000", readinessProbe={**READY, "successThreshold": 3}),
        "plain": shell("exec sleep 1000", readinessProbe=READY),
    }
    with desk(tmp_path, processes) as running:
        since: dict[str, float] = {}
        while len(since) < 3:
            for name, each in running.processes().items():
                if each["ready"]:
                    since.setdefault(name, each["uptime"])
        assert since["delayed"] >= 1.0
        assert since["thrice"] >= 0.6


def test_old_log_files_go_by_time(tmp_path: Path) -> None:
    """``rotationInterval`` makes a new file without any size; ``maxAgeDays`` removes what is older, and nothing foreign."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("w.20200101T000000Z-1", "w.20200101T000000Z-2.gz", "w.notes"):
        (folder / name).touch()
    rotation = {"rotationInterval": "1s", "maxAgeDays": 1}
    destination = {"type": "file", "path": str(folder / "w")}
    writer = shell(
        "while :; do echo line; sleep 0.1; done", log={"stdout": {"destination": destination, "rotation": rotation}}
    )
    with desk(tmp_path, {"w": writer}):
        deadline = time.monotonic() + 30
        while len(found := sorted(path.name for path in folder.iterdir() if path.name.startswith("w.2"))) < 2 or any(
            "2020" in name for name in found
        ):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
    assert (folder / "w.notes").exists()
    assert all(set(path.read_text().split()) <= {"line"} for path in folder.iterdir())
