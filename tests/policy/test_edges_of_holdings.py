"""The very edges of what is held, and what cannot be told at all."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from one_order import (
    ACCOUNT,
    APPLE,
    COMBO,
    FACTS,
    KEY,
    NOTHING,
    NOW,
    ORDER,
    REDUCING,
    SHARE,
    TENCENT,
    TERMS,
    WHOLE,
    case,
    change,
    told,
    whole,
)

from sidecar.intents.model import (
    ComboLeg,
    OrderRef,
    PlaceCombo,
    PlaceOrder,
    ReconfirmOrder,
    Security,
    Side,
)
from sidecar.policy import (
    caps,
    holdings,
    order_limits,
    reduce_only,
    short_sales,
)
from sidecar.policy.case import Case
from sidecar.policy.decide import decide, explain, screen
from sidecar.policy.usage import (
    LegFacts,
    Position,
    Usage,
)

# -- holdings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["net", "open_buys", "open_sells"])
def test_a_position_of_which_one_number_is_missing_is_not_known(missing: str) -> None:
    key = replace(KEY, max_position_value=Decimal(10**6))
    known = replace(FACTS, quote=Decimal(350), position=replace(WHOLE, **{missing: None}))
    assert "does not say how much of `HK.00700` is held" in told(holdings.position(case(ORDER, known, key)))
    assert "cannot be told" in told(holdings.position_value(case(ORDER, known, key)))
    whole = replace(known, position=WHOLE)
    assert "5 of HK.00700 held, 0 being bought, 0 being sold" in told(holdings.position(case(ORDER, whole, key)))


def shrinking(order: PlaceOrder | PlaceCombo, position: Position) -> str:
    facts = replace(REDUCING, position=position, legs=(LegFacts(position=position),) * 2)
    return told(reduce_only.reduce_only(case(order, facts)))


def test_less_than_one_of_what_cannot_be_sold_is_too_much() -> None:
    sale = replace(ORDER, side=Side.SELL, qty=Decimal("0.5"))
    locked = replace(WHOLE, sellable=Decimal(0))
    assert "of what is held 0 can be sold, and it sells 0.5" in shrinking(sale, locked)
    assert "of what is held 0 can be sold" in shrinking(sale, replace(locked, reserved=Decimal(3)))
    assert shrinking(sale, WHOLE) == "selling 0.5, 5 held of HK.00700, 0 being sold"


def test_a_combo_that_buys_and_sells_the_same_shrinks_nothing() -> None:
    both_ways = replace(COMBO, qty=Decimal(1), legs=tuple(reversed(COMBO.legs)))
    text = shrinking(both_ways, WHOLE)
    assert text.startswith(
        "this does not shrink a position, its legs trade one security both ways: 5 held of HK.00700, 0 being sold;"
    )


# -- what cannot be told -------------------------------------------------------------------------------------------------

TOYOTA = Security("JP", "JP.7203", 51, "7203", 15)
WHETHER = Security("EC", "EC.RAIN", 111, "RAIN", 17)


@pytest.mark.parametrize(
    ("security", "why"),
    [(TOYOTA, "Japanese accounts hold by kind of account"), (WHETHER, "event contracts are held on two sides")],
)
def test_where_a_sum_of_holdings_says_nothing_every_rule_about_them_refuses(security: Security, why: str) -> None:
    sale = replace(ORDER, security=security, side=Side.SELL)
    facts = replace(REDUCING, position=WHOLE, quote=Decimal(350))
    unknown = "position_unknown"
    key = replace(KEY, allow_short=False, max_position_value=Decimal(10**6))
    made, symbol = case(sale, facts, key), security.symbol
    assert whole(reduce_only.position(made)) == (
        "reduce only", unknown, f"whether a position in `{symbol}` shrinks cannot be told: {why}",
    )  # fmt: skip
    assert whole(short_sales.position(made)) == (
        "position", unknown, f"how much of `{symbol}` may be sold cannot be told: {why}",
    )  # fmt: skip
    assert whole(holdings.position(made)) == (
        "holding", unknown, f"how much of `{symbol}` is held cannot be told (max_position_value): {why}",
    )  # fmt: skip


def test_of_a_combo_without_legs_nothing_can_be_told() -> None:
    key = replace(KEY, max_position_value=Decimal(10**6), max_order_qty=Decimal(9))
    made = case(NOTHING, REDUCING, key)
    assert whole(reduce_only.position(made)) == (
        "reduce only", "position_unknown", "what the order trades cannot be told, so neither what it shrinks",
    )  # fmt: skip
    assert whole(holdings.position_value(made)) == (
        "position value", "position_value",
        "what the position would be worth cannot be told, so it cannot be held against the limit",
    )  # fmt: skip
    assert holdings.position(made) is None
    assert whole(order_limits.order_qty(made))[1] == "order_qty"


def test_whether_confirming_again_would_go_short_cannot_be_told() -> None:
    made = Case(replace(KEY, allow_short=False), ReconfirmOrder(ACCOUNT, OrderRef(7, "")), FACTS, Usage(), NOW)
    assert whole(short_sales.position(made)) == (
        "position", "position_unknown", "whether confirming an order again would go short cannot be told (allow_short)",
    )  # fmt: skip


def test_what_is_traded_by_amount_cannot_be_held_against_an_amount() -> None:
    made = case(replace(ORDER, amount=Decimal(20)), key=replace(KEY, max_order_value=Decimal(10**6)))
    assert whole(caps.instrument(made)) == (
        "instrument", "instrument_unknown",
        "`HK.00700` is traded by amount, which cannot be held against this key's value limits",
    )  # fmt: skip


def test_where_what_counts_cannot_be_told_the_order_is_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_case: Case) -> Decimal:
        raise ZeroDivisionError

    monkeypatch.setattr(caps, "counts", broken)
    decision = decide(replace(KEY, max_daily_value=Decimal(10**6)), ORDER, FACTS, Usage(), NOW, TERMS)
    assert decision.counts is None
    assert whole(decision.findings[-1]) == (
        "daily value",
        "daily_value",
        "what the order is worth cannot be told, so it cannot be held against the limit",
    )


def test_a_request_that_cannot_be_laid_out_for_the_rules_is_refused_and_says_so() -> None:
    changed = change(qty=Decimal(1))
    broken = replace(FACTS, resting="an order?")  # type: ignore[arg-type]  # the point of the test
    for decision in (
        decide(KEY, changed, broken, Usage(), NOW),
        explain(KEY, changed, broken, Usage(), NOW),
        screen(KEY, changed, broken, NOW),
    ):
        (finding,) = decision.findings
        assert finding.rule == "order"
        assert finding.detail == "what the request would trade cannot be told, so it is refused: AttributeError"
        assert finding.refusal is not None
        assert finding.refusal.code.value == "malformed_request"
        assert finding.refusal.message == "what the request would trade cannot be told, so it is refused"


# -- positions -----------------------------------------------------------------------------------------------------------

POSITION_KEY = replace(KEY, max_position_value=Decimal(1000))


def position_told(order: PlaceOrder | PlaceCombo, *positions: Position) -> str:
    legs = tuple(LegFacts(SHARE, Decimal(350), position) for position in positions)
    facts = replace(FACTS, quote=Decimal(350), position=positions[0], legs=legs)
    return told(holdings.position_value(case(order, facts, POSITION_KEY)))


@pytest.mark.parametrize(("qty", "larger"), [("4.5", False), ("5", False), ("5.5", True)])
def test_buying_back_makes_no_position_larger_until_it_goes_past_nothing(qty: str, larger: bool) -> None:
    text = position_told(replace(ORDER, qty=Decimal(qty)), replace(WHOLE, net=Decimal(-5)))
    assert ("makes no position larger" in text) is not larger
    assert larger is ("350 (limit) × 1 = 175 HKD" in text)


def test_of_a_combo_each_security_is_held_against_the_limit() -> None:
    combo = replace(COMBO, legs=(ComboLeg(TENCENT, Side.SELL, Decimal(1)), ComboLeg(APPLE, Side.BUY, Decimal(1))))
    small = replace(combo, qty=Decimal(2))
    assert position_told(small, WHOLE, replace(WHOLE, net=Decimal(0))).count("; ") == 1
    text = position_told(replace(combo, qty=Decimal(5)), WHOLE, replace(WHOLE, net=Decimal(0)))
    assert text.startswith(
        "position value 1750 HKD is over the limit of 1000 HKD: (0 held + 0 buying already + 5) of US.AAPL"
    )
