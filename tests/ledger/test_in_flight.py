"""What the orders of an account may still buy and sell: never less than is true, over all keys, changes and combos."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_making import ACCOUNT, NOON, Clock, MemoryStore, open_ledger, reservation

from sidecar.intents.model import OrderType, Side
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import LegUnits, Row, State

SYMBOL = "HK.00700"
LAG = 3.0


def in_flight(ledger: Ledger, symbol: str = SYMBOL, sequence: int | None = None) -> tuple[int, int] | None:
    """Bought and sold, beside a fact of this very moment."""
    found = ledger.exposure.in_flight(ACCOUNT, symbol, ledger.sequence if sequence is None else sequence)
    return None if found is None else (int(found[0]), int(found[1]))


def placed(ledger: Ledger, order_id: int, clock: Clock | None = None, **changes: Any) -> str:
    made = reservation(NOON if clock is None else clock.now, **changes)
    ledger.reserve(made)
    ledger.forwarded(made.decision_id)
    ledger.accepted(made.decision_id, order_id, f"EX{order_id}")
    return made.decision_id


def test_nothing_is_in_flight_without_orders() -> None:
    assert in_flight(open_ledger()) == (0, 0)


def test_the_orders_of_all_keys_count_and_only_in_their_account_and_symbol() -> None:
    ledger = open_ledger()
    placed(ledger, 1)
    placed(ledger, 2, key_id="other", qty=Decimal(5))
    placed(ledger, 3, side=Side.SELL, qty=Decimal(7))
    placed(ledger, 4, side=Side.SELL_SHORT, qty=Decimal(1))
    placed(ledger, 5, side=Side.BUY_BACK, qty=Decimal(2))
    placed(ledger, 6, symbol="HK.09988")
    placed(ledger, 7, acc_id=ACCOUNT + 1)
    assert in_flight(ledger) == (17, 8)
    assert (ledger.open_orders("bot"), ledger.open_orders("other"), ledger.open_orders("nobody")) == (6, 1, 0)


def test_a_sale_that_waits_for_its_trigger_is_told_as_long_as_it_is_open() -> None:
    ledger = open_ledger()
    placed(ledger, 1, side=Side.SELL)
    placed(ledger, 2, side=Side.BUY, order_type=OrderType.STOP)
    assert not ledger.exposure.sales_kept_back(ACCOUNT, SYMBOL)
    placed(ledger, 3, side=Side.SELL, order_type=OrderType.STOP, key_id="other")
    more = reservation(
        NOON, side=Side.SELL, order_type=OrderType.STOP, kind="modify", adds=Decimal(1), order_id=3, order_id_ex="EX3"
    )
    ledger.reserve(more)
    assert ledger.exposure.sales_kept_back(ACCOUNT, SYMBOL)
    assert not ledger.exposure.sales_kept_back(ACCOUNT, "HK.09988") and not ledger.exposure.sales_kept_back(
        ACCOUNT + 1, SYMBOL
    )
    ledger.order_ended(ACCOUNT, 3, "EX3")
    assert not ledger.exposure.sales_kept_back(ACCOUNT, SYMBOL)


def test_a_combo_counts_by_its_legs() -> None:
    ledger = open_ledger()
    legs = (LegUnits(SYMBOL, Side.BUY, Decimal(300)), LegUnits("HK.TCH261230C500000", Side.SELL, Decimal(3)))
    placed(ledger, 1, symbol="a combo", side=None, qty=Decimal(3), legs=legs)
    assert in_flight(ledger) == (300, 0)
    assert in_flight(ledger, "HK.TCH261230C500000") == (0, 3)
    assert ledger.open_orders("bot") == 1


def test_an_order_of_unknown_legs_cannot_be_counted() -> None:
    ledger = open_ledger()
    placed(ledger, 1, symbol="a combo", side=None)
    assert in_flight(ledger) is None


def test_changes_count_by_what_they_add_as_long_as_the_order_is_open() -> None:
    ledger = open_ledger()
    placed(ledger, 1)
    for qty, adds in ((15, 5), (8, 0), (20, 12)):
        ledger.reserve(reservation(kind="modify", order_id_ex="EX1", qty=Decimal(qty), adds=Decimal(adds)))
    assert in_flight(ledger) == (27, 0)
    assert ledger.open_orders("bot") == 1
    ledger.order_ended(ACCOUNT, 1, "")
    assert in_flight(ledger) == (0, 0)
    assert ledger.doubts.unsettled(ACCOUNT) == []


def test_changes_of_an_order_that_no_key_placed_end_with_it_whichever_id_they_name() -> None:
    ledger = open_ledger()
    ledger.reserve(reservation(kind="modify", order_id=1, qty=Decimal(15), adds=Decimal(5)))
    ledger.reserve(reservation(kind="modify", order_id_ex="EX1", qty=Decimal(20), adds=Decimal(5)))
    assert in_flight(ledger) == (10, 0)
    ledger.order_ended(ACCOUNT, 1, "EX1")
    assert in_flight(ledger) == (0, 0)


@pytest.mark.parametrize("state", ["refused", "failed", "released"])
def test_what_never_was_or_failed_is_not_in_flight(state: str) -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    {"refused": ledger.refused_by_opend, "failed": ledger.order_failed, "released": ledger.release}[state](
        made.decision_id
    )
    assert in_flight(ledger) == (0, 0)
    assert ledger.open_orders("bot") == 0


def test_an_order_that_ended_after_the_fact_was_asked_for_may_not_be_in_it_yet() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    placed(ledger, 1)
    clock.pass_(100)
    asked = ledger.sequence
    ledger.order_ended(ACCOUNT, 1, "EX1")
    assert in_flight(ledger, sequence=asked) == (10, 0)
    assert in_flight(ledger) == (0, 0)
    assert ledger.exposure.selling_since(ACCOUNT, SYMBOL, asked) == 0, "what can be sold shows it as long as it works"


def test_over_a_restart_the_open_stay_open_the_ended_ended_and_the_just_ended_count() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    for number in (1, 2, 3):
        placed(ledger, number, clock, qty=Decimal(10**number))
    ledger.order_ended(ACCOUNT, 1, "EX1")
    clock.pass_(500)
    ledger.order_ended(ACCOUNT, 2, "EX2")
    store.commit(ledger.take())
    clock.pass_(1)
    ledger = open_ledger(store, clock)
    assert ledger.open_orders("bot") == 1
    assert in_flight(ledger) == (1000, 0)
    assert in_flight(ledger, sequence=ledger.sequence_before(LAG)) == (1100, 0)
    clock.pass_(LAG)
    assert in_flight(ledger, sequence=ledger.sequence_before(LAG)) == (1000, 0)


def test_an_order_that_rests_for_months_is_still_counted_after_a_restart() -> None:
    store = MemoryStore()
    store.rows["old"] = Row(reservation(NOON - 80 * 86_400, decision_id="old"), State.ACCEPTED, 1, "EX1")
    store.rows["new"] = Row(reservation(NOON, decision_id="new"), State.ACCEPTED, 2, "EX2", ended=NOON - 500)
    ledger = open_ledger(store)
    assert ledger.open_orders("bot") == 1
    assert in_flight(ledger) == (10, 0)


# Never less than is true


@dataclass
class Order:
    placed: float
    qty: int
    filled: float
    """When it is filled, all at once."""
    told: float
    """When that is heard."""


seconds = st.floats(0, 20, allow_nan=False).map(lambda number: round(number, 2))
orders = st.builds(
    lambda placed, qty, filled, told: Order(placed, qty, placed + filled, placed + filled + told),
    seconds, st.integers(1, 1000), seconds, st.floats(0, 10).map(lambda number: round(number, 2)),
)  # fmt: skip


@given(
    made=st.lists(orders, max_size=6),
    asked=seconds,
    answered=st.floats(0, 2),
    behind=st.floats(0, LAG),
    restarts=st.lists(seconds, max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_what_is_held_and_in_flight_is_never_less_than_what_may_be_held(
    made: list[Order], asked: float, answered: float, behind: float, restarts: list[float]
) -> None:
    """A holding that was asked for at one moment, shows OpenD's state of a moment before, and is used at a later one."""
    clock, store = Clock(), MemoryStore()
    ledger = open_ledger(store, clock)
    began, sequence = clock.elapsed, 0
    used = asked + answered
    events: list[tuple[float, str, int]] = [(asked, "ask", 0)]
    restarts = [at for at in restarts if not asked <= at <= used]  # a fact does not outlive the process that asked
    events += [(at, "restart", number) for number, at in enumerate(restarts)]
    for number, order in enumerate(made):
        events += [(order.placed, "place", number), (order.told, "tell", number)]
    for at, event, number in sorted(events):
        if at > used:
            break
        clock.pass_(began + at - clock.elapsed)
        if event == "ask":
            sequence = ledger.sequence_before(LAG)
        elif event == "place":
            placed(ledger, number + 1, clock, qty=Decimal(made[number].qty))
        elif event == "tell":
            ledger.order_ended(ACCOUNT, number + 1, "")
        else:
            store.commit(ledger.take())
            ledger = open_ledger(store, clock)
    clock.pass_(began + used - clock.elapsed)

    shown = sum(order.qty for order in made if order.filled <= asked - behind)
    may_hold = sum(order.qty for order in made if order.placed <= used)
    found = in_flight(ledger, sequence=sequence)
    assert found is not None
    assert shown + found[0] >= may_hold
