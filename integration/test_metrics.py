"""The figures, read by those who know the format: promtool, prometheus_client's own parsers, and a real Prometheus."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from integration.desk import PATIENCE, SLEEPER, Desk, desk
from integration.lab import cache

CRASHING = {
    "program": "/bin/sh",
    "arguments": ["-c", "echo crashing; exit 3"],
    "restartPolicy": {"type": "OnFailure", "maxRetries": 2, "backoff": "0s"},
}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def fetch(address: str, **headers: str) -> tuple[str, str]:
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{address}", headers=headers), timeout=PATIENCE
    ) as reply:
        return reply.read().decode(), reply.headers["content-type"]


def settle(machine: Desk) -> None:
    deadline = time.monotonic() + PATIENCE
    while machine.json("status", "crashing")["processes"][0]["state"] != "fatal":
        assert time.monotonic() < deadline


def samples(text: str, parse: Any = parse_text) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


PROMTOOL = cache.daemon("prometheus", "/usr/bin/promtool")
PROMETHEUS = cache.daemon("prometheus", "/usr/bin/prometheus")


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool, neither installed nor unpacked: make machine")
def test_the_figures_are_right_and_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    odd = "odd.name_x-1"
    with desk(tmp_path, {"web": SLEEPER, "crashing": CRASHING, odd: SLEEPER}, metrics={"listen": listen}) as machine:
        settle(machine)
        text, media = fetch(f"{listen}/metrics")
        assert media == "text/plain; version=0.0.4; charset=utf-8"
        checked = subprocess.run(
            [str(PROMTOOL.program), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        found = samples(text)
        assert found["ocelot_process_up", "web"] == 1
        assert found["ocelot_process_up", odd] == 1
        assert found["ocelot_process_up", "crashing"] == 0
        assert found["ocelot_process_state", "crashing", "fatal"] == 1
        assert found["ocelot_process_restarts_total", "crashing", "exit"] == 2
        assert found["ocelot_process_last_exit_status", "crashing"] == 3
        assert found["ocelot_process_output_bytes_total", "crashing", "stdout"] == 3 * len("crashing\n")
        assert found["ocelot_process_threads", "web"] == 1
        assert found["ocelot_process_resident_memory_bytes", "web"] > 4096
        assert found["ocelot_process_open_fds", "web"] >= 3
        assert abs(found["ocelot_process_start_time_seconds", "web"] - time.time()) < 60
        assert found["ocelot_reaped_children_total",] == 3
        assert ("ocelot_reaped_orphans_total",) in found
        assert found["process_resident_memory_bytes",] > 1e6
        assert samples(machine.ctl("metrics").stdout).keys() == found.keys()


PARENT = {
    "program": "/bin/sh",
    "arguments": [
        "-c",
        "sleep 1000 & (exec setsid sleep 1000) & i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; wait",
    ],
}


def test_children_count_for_their_process_and_the_loop_is_measured(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with desk(tmp_path, {"parent": PARENT, "single": SLEEPER}, metrics={"listen": listen}) as machine:
        deadline = time.monotonic() + PATIENCE
        while "done" not in machine.ctl("logs", "parent").stdout:
            assert time.monotonic() < deadline
        fetch(f"{listen}/metrics")
        found = samples(fetch(f"{listen}/metrics?pss=true")[0])
        assert found["ocelot_process_tasks", "parent"] == 3
        assert found["ocelot_process_tasks", "single"] == 1
        assert found["ocelot_process_threads", "parent"] == 3
        assert found["ocelot_process_cpu_seconds_total", "parent", "user"] > 0
        assert found["ocelot_process_context_switches_total", "parent", "voluntary"] >= 1
        assert (
            0
            < found["ocelot_process_proportional_memory_bytes", "single"]
            < found["ocelot_process_virtual_memory_bytes", "single"]
        )
        assert found["ocelot_process_restarts_total", "exit", "single"] == 0
        assert found["ocelot_loop_busy_seconds_count",] >= 1
        assert found["ocelot_loop_busy_seconds_bucket", "+Inf"] == found["ocelot_loop_busy_seconds_count",]
        assert found["ocelot_machine_memory_available_bytes",] > 0


def test_openmetrics_is_given_to_those_who_ask(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with desk(tmp_path, {"web": SLEEPER}, metrics={"listen": listen}) as machine:
        machine.until(lambda found: found["web"]["state"] == "running")
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
        text, media = fetch(f"{listen}/metrics", Accept=accept)
        assert media.startswith("application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        assert samples(text, parse_openmetrics)["ocelot_process_up", "web"] == 1
        assert json.loads(fetch(f"{listen}/health")[0])["healthy"] is True


def test_a_scrape_does_not_import_a_web_server() -> None:
    code = """
import sys, trio
from tests.control.fakes import FakeMachine
from supervisor.metrics.collector import expose
assert not {"prometheus_client", "psutil"} & set(sys.modules)
for accept in ("", "application/openmetrics-text"):
    trio.run(expose, FakeMachine(), accept)
print(sorted({"http.server", "wsgiref", "prometheus_client.exposition"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus, neither installed nor unpacked: make machine")
def test_a_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    listen, web = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: ocelot, static_configs: [{{targets: ['{listen}']}}]}}]\n"
    )
    with desk(tmp_path, {"web": SLEEPER, "crashing": CRASHING}, metrics={"listen": listen}) as machine:
        settle(machine)
        command = [str(PROMETHEUS.program), f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"]
        log = (tmp_path / "prometheus.log").open("wb")
        with log, subprocess.Popen([*command, f"--web.listen-address={web}"], stdout=log, stderr=log) as prometheus:
            try:
                assert until(web, 'ocelot_process_up{process="web"}') == "1"
                assert until(web, 'ocelot_process_restarts_total{process="crashing",cause="exit"}') == "2"
                assert until(web, "up") == "1"
            finally:
                prometheus.terminate()


def until(address: str, query: str) -> str:
    """The value of ``query`` as soon as Prometheus has one."""
    deadline = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline:
        try:
            answer = json.loads(fetch(f"{address}/api/v1/query?query={urllib.request.quote(query)}")[0])  # type: ignore[attr-defined]
        except OSError:
            answer = {"data": {"result": []}}  # not listening yet
        if answer["data"]["result"]:
            return str(answer["data"]["result"][0]["value"][1])
        time.sleep(0.2)
    raise AssertionError(f"Prometheus has no value for {query}")
