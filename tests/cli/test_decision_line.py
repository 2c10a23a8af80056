"""Records of the audit as lines for people, and the reading of a file that grows, stops in mid-line and is rotated."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.audit.log import AuditLog
from sidecar.audit.record import AuditRecord
from sidecar.cli.decision_line import Following, Record, line_of, record_of

ORDER = AuditRecord(
    at=0.0,
    iface="tcp",
    endpoint="place_order proto_id=2202",
    key_id="bot",
    outcome="allow",
    market="HK",
    symbol="HK.00700",
    side="SELL",
    qty=Decimal("100.0"),
    price=Decimal("0.50"),
    value=Decimal("50.00"),
    currency="HKD",
)


def told(record: AuditRecord) -> str:
    """The line without its time."""
    read: Record = json.loads(json.dumps(record.fields(), default=str), parse_float=Decimal)
    numbers = {name: Decimal(read[name]) for name in ("qty", "price", "value") if name in read}
    return line_of({**read, **numbers}).plain.partition(" ")[2]


def test_an_allowed_order_is_told_with_its_value() -> None:
    assert told(ORDER) == "✓ bot place_order HK.00700 SELL 100 × 0.5 = 50 HKD → allowed"


def test_an_order_without_a_price_is_told_without_one() -> None:
    market_order = replace(ORDER, price=None, value=None, currency=None)
    assert told(market_order) == "✓ bot place_order HK.00700 SELL 100 → allowed"


def test_a_refusal_is_told_with_its_code() -> None:
    refused = replace(ORDER, outcome="reject", reason="side", message="side SELL is not allowed")
    assert told(refused).startswith("✗ bot place_order ")
    assert told(refused).endswith("→ side: side SELL is not allowed")


def test_what_opend_says_is_told_as_its_words() -> None:
    assert told(replace(ORDER, outcome="success", order_id=77, ret_type=0)).endswith("→ OpenD took it as order 77")
    failed = replace(ORDER, outcome="failure", message="no such lot", ret_type=-1)
    assert told(failed).endswith("→ OpenD refused it: no such lot")
    assert told(failed).startswith("✗")
    lost = told(replace(ORDER, outcome="unknown", message="the connection broke"))
    assert lost.startswith("?")
    assert lost.endswith("→ what became of it is unknown: the connection broke")


def test_a_cancel_names_the_order() -> None:
    cancel = AuditRecord(
        at=0.0, iface="tcp", endpoint="modify_order proto_id=2205", key_id="bot", outcome="success", order_id=77
    )
    assert told(cancel) == "✓ bot modify_order order 77 → OpenD did it"


def test_what_clients_wrote_cannot_move_the_cursor() -> None:
    nasty = replace(ORDER, symbol="HK.\x1b[2J\x9b0700", outcome="reject", reason="symbol", message="`\x1b]0;x\x07`")
    line = told(nasty)
    assert line.isprintable()
    assert "HK.\N{REPLACEMENT CHARACTER}[2J" in line


def test_a_line_is_read_when_its_end_is_there(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    following = Following(path)
    assert following.new() == []
    first, second = ORDER.line(), replace(ORDER, price=Decimal("2.50")).line()
    path.write_text(f"{first}\n{second[:40]}")
    assert following.new() == [json.loads(first, parse_float=Decimal)]
    assert following.new() == []
    with path.open("a") as file:
        file.write(f"{second[40:]}\n")
    assert [one["price"] for one in following.new()] == [Decimal("2.50")]
    following.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"timestamp": 5}, {"timestamp": "soon"}, {"timestamp": "9999-12-31T23:59:59-14:00"}, {"iface": None}, {"endpoint": " "},
        {"endpoint": 7}, {"key_id": []}, {"reason": None}, {"symbol": {}}, {"op": 3}, {"value": "much"}, {"value": None}, {"qty": [1]},
    ],
)  # fmt: skip
def test_a_line_that_somebody_edited_is_no_record(changed: dict[str, object]) -> None:
    fields = json.loads(ORDER.line())
    assert record_of(json.dumps(fields).encode()) is not None
    assert record_of(json.dumps(fields | changed).encode()) is None


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"outcome":"allow","timestamp":"2026-03-02"}']
)
def test_a_line_of_something_else_is_no_record(line: bytes) -> None:
    assert record_of(line) is None


def test_a_number_that_would_fill_the_disk_with_zeros_is_no_record() -> None:
    line = ORDER.line().replace('"price":', '"price":1e999999999,"was":')
    assert "1e999999999" in line
    assert record_of(line.encode()) is None


def test_rotation_loses_and_repeats_nothing(tmp_path: Path) -> None:
    now = time.time()
    audit = AuditLog(tmp_path / "audit.jsonl", min_free=0, clock=lambda: now)
    audit.open(None, False)
    following = Following(audit.path)
    audit.append([replace(ORDER, at=now, decision_id="1")], sync=False)
    seen = following.new()
    audit.append([replace(ORDER, at=now, decision_id="2")], sync=False)
    now += 86_400
    audit.append([replace(ORDER, at=now, decision_id="3")], sync=False)
    audit.close()
    assert len(list(tmp_path.iterdir())) == 2
    for _ in range(3):
        seen += following.new()
    following.close()
    assert [one["decision_id"] for one in seen] == ["1", "2", "3"]
