"""What other keys would have decided of recorded orders: what differs, what stays, and what no record can tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from sidecar.intents.model import OrderType, Side
from sidecar.ledger.clock import day_starts
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.usage import Terms
from sidecar.replaying.replay import Outcome, Replay

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp()
BOT = Key(id="bot", scopes=frozenset({Scope.TRADE_SIMULATE}))
Day = list[dict[str, Any]]


def key(**limits: Any) -> Key:
    return Key(id="bot", scopes=frozenset({Scope.TRADE_SIMULATE}), **limits)


class Audit:
    """A day as it is written: each order with what came of it."""

    def __init__(self, first: int = 1) -> None:
        self.records: Day = []
        self._first = first

    def add(self, at: float, outcome: str, **fields: Any) -> Audit:
        number = len(self.records) + self._first
        self.records.append({
            "timestamp": f"{datetime.fromtimestamp(NOON + at, UTC):%Y-%m-%dT%H:%M:%S.%f}Z", "iface": "tcp",
            "endpoint": "place_order proto_id=2202", "key_id": "bot", "outcome": outcome, "address": "127.0.0.1",
            "decision_id": f"D{number}", "acc_id": "1001001", "trd_env": "SIMULATE", "market": "HK", "symbol": "HK.00700",
            "side": "BUY", "order_type": "NORMAL", "qty": 100, "price": Decimal(4), "value": 400, "currency": "HKD",
            "seq": number, **fields,
        })  # fmt: skip
        return self

    def placed(self, at: float, order_id: int = 0, **fields: Any) -> Audit:
        self.add(at, "allow", **fields)
        decision = self.records[-1]["decision_id"]
        return self.add(at + 0.1, "success", decision_id=decision, order_id=str(order_id or at), ret_type=0, **fields)

    def refused(self, at: float, reason: str, **fields: Any) -> Audit:
        return self.add(at, "reject", **{"reason": reason, "message": "no", **fields})


def replayed(audit: Audit, of: Key | None = BOT, **options: Any) -> Outcome:
    keys = {} if of is None else {of.id: of}
    return Replay(keys, day_starts(time(0), UTC), Terms(), None, **options).run(audit.records)


def changes(outcome: Outcome) -> list[tuple[str, str]]:
    return [(one.was, one.now) for one in outcome.differences.values()]


def test_an_order_over_a_new_limit_would_have_been_refused() -> None:
    outcome = replayed(Audit().placed(0), key(max_order_value=Decimal(399)))
    assert changes(outcome) == [("allowed", "order_value")]
    (difference,) = outcome.differences.values()
    assert difference.text == "order value 400 HKD is over the limit of 399 HKD"


def test_an_order_refused_by_a_limit_that_is_wider_now_would_have_been_allowed() -> None:
    outcome = replayed(Audit().refused(0, "order_value"), key(max_order_value=Decimal(400)))
    assert changes(outcome) == [("order_value", "allowed")]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"allowed_symbols": frozenset({"US.*"})}, "symbol"),
        ({"allowed_markets": frozenset({"US"})}, "market"),
        ({"allowed_trd_sides": frozenset({Side.SELL})}, "side"),
        ({"allowed_order_types": frozenset({OrderType.MARKET})}, "order_type"),
        ({"allowed_acc_ids": frozenset({7})}, "account"),
        ({"hours_window": (HoursWindow(time(13), time(14)),), "zone": UTC}, "hours"),
        ({"max_order_qty": Decimal(99)}, "order_qty"),
        ({"expires_at": datetime(2026, 3, 1, tzinfo=UTC)}, "key_expired"),
        ({"allowed_machines": frozenset()}, "key_frozen"),
        ({"allowed_ips": ("10.0.0.0/8",)}, "ip_not_allowed"),
    ],
)
def test_every_limit_that_a_record_tells_of_is_tried(limits: dict[str, Any], code: str) -> None:
    assert changes(replayed(Audit().placed(0), key(**limits))) == [("allowed", code)]
    assert changes(replayed(Audit().refused(0, code, message="not one of this key's allowed_acc_ids"), key())) == [
        (code, "allowed")
    ]


def test_a_key_there_is_no_more_would_have_been_refused() -> None:
    assert changes(replayed(Audit().placed(0), None)) == [("allowed", "key_revoked")]


def test_what_is_used_is_counted_as_it_goes_and_what_is_refused_uses_nothing() -> None:
    audit = Audit().placed(0).placed(100).placed(200, value=100).placed(300)
    outcome = replayed(audit, key(max_daily_value=Decimal(500)))
    assert changes(outcome) == [("allowed", "daily_value")] * 2
    assert [one.recorded.at.timestamp() - NOON for one in outcome.differences.values()] == [100, 300]


def test_orders_a_minute_are_counted_over_sixty_seconds() -> None:
    audit = Audit().placed(0).placed(20).placed(59).placed(61)
    outcome = replayed(audit, key(max_orders_per_minute=2))
    assert [one.recorded.at.timestamp() - NOON for one in outcome.differences.values()] == [59]


def test_within_a_hair_of_the_windows_end_nothing_is_claimed() -> None:
    outcome = replayed(Audit().placed(0).placed(60.001), key(max_orders_per_minute=1))
    assert changes(outcome) == []
    assert sum(outcome.untold.values()) == 1


def test_the_same_order_again_is_a_duplicate() -> None:
    audit = Audit().placed(0).placed(10).placed(20, qty=200)
    assert changes(replayed(audit, key(duplicate_window_s=15))) == [("allowed", "duplicate")]


@pytest.mark.parametrize("ret_type", [{"ret_type": -1}, {}])
def test_what_opend_refused_or_failed_gives_its_value_back(ret_type: dict[str, int]) -> None:
    audit = Audit().add(0, "allow").add(1, "failure", decision_id="D1", **ret_type).placed(100)
    assert changes(replayed(audit, key(max_daily_value=Decimal(400)))) == []


def test_what_was_held_back_after_all_was_never_sent_and_differs_in_nothing() -> None:
    audit = Audit().add(0, "allow").refused(0.1, "client_gone", decision_id="D1").placed(1)
    assert changes(replayed(audit, key(max_daily_value=Decimal(400)))) == []
    alone = Audit().add(0, "allow").refused(0.1, "client_gone", decision_id="D1")
    assert changes(replayed(alone, key(max_order_value=Decimal(1)))) == []


@pytest.mark.parametrize("reason", ["trading_halted", "breaker", "upstream_unavailable", "malformed_request", "clock"])
def test_what_no_keys_would_have_changed_stays_refused(reason: str) -> None:
    outcome = replayed(Audit().refused(0, reason), key())
    assert changes(outcome) == []
    assert outcome.keys["bot"].same == 1


@pytest.mark.parametrize(
    ("limits", "fields", "why"),
    [
        ({"allow_short": False}, {"side": "SELL"}, "position_unknown"),
        ({"price_collar_pct": Decimal(5)}, {}, "price_unavailable"),
        ({"max_position_value": Decimal(10**9)}, {}, "position"),
        ({"trading_hours": True}, {}, "market_closed"),
        ({"max_order_value": Decimal(500)}, {"value": None, "currency": None}, "the value was not recorded"),
        ({"max_order_value": Decimal(500), "cap_currency": "USD"}, {}, "the value was not recorded"),
        ({"allowed_machines": frozenset({"aa"})}, {}, "on which machine"),
    ],
)
def test_what_hangs_on_a_fact_in_no_record_is_counted_and_not_guessed(
    limits: dict[str, Any], fields: dict[str, Any], why: str
) -> None:
    audit = Audit().placed(0, **fields)
    audit.records = [{name: value for name, value in one.items() if value is not None} for one in audit.records]
    outcome = replayed(audit, key(**limits))
    assert changes(outcome) == []
    assert outcome.keys["bot"].untold == 1
    assert why in " ".join(outcome.untold)


def test_a_refusal_that_can_be_told_is_told_whatever_cannot() -> None:
    limits = {"allow_short": False, "max_order_qty": Decimal(1)}
    assert changes(replayed(Audit().placed(0, side="SELL"), key(**limits))) == [("allowed", "order_qty")]


def test_a_refusal_for_want_of_a_fact_is_not_said_to_be_allowed_now() -> None:
    outcome = replayed(Audit().refused(0, "price_unavailable"), key())
    assert changes(outcome) == []
    assert outcome.untold == {"price_unavailable: no record says why": 1}


def test_an_order_without_a_recorded_value_can_be_counted_at_its_limit_when_that_is_asked_for() -> None:
    audit = Audit().placed(0)
    for one in audit.records:
        del one["value"], one["currency"]
    assert changes(replayed(audit, key(max_order_value=Decimal(399)), at_limit=True)) == [("allowed", "order_value")]


def test_a_change_counts_by_its_increase_and_as_the_whole_order_it_leads_to() -> None:
    change = {"op": "modify", "order_id": "7", "qty": 200, "value": 800, "endpoint": "modify_order proto_id=2205"}
    audit = Audit().placed(0, 7).add(10, "allow", **change)
    assert changes(replayed(audit, key(max_daily_value=Decimal(800)))) == []
    assert changes(replayed(audit, key(max_daily_value=Decimal(799)))) == [("allowed", "daily_value")]
    assert changes(replayed(audit, key(max_order_value=Decimal(799)))) == [("allowed", "order_value")]


def test_a_change_of_an_order_that_would_not_have_been_placed_cannot_be_told() -> None:
    change = {"op": "modify", "order_id": "7", "qty": 50, "value": 200}
    outcome = replayed(Audit().placed(0, 7).add(10, "allow", **change), key(max_order_value=Decimal(300)))
    assert changes(outcome) == [("allowed", "order_value")]
    assert outcome.untold == {"the order it is about would not have been placed": 1}


def test_cancels_pass_as_they_did() -> None:
    audit = Audit().placed(0, 7).add(10, "allow", op="cancel", order_id="7", symbol="HK.00700")
    assert changes(replayed(audit, key(max_order_value=Decimal(400), max_daily_value=Decimal(400)))) == []


def test_legs_of_a_combo_are_tried_one_by_one() -> None:
    audit = Audit().add(0, "allow", symbol="BUY 1 US.AAPL + SELL 1 US.MSFT", market="US", price=Decimal(-3))
    del audit.records[0]["side"]
    allowed = key(allowed_symbols=frozenset({"US.AAPL", "US.MSFT"}))
    assert changes(replayed(audit, allowed)) == []
    assert changes(replayed(audit, key(allowed_symbols=frozenset({"US.AAPL"})))) == [("allowed", "symbol")]


def test_an_order_for_more_than_regular_hours_is_known_by_its_session() -> None:
    audit = Audit().placed(0, session="ETH").placed(100)
    assert changes(replayed(audit, key(extended_hours=False))) == [("allowed", "extended_hours")]


def test_where_the_records_do_not_begin_at_the_beginning_nothing_is_claimed_of_what_was_used_before() -> None:
    limits = {"max_daily_value": Decimal(900)}
    outcome = replayed(Audit(first=5).placed(0), key(**limits))
    assert changes(outcome) == []
    assert outcome.keys["bot"].untold == 1
    over = replayed(Audit(first=5).placed(0).placed(10).placed(20), key(**limits))
    assert changes(over) == [("allowed", "daily_value")], "what is known is too much already"
    next_day = replayed(Audit(first=5).placed(0).placed(86_400), key(**limits))
    assert next_day.keys["bot"].same == 1


def test_a_repeat_and_a_sum_of_refusals_decide_nothing() -> None:
    audit = Audit().placed(0).add(1, "allow", message="a repeat, answered with the outcome of decision D1")
    audit.refused(2, "rate", count=7)
    outcome = replayed(audit, key(max_daily_value=Decimal(400)))
    assert changes(outcome) == []
    assert outcome.keys["bot"].untold == 7


def test_records_written_a_little_out_of_order_are_taken_in_the_order_of_their_decisions() -> None:
    audit = Audit().placed(0).placed(100)
    straight = replayed(audit, key(max_daily_value=Decimal(400)))
    audit.records.reverse()
    audit.records.sort(key=_reversed_pairs(audit.records))
    turned = replayed(audit, key(max_daily_value=Decimal(400)))
    assert list(straight.differences) == list(turned.differences)


def _reversed_pairs(records: Day) -> Callable[[dict[str, Any]], int]:
    return lambda record: -int(record["seq"]) if record["seq"] > 1 else -(10**6)


@pytest.mark.parametrize("text", [{"timestamp": "soon"}, {"order_type": "NONE"}, {"acc_id": "x"}])
def test_a_record_that_cannot_be_read_is_left_out(text: dict[str, Any]) -> None:
    assert replayed(Audit().add(0, "allow", **text), key(max_order_value=Decimal(1))).decisions == 0
