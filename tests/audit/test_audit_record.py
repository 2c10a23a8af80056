"""What one line says, and that people's own queries work on it."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from audit_making import NOON, chain, open_log, record, refusal
from hypothesis import given
from hypothesis import strategies as st
from real_parts import need_program

from sidecar.audit.record import KEY_MISSING, AuditRecord, endpoint_name, timestamp, to_json


def read(made: AuditRecord) -> dict[str, object]:
    found: dict[str, object] = json.loads(to_json(made.fields()), parse_float=Decimal, parse_int=Decimal)
    return found


def test_a_record_has_the_fields_people_know_and_leaves_out_what_is_absent() -> None:
    assert json.loads(to_json(refusal(at=0.000001, qty=None, price=None, message="too much").fields())) == {
        "timestamp": "1970-01-01T00:00:00.000001Z",
        "level": "WARN",
        "target": "futu_audit",
        "iface": "tcp",
        "endpoint": "place_order proto_id=2202",
        "key_id": "sim-bot",
        "outcome": "reject",
        "reason": "order_value",
        "message": "too much",
        "decision_id": "01J00000000000000000000001",
        "address": "10.0.0.7",
        "acc_id": "281756455998014447",
    }


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("allow", "INFO"), ("success", "INFO"), ("reject", "WARN"), ("failure", "WARN"), ("unknown", "WARN")],
)
def test_the_level_follows_the_outcome(outcome: str, level: str) -> None:
    assert read(record(outcome=outcome))["level"] == level


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_money_is_an_exact_json_number(amount: Decimal) -> None:
    found = read(record(value=amount))["value"]
    assert isinstance(found, Decimal)
    assert found == amount


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_number_becomes_a_string_and_the_line_stays_json(amount: str) -> None:
    assert read(record(value=Decimal(amount)))["value"] == amount


@given(st.text())
def test_any_text_gives_one_line_of_json(text: str) -> None:
    line = to_json(record(message=text, address=text).fields())
    assert b"\n" not in line
    assert read(record(message=text))["message"] == text


def test_text_that_is_not_unicode_is_still_recorded() -> None:
    assert read(record(message="a\ud800b"))["message"] == "a\\ud800b"


@given(st.floats(0, 4e9))
def test_timestamps_are_rfc3339_in_utc_with_microseconds(at: float) -> None:
    text = timestamp(at)
    assert len(text) == 27
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text).timestamp() - at) < 0.000_002


@pytest.mark.parametrize(
    ("name", "proto_id", "endpoint"),
    [
        ("Trd_PlaceOrder", 2202, "place_order proto_id=2202"),
        ("Trd_ModifyOrder", 2205, "modify_order proto_id=2205"),
        ("Trd_PlaceComboOrder", 2227, "place_combo_order proto_id=2227"),
        ("Qot_GetKL", 3006, "get_kl proto_id=3006"),
        ("Qot_RequestHistoryKLQuota", 3104, "request_history_kl_quota proto_id=3104"),
        ("InitConnect", 1001, "init_connect proto_id=1001"),
    ],
)
def test_endpoints_read_like_words(name: str, proto_id: int, endpoint: str) -> None:
    assert endpoint_name(name, proto_id) == endpoint


def test_the_queries_people_use_work_on_every_line(tmp_path: Path) -> None:
    need_program("jq")
    path = tmp_path / "audit.jsonl"
    log, _ = open_log(path)
    log.append(
        [
            record(),
            record(outcome="success", order_id=2**63),
            refusal(),
            refusal(reason="rate"),
            refusal(key_id=KEY_MISSING, endpoint="/api/quote", reason="key_missing"),
            log.about("audit_torn", "failure", "about itself"),
        ],
        sync=True,
    )

    def jq(query: str) -> list[object]:
        done = subprocess.run(["jq", "-c", query, str(path)], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert len(jq('select(.outcome=="reject")')) == 3
    assert len(jq('select(.key_id=="sim-bot" and (.endpoint|test("order")))')) == 4
    assert len(jq('select(.endpoint|test("order"))')) == 4
    assert jq('select(.outcome=="reject") | .reason') == ["order_value", "rate", "key_missing"]
    assert jq("select(.order_id) | .order_id") == [str(2**63)]
    assert jq("select(.seq == 1) | .price * 2") == [700.2]
    assert jq(f'select(.timestamp >= "{timestamp(NOON)}") | .seq') == [1, 2, 3, 4, 5, 6]


def test_no_field_can_hold_a_secret() -> None:
    """A new field must be thought about here: what a client sends as a secret has no place in a record."""
    assert set(AuditRecord.__dataclass_fields__) == {
        *("at", "iface", "endpoint", "key_id", "outcome", "reason", "message", "scope", "args_hash", "decision_id"),
        *("policy", "address", "acc_id", "trd_env", "market", "symbol", "side", "order_type", "qty", "price", "value"),
        *("currency", "order_id", "order_id_ex", "op", "session", "ret_type", "latency_us", "count", "essential"),
    }


def test_the_example_lines_chain() -> None:
    lines, head = chain(3)
    assert head.seq == 3
    assert all(line.endswith(b'"}\n') for line in lines)
