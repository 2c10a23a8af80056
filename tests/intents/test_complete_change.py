"""What a change leaves open is filled in from the order that was judged, and what it says is left as it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import order_requests
from hypothesis import given
from hypothesis import strategies as st

from sidecar.intents.model import (
    AccountRef,
    ModifyOrder,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    Trail,
    TrdEnv,
)
from sidecar.intents.read import complete_change, read
from sidecar.policy.change import would_become
from sidecar.wire import catalog

HERE = AccountRef(1001, TrdEnv.SIMULATE)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
TRAILING = PlaceOrder(
    HERE, TENCENT, Side.BUY, OrderType.TRAILING_STOP_LIMIT, Decimal(200), None,
    aux_price=Decimal(7), trail=Trail(Decimal(5), ratio=True, spread=Decimal(2)),
)  # fmt: skip
LIMIT = PlaceOrder(HERE, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(200), Decimal("350.2"))


def completed(order: PlaceOrder | PlaceCombo, **said: Any) -> Any:
    """The c2s as it is forwarded for a change of `order`."""
    request = order_requests.change(1, **said)
    intent = read(catalog.MODIFY_ORDER, request)
    assert isinstance(intent, ModifyOrder)
    complete_change(request, would_become(intent, RestingOrder(order, 7, "EX7")))
    return request.c2s


def test_a_change_of_the_price_says_the_quantity_too() -> None:
    c2s = completed(LIMIT, price=351.0)
    assert (c2s.qty, c2s.price) == (200.0, 351.0)
    assert not (c2s.HasField("auxPrice") or c2s.HasField("trailType"))


def test_a_change_of_the_quantity_says_the_price_too() -> None:
    c2s = completed(LIMIT, qty=300.0)
    assert (c2s.qty, c2s.price) == (300.0, 350.2)


def test_a_change_that_does_not_let_opend_move_the_price_says_so() -> None:
    c2s = completed(LIMIT, price=351.0)
    assert c2s.HasField("adjustPrice") and c2s.HasField("adjustSideAndLimit")
    assert (c2s.adjustPrice, c2s.adjustSideAndLimit) == (False, 0.0)
    c2s = completed(LIMIT, price=351.0, adjustPrice=True, adjustSideAndLimit=0.01)
    assert (c2s.adjustPrice, c2s.adjustSideAndLimit) == (True, 0.01)
    c2s = completed(LIMIT, price=351.0, adjustSideAndLimit=0.01)
    assert not c2s.HasField("adjustPrice"), "what it says is left as it is"


def test_an_order_without_a_price_is_given_none() -> None:
    c2s = completed(TRAILING)
    assert not c2s.HasField("price")
    assert (c2s.qty, c2s.auxPrice, c2s.trailType, c2s.trailValue, c2s.trailSpread) == (200.0, 7.0, 1, 5.0, 2.0)


def test_a_trail_that_is_said_whole_is_left_as_it_is() -> None:
    c2s = completed(TRAILING, trailType=2, trailValue=3.0, trailSpread=1.0)
    assert (c2s.trailType, c2s.trailValue, c2s.trailSpread) == (2, 3.0, 1.0)


def test_a_trail_without_its_spread_keeps_the_one_it_had() -> None:
    c2s = completed(TRAILING, trailType=2, trailValue=3.0)
    assert (c2s.trailType, c2s.trailValue, c2s.trailSpread) == (2, 3.0, 2.0)


def test_half_a_trail_is_replaced_by_the_whole_one_that_was_judged() -> None:
    for half in ({"trailType": 2}, {"trailValue": 90.0}, {"trailSpread": 90.0}):
        c2s = completed(TRAILING, **half)
        assert (c2s.trailType, c2s.trailValue, c2s.trailSpread) == (1, 5.0, 2.0), half


def test_a_combo_keeps_its_net_price_below_nothing() -> None:
    combo = read(catalog.PLACE_COMBO_ORDER, order_requests.combo())
    assert isinstance(combo, PlaceCombo)
    c2s = completed(combo, qty=3.0)
    assert (c2s.qty, c2s.price) == (3.0, -1.5)


numbers = st.floats(min_value=0.001, max_value=1e6, allow_nan=False).map(lambda number: round(number, 3)).filter(bool)
FIELDS = {"qty": numbers, "price": numbers, "auxPrice": numbers, "trailValue": numbers, "trailSpread": numbers}


@given(
    order=st.sampled_from([LIMIT, TRAILING]),
    said=st.fixed_dictionaries({}, optional={**FIELDS, "trailType": st.sampled_from([1, 2])}),
)
def test_what_is_forwarded_reads_as_the_very_order_that_was_judged(order: PlaceOrder, said: dict[str, Any]) -> None:
    """INVARIANT: judge what you forward, whatever the order is by the time OpenD takes the change."""
    request = order_requests.change(1, **said)
    intent = read(catalog.MODIFY_ORDER, request)
    assert isinstance(intent, ModifyOrder)
    judged = would_become(intent, RestingOrder(order, 7, "EX7"))
    complete_change(request, judged)
    again = read(catalog.MODIFY_ORDER, request)
    assert isinstance(again, ModifyOrder) and isinstance(judged, PlaceOrder)
    otherwise = PlaceOrder(
        HERE, TENCENT, Side.BUY, order.order_type, Decimal(1), Decimal(1) if order.order_type.priced else None
    )
    other = would_become(again, RestingOrder(otherwise, 7, "EX7"))
    assert isinstance(other, PlaceOrder)
    assert (other.qty, other.price, other.trail) == (judged.qty, judged.price, judged.trail)
    assert other.aux_price == judged.aux_price
    complete_change(request, judged)
    assert read(catalog.MODIFY_ORDER, request) == again, "said twice it changes nothing"
