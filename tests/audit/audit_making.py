"""What the audit's tests are made of: records, and files that hold a chain of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.audit.chain import GENESIS, Head, link
from sidecar.audit.log import AuditLog
from sidecar.audit.record import AuditRecord

NOON = 1_750_000_000.0 // 86_400 * 86_400 + 43_200


def record(**changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "at": NOON,
        "iface": "tcp",
        "endpoint": "place_order proto_id=2202",
        "key_id": "sim-bot",
        "outcome": "allow",
        "decision_id": "01J00000000000000000000001",
        "acc_id": 281_756_455_998_014_447,
        "qty": Decimal(100),
        "price": Decimal("350.10"),
    }
    return AuditRecord(**{**fields, **changes})


def refusal(**changes: Any) -> AuditRecord:
    return record(**{"outcome": "reject", "reason": "order_value", "address": "10.0.0.7", **changes})


def chain(count: int, head: Head = GENESIS) -> tuple[list[bytes], Head]:
    lines = []
    for number in range(count):
        line, head = link(record(at=NOON + number, message=f"record number {number}").fields(), head)
        lines.append(line)
    return lines, head


def write_chain(path: Path, count: int, head: Head = GENESIS) -> Head:
    lines, head = chain(count, head)
    path.write_bytes(b"".join(lines))
    return head


def open_log(
    path: Path, known: Head | None = None, closed: bool = False, **settings: Any
) -> tuple[AuditLog, list[str]]:
    """The open log, and the reasons of what it found out of order."""
    log = AuditLog(path, **{"min_free": 0, "clock": lambda: NOON, **settings})
    found = log.open(known, closed)
    if found:
        log.append(found, sync=True)
    return log, [str(each.reason) for each in found]
