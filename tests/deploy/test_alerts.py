"""The alerts ask for what the server exports, fire when they should, and say what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from context_store import errors
from server.contexts.cache import Outcome
from server.contexts.handle import Status
from tests.support.metric_names import asked_for, exported

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/prometheus/alerts.yaml"
CASES = Path(__file__).parent / "alerts.yaml"
RULES: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["groups"][0]["rules"]
VALUES = {
    "code": {code.name for code in grpc.StatusCode},
    "status": {status.name for status in Status},
    "window_outcome": {outcome.value for outcome in Outcome},
    "store_outcome": {"abandoned", *(name for name in vars(errors) if name.endswith("Error"))},
}


def promtool(*arguments: str | Path) -> str:
    """What Prometheus' own checker says. Fails the test where that is an objection."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian and Ubuntu: apt install prometheus)")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_there_and_leads_to_a_page(rule: dict[str, Any]) -> None:
    asked = asked_for(rule["expr"])
    assert asked <= exported() and (asked or rule["alert"] == "CarryoverDown")
    for series, label, text in re.findall(r'(\w+)\{\s*(\w+)=~?"([^"]+)"', rule["expr"]):
        if label != "job":
            kind = re.sub("^outcome$", "store_outcome" if "store" in series else "window_outcome", label)
            assert set(text.split("|")) <= VALUES[kind], text
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower() and f"\n### {rule['alert']}\n" in (ROOT / page).read_text()


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", FILE)


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    calm, *_, wrong = yaml.safe_load(CASES.read_text())["tests"]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in calm["alert_rule_test"]} == names
    assert {case["alertname"] for case in wrong["alert_rule_test"] if case.get("exp_alerts")} == names
    promtool("test", "rules", CASES)
