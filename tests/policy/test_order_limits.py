"""What the tables of cases cannot say of the limits on the order itself: combos by their rule alone, quotes without end."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.intents.model import (
    AccountRef,
    ComboLeg,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.policy import order_limits
from sidecar.policy.case import Check, case_of
from sidecar.policy.decision import Code, Finding
from sidecar.policy.key import Key, Scope
from sidecar.policy.usage import Facts, Usage

ACCOUNT = AccountRef(1001, TrdEnv.SIMULATE)
AAPL, MSFT = Security("US", "US.AAPL", 11, "AAPL", 2), Security("US", "US.MSFT", 11, "MSFT", 2)
ORDER = PlaceOrder(ACCOUNT, AAPL, Side.BUY, OrderType.NORMAL, Decimal(10), Decimal(100))
COMBO = PlaceCombo(
    ACCOUNT,
    (ComboLeg(AAPL, Side.BUY, Decimal(1)), ComboLeg(MSFT, Side.SELL, Decimal(3))),
    OrderType.NORMAL,
    Decimal(10),
    Decimal(1),
)
KEY = Key(
    "bot",
    frozenset(Scope),
    max_order_qty=Decimal(29),
    price_collar_pct=Decimal(5),
    duplicate_window_s=10,
    extended_hours=False,
)


def judged(rule: Check, intent: PlaceOrder | PlaceCombo, key: Key = KEY, quote: Decimal | None = None) -> Finding:
    finding = rule(case_of(key, intent, Facts(quote=quote), Usage(), datetime(2026, 11, 20, tzinfo=UTC)))
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("rule", "code", "says"),
    [
        (order_limits.order_qty, Code.ORDER_QTY, "quantity 30 is over the limit of 29"),
        (order_limits.price_collar, Code.PRICE_UNAVAILABLE, "no quote of a combo order"),
    ],
    ids=["by its largest leg", "without a quote of the whole"],
)
def test_a_combo_is_refused_by_every_limit_it_cannot_be_held_against(rule: Check, code: Code, says: str) -> None:
    refusal = judged(rule, COMBO).refusal
    assert refusal is not None
    assert refusal.code is code
    assert says in refusal.message


def test_a_combo_has_no_way_to_trade_outside_regular_hours() -> None:
    assert order_limits.extended_hours(case_of(KEY, COMBO, Facts(), Usage(), datetime.now(UTC))) is None


@pytest.mark.parametrize("quote", ["Infinity", "-Infinity", "NaN", "0", "-1"])
def test_a_quote_that_is_no_price_is_no_quote(quote: str) -> None:
    refusal = judged(order_limits.price_collar, ORDER, quote=Decimal(quote)).refusal
    assert refusal is not None
    assert refusal.code is Code.PRICE_UNAVAILABLE


amounts = st.decimals(min_value="0.0001", max_value=10**7, allow_nan=False, allow_infinity=False)


@given(
    st.sampled_from(Side),
    amounts,
    amounts,
    st.decimals(min_value="0.0001", max_value=100),
    st.none() | st.decimals(min_value="-0.99", max_value="0.99", allow_nan=False),
)
def test_a_limit_passes_the_collar_exactly_when_at_its_worst_it_is_near_enough(
    side: Side, price: Decimal, quote: Decimal, collar: Decimal, moves: Decimal | None
) -> None:
    order = PlaceOrder(ACCOUNT, AAPL, side, OrderType.NORMAL, Decimal(1), price, adjust_limit=moves)
    key = Key("bot", frozenset(Scope), price_collar_pct=collar)
    worst = [Fraction(price) * (1 + Fraction(move)) for move in (Decimal(0), moves or Decimal(0))]
    if side.sells:
        near = (Fraction(quote) - min(worst)) / Fraction(quote) * 100 <= Fraction(collar)
    else:
        near = (max(worst) - Fraction(quote)) / Fraction(quote) * 100 <= Fraction(collar)
    finding = judged(order_limits.price_collar, order, key, quote)
    assert (finding.refusal is None) is near
