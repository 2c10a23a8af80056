"""The last refusals: in their order, bounded, and repeated ones as one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sidecar.audit.record import KEY_INVALID, AuditRecord
from sidecar.lately import KEPT, KEPT_OF_STRANGERS, Lately

REFUSED = AuditRecord(
    at=1_700_000_000.0, iface="rest", endpoint="/api/order", key_id="bot", outcome="reject", reason="rate",
    message="3 orders in 60 s", decision_id="01A", address="127.0.0.1", symbol="HK.00700", side="BUY", qty=Decimal("100.0"),
)  # fmt: skip


def noted(*records: AuditRecord) -> list[dict[str, object]]:
    lately = Lately()
    for record in records:
        lately.note(record)
    return list(lately)


def test_the_latest_is_first_whosever_it_was() -> None:
    stranger = replace(REFUSED, at=REFUSED.at + 1, key_id=KEY_INVALID, reason="key_unknown")
    last = replace(REFUSED, at=REFUSED.at + 2, reason="market")
    assert [one["code"] for one in noted(REFUSED, stranger, last)] == ["market", "key_unknown", "rate"]


def test_what_is_refused_over_and_over_is_one_with_its_count_and_the_last_decision() -> None:
    again = replace(REFUSED, at=REFUSED.at + 1, decision_id="01B", message="4 orders in 60 s")
    (one,) = noted(REFUSED, again)
    assert (one["times"], one["decision_id"], one["message"]) == (2, "01B", "4 orders in 60 s")
    assert one["qty"] == "100"


def test_another_reason_symbol_or_client_is_another_refusal() -> None:
    for field, value in (("reason", "market"), ("symbol", "HK.00005"), ("address", "10.0.0.1"), ("iface", "ws")):
        assert len(noted(REFUSED, replace(REFUSED, **{field: value}))) == 2, field  # type: ignore[arg-type]


def test_strangers_who_knock_without_end_displace_no_refusal_of_a_key() -> None:
    strangers = [replace(REFUSED, at=REFUSED.at + n, key_id=KEY_INVALID, address=f"10.0.0.{n}") for n in range(200)]
    found = noted(REFUSED, *strangers)
    assert len(found) == 1 + KEPT_OF_STRANGERS
    assert found[-1]["key"] == "bot"


def test_no_more_are_kept_than_there_is_room_for() -> None:
    found = noted(*[replace(REFUSED, at=REFUSED.at + n, symbol=f"HK.{n:05}") for n in range(KEPT + 7)])
    assert len(found) == KEPT
    assert found[0]["symbol"] == f"HK.{KEPT + 6:05}"
