"""The alert rules: valid, tested by promtool whether they fire, and about metrics that there are."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from prometheus_server import DEPLOYED
from real_parts import PROJECT, need_program
from shown_metrics import shown, unknown_in

RULES = sorted((DEPLOYED / "rules").glob("*.yml"))
TESTS = sorted((DEPLOYED / "tests").glob("*.yml"))


def alerts() -> dict[str, dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def cases() -> list[tuple[str, bool]]:
    """Alert and whether it fires, of each case in tests/."""
    tests = [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    return [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run([need_program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real_part
def test_promtool_reads_the_configuration_and_the_rules_it_names() -> None:
    promtool("check", "config", str(DEPLOYED / "prometheus.yml"))
    promtool("check", "rules", *map(str, RULES))


@pytest.mark.real_part
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", *map(str, TESTS))


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    tried = cases()
    assert {name for name, fires in tried if fires} == set(alerts())
    assert {name for name, fires in tried if not fires} == set(alerts())


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_is_about_metrics_and_labels_that_there_are(name: str) -> None:
    assert unknown_in(alerts()[name]["expr"]) == set()


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("sidecar_audit_okay == 0", {"sidecar_audit_okay"}),
        ('sidecar_refusals_total{reason="rate"}', {"sidecar_refusals_total{reason}"}),
        ("sum by (proto) (sidecar_refusals_total)", {"by proto"}),
        ("sidecar_stage_seconds_bucket{le='1'} / sidecar_keys_ok", set()),
    ],
)
def test_a_metric_or_a_label_that_there_is_not_would_be_noticed(expr: str, wrong: set[str]) -> None:
    assert unknown_in(expr) == wrong


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert set(rule["annotations"]) == {"summary", "action"}, name


def test_the_guide_explains_every_alert_and_no_other() -> None:
    text = (PROJECT / "docs/monitoring.md").read_text()
    assert set(re.findall(r"(?m)^\| `([A-Z]\w+)` \|", text)) == set(alerts())


def test_the_guide_has_every_metric_with_its_labels() -> None:
    table = (PROJECT / "docs/monitoring.md").read_text().partition("## Metrics")[2]
    rows = re.findall(r"(?m)^\| `((?:futu|sidecar)_\w+)` \|([^|]*)\|", table)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    there = {
        name.removesuffix("_bucket"): labels - {"le"}
        for name, labels in shown().items()
        if name.startswith(("futu_", "sidecar_")) and not name.endswith(("_count", "_sum"))
    }
    assert told == there
