"""The audit is read with jq, as the operators' instructions have it: refusals, one key's orders, counts by reason."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import block
from live import Stage, eventually
from real_parts import need_program


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The audit after `sim-bot` placed, cancelled and was refused orders, and `research` tried one."""
    with Stage(tmp_path_factory.mktemp("audit")) as stage:
        limits = {"allowed_markets": ["HK"], "max_order_value": 100000, "max_orders_per_minute": 3}
        bot_key = stage.keys.add("sim-bot", "qot:read", "acc:read", "trade:simulate", **limits)
        research_key = stage.keys.add("research", "qot:read", "acc:read")
        sandbox = stage.sandbox(tick_interval=0)
        sidecar = stage.sidecar(sandbox.port)
        sdk = stage.sdk(sidecar.port, bot_key)
        sdk.open("trade", "trade")
        first = sdk.place("HK.00700", 400, 100)
        assert first.ok, first.data
        assert sdk.cancel(first.data[0]["order_id"]).ok
        assert sdk.place("HK.00700", 400, 200).ok
        assert sdk.place("HK.00700", 400, 300).code() == "order_value"
        assert sdk.place("US.AAPL", 180, 1).code() == "market"
        assert sdk.place("HK.00700", 400, 100).ok
        assert sdk.place("HK.00700", 400, 100).code() == "rate"
        sdk.close("trade")
        sdk.open("trade", "trade", key=research_key)
        assert sdk.place("HK.00700", 400, 100).code() == "scope"
        eventually(lambda: len(sidecar.audit(outcome="reject")) == 4, 3, "four refusals in the audit")
        eventually(lambda: len(sidecar.audit(outcome="success")) == 4, 3, "four outcomes in the audit")
        yield sidecar.audit_file


def shell(pipeline: str) -> str:
    """A pipeline as an operator types it; jq must not fail anywhere in it."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-ec", pipeline], capture_output=True, text=True, check=True
    ).stdout


def test_the_latest_refusals(audit: Path) -> None:
    jq = need_program("jq")
    shown = shell(f"""{jq} -c 'select(.outcome=="reject")' {audit} | tail -20""").splitlines()
    assert len(shown) == 4
    assert all('"level":"WARN"' in line and '"target":"futu_audit"' in line for line in shown)


def test_all_that_was_done_with_one_key_about_orders(audit: Path) -> None:
    """jq reads `a and b|test(...)` as `(a and b)|test(...)`, an error on any boolean; with brackets it is what was meant."""
    jq = need_program("jq")
    query = 'select(.key_id=="sim-bot" and (.endpoint|test("order")))'
    lines = shell(f"""{jq} -c '{query}' {audit}""").splitlines()
    assert all('"key_id":"sim-bot"' in line for line in lines)
    placed = shell(
        f"""{jq} -r '{query} | select(.outcome=="success" and (.endpoint|test("place"))) | .order_id_ex' {audit}"""
    )
    assert len(placed.split()) == 3
    # three orders and a cancel approved and answered, three refusals
    assert len(lines) == 4 * 2 + 3


def test_refusals_counted_by_reason(audit: Path) -> None:
    jq = need_program("jq")
    counted = shell(f"""{jq} -r 'select(.outcome=="reject") | .reason' {audit} | sort | uniq -c | sort -rn""")
    counts = {line.split()[1]: int(line.split()[0]) for line in counted.splitlines()}
    assert counts == {"order_value": 1, "market": 1, "rate": 1, "scope": 1}


def test_the_lines_of_the_page_on_the_audit_answer_what_they_say(audit: Path) -> None:
    need_program("jq")
    lines = block("docs/audit.md", "sh", "jq")
    assert lines.startswith("cd ~/.local/state/opend-sidecar\n")
    said = shell(lines.replace("~/.local/state/opend-sidecar", str(audit.parent), 1)).splitlines()
    refusals = [line for line in said if line.startswith("{")]
    count, *by_reason = [line.split() for line in said if not line.startswith("{")]
    assert len(refusals) == 4
    assert count == ["3"]  # two that stayed and one that was cancelled
    assert sorted(by_reason) == [["1", "market"], ["1", "order_value"], ["1", "rate"], ["1", "scope"]]
