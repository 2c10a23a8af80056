"""The very edges of what an order is worth and becomes: nothing, less than one, exactly as much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from one_order import (
    COMBO,
    FACTS,
    KEY,
    NOW,
    ORDER,
    SHARE,
    TENCENT,
    TERMS,
    case,
    change,
    number,
)

from sidecar.intents.model import (
    OrderType,
    PlaceOrder,
    RestingOrder,
    Side,
    Trail,
)
from sidecar.policy import (
    order_changes,
    worth,
)
from sidecar.policy.change import would_become
from sidecar.policy.currency import Exchange, Rates, exchange
from sidecar.policy.decide import explain
from sidecar.policy.decision import Worth
from sidecar.policy.legs import Leg
from sidecar.policy.usage import (
    LegFacts,
    Position,
    Usage,
)

# -- what an order is worth ----------------------------------------------------------------------------------------------


def counted(order: PlaceOrder, quote: str | None = None) -> str:
    market = None if quote is None else worth.CountedPrice(Decimal(quote), "quote")
    found = worth.counted_price(order, market, TERMS)
    return found if isinstance(found, str) else f"{found.amount.normalize():f} ({found.basis})"


def test_a_price_that_may_be_moved_by_nothing_is_the_limit() -> None:
    assert counted(replace(ORDER, adjust_limit=Decimal(0))) == "350 (limit)"
    assert counted(replace(ORDER, adjust_limit=Decimal("0.01"))) == "353.5 (limit at its worst)"
    assert counted(replace(ORDER, adjust_limit=Decimal("-0.01"))) == "350 (limit)"


def test_a_trigger_of_less_than_one_is_a_trigger() -> None:
    stop = replace(ORDER, order_type=OrderType.STOP, price=None, aux_price=Decimal("0.5"))
    assert counted(stop, "0.4") == "0.525 (trigger 0.5 + 5 %)"
    assert "with a trigger of 0 is worth cannot be told" in counted(replace(stop, aux_price=Decimal(0)), "0.4")


def test_a_trailing_buy_counts_the_spread_beyond_its_trail_even_a_small_one() -> None:
    trailing = replace(ORDER, order_type=OrderType.TRAILING_STOP_LIMIT, price=None)
    trail = Trail(Decimal(10), False, Decimal("0.5"))
    assert counted(replace(trailing, trail=trail), "100") == "116.025 (trigger 110.5 + 5 %)"
    assert counted(replace(trailing, trail=replace(trail, spread=Decimal(-3))), "100") == "115.5 (trigger 110 + 5 %)"


def test_a_sale_without_a_price_says_that_the_holding_tells_none_either() -> None:
    sale = replace(ORDER, side=Side.SELL, order_type=OrderType.MARKET, price=None)
    assert counted(sale).endswith("there is no quote for `HK.00700`, nor is it held at a price OpenD says")
    assert counted(replace(sale, side=Side.BUY)).endswith("there is no quote for `HK.00700`")


@pytest.mark.parametrize(
    ("net", "price", "stands_in"),
    [("0", "480", False), ("-5", "480", False), ("0.5", "480", True), ("5", "0.5", True), ("5", "0", False)],
)
def test_the_price_of_a_holding_stands_in_for_a_quote_where_something_is_held(
    net: str, price: str, stands_in: bool
) -> None:
    known = LegFacts(position=Position(Decimal(5), net=Decimal(net), price=Decimal(price)))
    found = worth.reference(Leg(TENCENT, Side.SELL, Decimal(1), known))
    assert found == (worth.CountedPrice(Decimal(price), "holding's price") if stands_in else None)


@pytest.mark.parametrize(
    ("filled", "at", "explained"),
    [
        ("0", "400", "100 × 350 (limit) × 1 = 35000 HKD"),
        ("0.5", "400", "(99.5 × 350 (limit) + 0.5 × 400 (filled)) × 1 = 35025 HKD"),
        ("10", "350", "100 × 350 (limit) × 1 = 35000 HKD"),
        ("10", "350.01", "(90 × 350 (limit) + 10 × 350.01 (filled)) × 1 = 35000.1 HKD"),
        ("10", None, "100 × 350 (limit) × 1 = 35000 HKD"),
    ],
)
def test_what_was_filled_dearer_than_an_order_counts_now_counts_at_that(
    filled: str, at: str | None, explained: str
) -> None:
    resting = RestingOrder(ORDER, 7, "EX7", filled=Decimal(filled), fill_price=number(at))
    found = worth.worth(ORDER, replace(FACTS, resting=resting), TERMS)
    assert found is not None
    assert found.explanation == explained


LEGS = replace(FACTS, legs=(LegFacts(SHARE, Decimal(300)), LegFacts(SHARE, Decimal(200))))


@pytest.mark.parametrize(("net", "more"), [("500", False), ("-500", False), ("500.01", True), ("-500.01", True)])
def test_a_combo_counts_at_its_net_price_only_where_that_is_more(net: str, more: bool) -> None:
    found = worth.worth(replace(COMBO, price=Decimal(net)), LEGS, TERMS)
    assert found is not None
    assert ("net price" in found.explanation) is more
    assert found.value == (Decimal("5000.1") if more else 5000)


def test_what_an_order_counted_as_when_it_was_decided_can_be_held_against_the_limits_of_today() -> None:
    key = replace(KEY, max_order_value=Decimal(40_000))
    now = explain(key, ORDER, FACTS, Usage(), NOW, TERMS)
    assert now.worth is not None and now.worth.value == 35_000
    assert now.refusal is None
    then = Worth(Decimal(40_001), "HKD", "as it was recorded")
    before = explain(key, ORDER, FACTS, Usage(), NOW, TERMS, then)
    assert before.worth is then
    assert before.refusal is not None
    assert before.refusal.message == "order value 40001 HKD is over the limit of 40000 HKD"


def test_a_combo_of_one_leg_counts_by_it() -> None:
    found = worth.worth(replace(COMBO, legs=COMBO.legs[:1]), replace(LEGS, legs=LEGS.legs[:1]), TERMS)
    assert found is not None
    assert found.explanation == "10 HK.00700 × 300 (quote) × 1 = 3000 HKD"


def test_a_combo_that_cannot_be_converted_has_no_worth() -> None:
    for rates in (None, Rates("USD", date(2026, 11, 20), 7, {})):
        assert worth.worth(COMBO, LEGS, TERMS, Exchange("USD", rates, "too old")) is None


# -- changes -------------------------------------------------------------------------------------------------------------


def test_a_combo_keeps_or_changes_its_net_price() -> None:
    resting = RestingOrder(COMBO, 7, "EX7")
    assert would_become(change(qty=Decimal(5)), resting) == replace(COMBO, qty=Decimal(5))
    assert would_become(change(price=Decimal(2)), resting) == replace(COMBO, price=Decimal(2))


@pytest.mark.parametrize(
    ("had", "changed", "becomes"),
    [
        (Trail(Decimal(5), True, Decimal(2)), None, Trail(Decimal(5), True, Decimal(2))),
        (None, Trail(Decimal(3), True, Decimal(0)), Trail(Decimal(3), True, Decimal(0))),
        (None, Trail(Decimal(3), True, Decimal(1)), Trail(Decimal(3), True, Decimal(1))),
        (
            Trail(Decimal(5), True, Decimal(2)),
            Trail(Decimal(3), False, Decimal(1)),
            Trail(Decimal(3), False, Decimal(1)),
        ),
        (
            Trail(Decimal(5), True, Decimal(2)),
            Trail(Decimal(3), False, Decimal(0)),
            Trail(Decimal(3), False, Decimal(2)),
        ),
    ],
)
def test_a_trail_keeps_the_spread_that_a_change_does_not_name(
    had: Trail | None, changed: Trail | None, becomes: Trail
) -> None:
    order = replace(ORDER, order_type=OrderType.TRAILING_STOP_LIMIT, price=None, trail=had)
    changed_to = would_become(change(trail=changed), RestingOrder(order, 7, "EX7"))
    assert isinstance(changed_to, PlaceOrder)
    assert changed_to.trail == becomes


@pytest.mark.parametrize(
    ("order_type", "price", "trigger", "said"),
    [
        (OrderType.NORMAL, "0.5", "0", None),
        (OrderType.NORMAL, "0", None, "price `0` must be above 0"),
        (OrderType.STOP, "0", "0.5", None),
        (OrderType.STOP, None, "0", "auxPrice `0` must be above 0"),
        (OrderType.MARKET, "0", "0", None),
    ],
)
def test_only_the_prices_that_a_type_uses_must_be_above_nothing(
    order_type: OrderType, price: str | None, trigger: str | None, said: str | None
) -> None:
    resting = RestingOrder(replace(ORDER, order_type=order_type), 7, "EX7")
    changed = change(price=number(price), aux_price=number(trigger))
    found = order_changes.sound(case(changed, replace(FACTS, resting=resting)))
    assert (found.detail if found is not None else None) == said


# -- days ----------------------------------------------------------------------------------------------------------------

RATES = Rates("HKD", date(2026, 11, 13), 7, {"USD": Decimal("7.78")})


@pytest.mark.usefixtures("tokyo")
def test_the_age_of_rates_counts_in_days_of_utc_wherever_the_machine_is() -> None:
    last = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    assert exchange("HKD", RATES, last) == Exchange("HKD", RATES)
    late = exchange("HKD", RATES, last + timedelta(minutes=1))
    assert late is not None
    assert late.rates is None


def test_without_knowing_what_day_it_is_nothing_is_converted() -> None:
    assert exchange("USD", RATES, datetime(2026, 11, 20)) == Exchange("USD", None, "what day it is cannot be told")
