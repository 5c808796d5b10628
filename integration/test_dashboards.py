"""The alert rules, tried by promtool: each fires when it should, and only then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from integration.lab import cache

PROMTOOL = cache.daemon("prometheus", "/usr/bin/promtool")
CASES = Path(__file__).with_name("alerts_test.yml")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="no promtool, neither installed nor unpacked: make machine")


def try_rules(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yml").write_text(rules)
    (folder / "cases.yml").write_text("rule_files: [rules.yml]\n" + CASES.read_text())
    command = [str(PROMTOOL.program), "test", "rules", "cases.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def printed(what: str) -> str:
    command = [sys.executable, "-m", "ocelot", "monitoring", what]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    rules = printed("alerts")
    assert rules.count("- alert:") == CASES.read_text().count("alertname:") - 2  # two are also tried while all is well
    done = try_rules(tmp_path, rules)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cases_notice_a_wrong_rule(tmp_path: Path) -> None:
    wrong = printed("alerts").replace('state="fatal"', 'state="backoff"')
    assert try_rules(tmp_path, wrong).returncode == 1
