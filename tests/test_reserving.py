"""What the ledger is told of an approved request: the whole order it leads to, and what that adds."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from sidecar.intents.model import (
    AccountRef,
    ComboLeg,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.ledger.reservation import Reservation
from sidecar.policy.decision import Decision, Worth
from sidecar.policy.usage import Approved, Facts
from sidecar.reserving import reservation_of

HERE = AccountRef(1001, TrdEnv.SIMULATE)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
APPLE, MICROSOFT = Security("US", "US.AAPL", 11, "AAPL", 2), Security("US", "US.MSFT", 11, "MSFT", 2)
ORDER = PlaceOrder(HERE, TENCENT, Side.SELL, OrderType.NORMAL, Decimal(100), Decimal(500), remark="mine")
COMBO = PlaceCombo(
    HERE, (ComboLeg(APPLE, Side.BUY, Decimal(1)), ComboLeg(MICROSOFT, Side.SELL, Decimal(2))),
    OrderType.NORMAL, Decimal(10), Decimal(-1),
)  # fmt: skip
RESTING = RestingOrder(ORDER, 7, "EX7", Decimal(40))
NOTHING_COUNTED = Decision(())
NOTHING_KNOWN = Facts()


def made(
    intent: PlaceOrder | PlaceCombo | ModifyOrder, facts: Facts = NOTHING_KNOWN, decision: Decision = NOTHING_COUNTED
) -> Reservation:
    return reservation_of("01J", "bot", 1.0, intent, facts, decision, "#01J")


def change(op: ModifyOp = ModifyOp.NORMAL, qty: int | None = None) -> ModifyOrder:
    return ModifyOrder(HERE, op, OrderRef(0, "EX7"), None if qty is None else Decimal(qty))


def test_a_new_order_adds_all_of_itself() -> None:
    found = made(ORDER, decision=Decision((), Worth(Decimal(50_000), "HKD", ""), Decimal(50_000)))
    assert (found.kind, found.qty, found.adds, found.added) == ("place", Decimal(100), None, Decimal(100))
    assert (found.value, found.currency, found.order_id, found.order_id_ex) == (Decimal(50_000), "HKD", 0, "")


@pytest.mark.parametrize(("qty", "adds"), [(150, 50), (100, 0), (60, 0), (None, 0)])
def test_a_change_is_kept_as_the_order_it_leads_to_and_adds_the_increase(qty: int | None, adds: int) -> None:
    found = made(change(qty=qty), Facts(resting=RESTING))
    assert (found.kind, found.qty, found.added) == ("modify", Decimal(qty or 100), Decimal(adds))
    assert (found.symbol, found.side, found.order_id, found.order_id_ex) == ("HK.00700", Side.SELL, 7, "EX7")


def test_the_value_of_a_change_is_what_counts_against_the_day() -> None:
    found = made(
        change(qty=150), Facts(resting=RESTING), Decision((), Worth(Decimal(75_000), "HKD", ""), Decimal(25_000))
    )
    assert found.value == Decimal(25_000)


def test_enabling_adds_the_whole_order() -> None:
    found = made(change(ModifyOp.ENABLE), Facts(resting=RESTING))
    assert (found.kind, found.added) == ("enable", Decimal(100))


@pytest.mark.parametrize("op", [ModifyOp.DISABLE, ModifyOp.DELETE])
def test_disabling_adds_nothing_and_approves_no_more_than_there_was(op: ModifyOp) -> None:
    facts = Facts(resting=RESTING, approved=Approved(Decimal(60)))
    found = made(change(op), facts)
    assert (found.kind, found.added, found.qty) == ("modify", Decimal(0), Decimal(60))
    assert made(change(op), replace(facts, approved=None)).qty == Decimal(100)


def test_the_increase_counts_from_the_smallest_the_order_may_be() -> None:
    found = made(change(qty=150), Facts(resting=RESTING, approved=Approved(Decimal(60))))
    assert found.added == Decimal(90)


def test_a_combo_keeps_what_each_leg_trades() -> None:
    found = made(COMBO)
    assert (found.market, found.side, found.symbol) == ("US", None, "BUY 1 US.AAPL + SELL 2 US.MSFT")
    assert [(leg.symbol, leg.qty) for leg in found.legs] == [("US.AAPL", Decimal(10)), ("US.MSFT", Decimal(20))]


def test_a_changed_combo_keeps_what_each_leg_trades_more() -> None:
    found = made(change(qty=15), Facts(resting=RestingOrder(COMBO, 7, "EX7")))
    assert [(leg.symbol, leg.qty) for leg in found.legs] == [("US.AAPL", Decimal(5)), ("US.MSFT", Decimal(10))]


def test_a_change_of_an_order_that_is_not_known_cannot_be_reserved() -> None:
    with pytest.raises(ValueError, match="not known"):
        made(change(qty=1))
