"""While trading may only shrink positions: combos leg by leg, changes as the order would become, and what can never go wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.intents.model import (
    AccountRef,
    ComboLeg,
    Intent,
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
from sidecar.policy.decide import decide, needs, screen
from sidecar.policy.decision import Code
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from sidecar.policy.usage import Account, Facts, LegFacts, Need, OrderOwner, Position, Usage

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
KEY = Key("bot", frozenset(Scope))
ACC = AccountRef(1001, TrdEnv.REAL)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
PING_AN = Security("HK", "HK.02318", 1, "02318", 1)
TOYOTA = Security("JP", "JP.7203", 41, "7203", 15)
REF = OrderRef(0, "A1")
REDUCING = Standing(TradingState.REDUCING, None, NOW, "after the close")
HALTED = Standing(TradingState.HALTED, None, NOW, "fat finger")


def holding(net: int, *, buys: int = 0, sells: int = 0, reserved: int = 0, sellable: int | None = None) -> Position:
    free = max(net, 0) if sellable is None else sellable
    return Position(
        Decimal(free), Decimal(reserved), net=Decimal(net), open_buys=Decimal(buys), open_sells=Decimal(sells)
    )


def order(side: Side, qty: int, security: Security = TENCENT) -> PlaceOrder:
    return PlaceOrder(ACC, security, side, OrderType.NORMAL, Decimal(qty), Decimal(350))


def combo(*legs: tuple[Side, Security, int], qty: int = 1) -> PlaceCombo:
    each = tuple(ComboLeg(security, side, Decimal(ratio)) for side, security, ratio in legs)
    return PlaceCombo(ACC, each, OrderType.NORMAL, Decimal(qty), Decimal(1))


def judged(intent: Intent, facts: Facts, standing: Standing = REDUCING) -> Code | None:
    known = replace(facts, account=Account(ACC.acc_id, ACC.env, frozenset({1})), trading=standing)
    refusal = decide(KEY, intent, known, Usage(), NOW).refusal
    return None if refusal is None else refusal.code


# -- combos -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("legs", "positions", "expected"),
    [
        ([(Side.SELL, TENCENT, 1), (Side.BUY, PING_AN, 2)], [holding(5), holding(-10)], None),
        ([(Side.SELL, TENCENT, 1), (Side.BUY, PING_AN, 2)], [holding(4), holding(-10)], Code.REDUCE_ONLY),
        ([(Side.SELL, TENCENT, 1), (Side.BUY, PING_AN, 2)], [holding(5), holding(-9)], Code.REDUCE_ONLY),
        ([(Side.SELL, TENCENT, 1), (Side.BUY, PING_AN, 2)], [holding(5), holding(0)], Code.REDUCE_ONLY),
        ([(Side.SELL, TENCENT, 1), (Side.SELL, TENCENT, 1)], [holding(10), holding(10)], None),
        ([(Side.SELL, TENCENT, 1), (Side.SELL, TENCENT, 1)], [holding(9), holding(9)], Code.REDUCE_ONLY),
        ([(Side.SELL, TENCENT, 2), (Side.BUY, TENCENT, 1)], [holding(99), holding(99)], Code.REDUCE_ONLY),
        ([(Side.SELL, TENCENT, 1), (Side.SELL_SHORT, PING_AN, 1)], [holding(9), holding(9)], Code.REDUCE_ONLY),
        ([(Side.SELL, TENCENT, 1), (Side.BUY, PING_AN, 1)], [holding(9), None], Code.POSITION_UNKNOWN),
        ([(Side.SELL, TENCENT, 1), (Side.BUY, TOYOTA, 1)], [holding(9), None], Code.POSITION_UNKNOWN),
    ],
)
def test_a_combo_passes_only_if_every_leg_shrinks_a_position(
    legs: list[tuple[Side, Security, int]], positions: list[Position | None], expected: Code | None
) -> None:
    facts = Facts(legs=tuple(LegFacts(position=position) for position in positions))
    assert judged(combo(*legs, qty=5), facts) is expected


def test_a_combo_of_no_legs_is_refused() -> None:
    assert judged(combo(), Facts()) is Code.POSITION_UNKNOWN


# -- changes ----------------------------------------------------------------------------------------------------------


def change(op: ModifyOp = ModifyOp.NORMAL, qty: int | None = None, price: int | None = None) -> ModifyOrder:
    return ModifyOrder(ACC, op, REF, *(None if one is None else Decimal(one) for one in (qty, price)))


def resting(side: Side, qty: int) -> Facts:
    found = RestingOrder(order(side, qty), 1, "A1", Decimal(0))
    return Facts(resting=found, order_owner=OrderOwner("bot"))


@pytest.mark.parametrize(
    ("wanted", "position", "expected"),
    [
        (change(price=340), holding(1000, sells=500), None),
        (change(qty=1000), holding(1000, sells=500, sellable=500), None),
        (change(qty=1001), holding(1000, sells=500, sellable=500), Code.REDUCE_ONLY),
        (change(qty=100), holding(1000, sells=500), None),
        (change(price=340), holding(400, sells=500), Code.REDUCE_ONLY),
        (change(price=340), holding(0, sells=500), Code.REDUCE_ONLY),
        (change(price=340), holding(1000, sells=500, sellable=500, reserved=900), None),
        (change(ModifyOp.ENABLE), holding(1000), None),
        (change(ModifyOp.ENABLE), holding(1000, sells=501), Code.REDUCE_ONLY),
        (change(ModifyOp.DISABLE), None, None),
        (change(ModifyOp.DELETE), None, None),
        (change(price=340), None, Code.POSITION_UNKNOWN),
    ],
)
def test_a_change_of_a_sale_passes_only_if_the_order_as_it_would_become_shrinks(
    wanted: ModifyOrder, position: Position | None, expected: Code | None
) -> None:
    assert judged(wanted, replace(resting(Side.SELL, 500), position=position)) is expected


def test_a_change_of_a_purchase_passes_only_where_something_is_short() -> None:
    assert (
        judged(change(price=340), replace(resting(Side.BUY, 500), position=holding(1000, buys=500))) is Code.REDUCE_ONLY
    )
    assert judged(change(price=360), replace(resting(Side.BUY, 500), position=holding(-500, buys=500))) is None
    assert (
        judged(change(qty=501), replace(resting(Side.BUY, 500), position=holding(-500, buys=500))) is Code.REDUCE_ONLY
    )


def test_a_change_of_an_order_that_is_not_known_is_refused() -> None:
    assert judged(change(price=340), Facts(order_owner=OrderOwner("bot"))) is Code.ORDER_UNKNOWN


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_what_is_held_is_asked_for_under_this_state_alone() -> None:
    for one in (order(Side.BUY, 1), order(Side.SELL, 1), combo((Side.SELL, TENCENT, 1))):
        assert needs(KEY, one, REDUCING) == {Need.POSITION}
        assert needs(KEY, one, ACTIVE) == needs(KEY, one, HALTED) == frozenset()


def test_what_may_shrink_a_position_passes_the_screen_and_what_never_can_does_not() -> None:
    facts = Facts(account=Account(ACC.acc_id, ACC.env, frozenset({1})), trading=REDUCING)
    for one in (order(Side.BUY, 1), order(Side.SELL, 1), order(Side.BUY_BACK, 1), combo((Side.SELL, TENCENT, 1))):
        assert screen(KEY, one, facts, NOW).refusal is None
    for never in (order(Side.SELL_SHORT, 1), combo((Side.SELL, TENCENT, 1), (Side.SELL_SHORT, PING_AN, 1))):
        refusal = screen(KEY, never, facts, NOW).refusal
        assert refusal is not None and refusal.code is Code.REDUCE_ONLY


# -- what always holds ------------------------------------------------------------------------------------------------

units = st.integers(0, 50)
positions = st.none() | st.builds(
    lambda net, buys, sells, reserved, sellable: holding(net, buys=buys, sells=sells, reserved=reserved, sellable=sellable),
    st.integers(-50, 50), units, units, units, units,
)  # fmt: skip


@given(st.sampled_from(Side), st.integers(1, 60), positions)
def test_with_all_that_is_on_its_way_filled_what_passed_never_grows_or_turns_a_position(
    side: Side, qty: int, position: Position | None
) -> None:
    if judged(order(side, qty), Facts(position=position)) is not None:
        return
    assert position is not None and position.net is not None
    assert position.open_buys is not None and position.open_sells is not None
    for fraction in (Decimal(0), Decimal("0.5"), Decimal(1)):
        filled = Decimal(qty) + fraction * (position.open_sells if side.sells else position.open_buys)
        after = position.net - filled if side.sells else position.net + filled
        assert abs(after) < abs(position.net)
        assert after * position.net >= 0


@given(st.sampled_from(Side), st.integers(1, 60), positions, st.booleans())
def test_each_state_refuses_whatever_a_laxer_one_refuses(
    side: Side, qty: int, position: Position | None, own: bool
) -> None:
    key = replace(KEY, allow_short=False) if own else KEY
    facts = Facts(position=position, account=Account(ACC.acc_id, ACC.env, frozenset({1})))
    refused = [
        decide(key, order(side, qty), replace(facts, trading=standing), Usage(), NOW).refusal is not None
        for standing in (ACTIVE, REDUCING, HALTED)
    ]
    assert refused == sorted(refused)
    assert refused[-1]
