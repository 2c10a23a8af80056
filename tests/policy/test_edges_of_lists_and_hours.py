"""The very edges of whitelists, hours and words: a point in a code, the last second, several of a kind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from one_order import (
    ACCOUNT,
    COMBO,
    FACTS,
    KEY,
    NOTHING,
    NOW,
    ORDER,
    REDUCING,
    TENCENT,
    WHOLE,
    case,
    told,
    whole,
)

from sidecar.intents.model import (
    CancelOrder,
    ComboLeg,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    PlaceCombo,
    RestingOrder,
    Security,
    Side,
)
from sidecar.policy import (
    caps,
    order_limits,
    reduce_only,
    rules,
    short_sales,
    whitelists,
)
from sidecar.policy import decide as policy
from sidecar.policy.case import Case, case_of
from sidecar.policy.decide import decide, explain
from sidecar.policy.decision import Code, Finding, Refusal
from sidecar.policy.exact import EXACT
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.trading import Standing, TradingState, locked_told
from sidecar.policy.usage import (
    LegFacts,
    OrderOwner,
    Usage,
)

# -- whitelists ----------------------------------------------------------------------------------------------------------

BERKSHIRE = Security("US", "US.BRK.B", 11, "BRK.B", 2)


def test_a_code_with_a_point_of_its_own_is_of_its_market() -> None:
    assert whitelists.named(frozenset({"US.*"}), BERKSHIRE)
    assert whitelists.named(frozenset({"US.BRK.B"}), BERKSHIRE)
    assert not whitelists.named(frozenset({"US.BRK.*", "US.BRK"}), BERKSHIRE)


def test_what_may_be_an_option_is_told_with_every_underlying_of_its_market() -> None:
    key = replace(KEY, allowed_symbols=frozenset({"US.AAPL@options", "US.MSFT@options", "HK.00700@options"}))
    unknown = case(replace(ORDER, security=BERKSHIRE), replace(FACTS, instrument=None), key)
    assert told(whitelists.symbol(unknown)) == (
        "whether `US.BRK.B` is an option of US.AAPL or US.MSFT could not be found out"
    )
    assert told(whitelists.symbol_so_far(unknown)) == "US.BRK.B may be an allowed option"


# -- hours ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "at", "open_"),
    [
        ("09:30", "16:00", "09:30", True),
        ("09:30", "16:00", "09:29:59.999999", False),
        ("09:30", "16:00", "16:00", False),
        ("22:00", "04:00", "22:00", True),
        ("22:00", "04:00", "21:59:59.999999", False),
        ("22:00", "04:00", "03:59:59.999999", True),
        ("22:00", "04:00", "04:00", False),
        ("00:00", "00:00", "00:00", True),
        ("00:00", "00:00", "12:00", True),
    ],
)
def test_a_window_holds_its_beginning_and_not_its_end(start: str, end: str, at: str, open_: bool) -> None:
    window = HoursWindow(time.fromisoformat(start), time.fromisoformat(end))
    key = replace(KEY, hours_window=(window,), zone=UTC)
    now = datetime.combine(date(2026, 11, 20), time.fromisoformat(at), UTC)
    assert rules.within_hours(key, now) is open_


def test_a_key_without_hours_is_always_within_them_and_one_without_a_zone_never() -> None:
    assert rules.within_hours(KEY, NOW)
    whole_day = (HoursWindow(time(0), time(0)),)
    assert rules.within_hours(replace(KEY, hours_window=whole_day, zone=ZoneInfo("Asia/Tokyo")), NOW)
    assert not rules.within_hours(replace(KEY, hours_window=whole_day), NOW)


# -- words ---------------------------------------------------------------------------------------------------------------


def test_an_order_is_named_by_the_id_its_client_gave() -> None:
    rival = replace(FACTS, order_owner=OrderOwner("rival"))
    key = Key("bot", frozenset({Scope.TRADE_SIMULATE}))
    assert "order `4711` was" in told(rules.own_order(case(CancelOrder(ACCOUNT, OrderRef(4711, "")), rival, key)))
    assert "order `EX7` was" in told(rules.own_order(case(CancelOrder(ACCOUNT, OrderRef(4711, "EX7")), rival, key)))


@pytest.mark.usefixtures("tokyo")
def test_states_are_told_in_utc_wherever_the_machine_is() -> None:
    since, now = datetime(2026, 11, 20, 14, 41, tzinfo=UTC), datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
    assert "since 14:41 UTC:" in Standing(TradingState.HALTED, None, since, "x").told(now)
    assert "since 14:41 UTC;" in locked_told(since, now)


# -- several of a kind ---------------------------------------------------------------------------------------------------

PING_AN = Security("CN", "SZ.000001", 22, "000001", 3)
MAIN = Security("HK", "HK.HSImain", 1, "HSImain", 5)
PAIR = replace(
    COMBO, qty=Decimal(1), legs=(ComboLeg(TENCENT, Side.SELL, Decimal(1)), ComboLeg(PING_AN, Side.SELL, Decimal(2)))
)


def test_what_a_key_may_do_is_told_in_order_and_with_commas() -> None:
    key = replace(
        KEY, allowed_markets=frozenset({"US", "SG", "JP"}), allowed_trd_sides=frozenset({Side.SELL, Side.BUY_BACK})
    )
    assert told(whitelists.market(case(ORDER, key=key))) == "market HK is not allowed, this key has JP, SG, US"
    assert told(whitelists.side(case(ORDER, key=key))) == "side BUY is not allowed, this key has BUY_BACK, SELL"


def test_every_leg_is_looked_at_even_behind_one_that_only_opend_can_tell() -> None:
    def legs(*securities: Security) -> PlaceCombo:
        return replace(COMBO, legs=tuple(ComboLeg(security, Side.BUY, Decimal(1)) for security in securities))

    options = replace(KEY, allowed_symbols=frozenset({"US.AAPL@options"}))
    option = Security("US", "US.AAPL261218C250000", 11, "AAPL261218C250000", 2)
    unknown = replace(FACTS, legs=(LegFacts(), LegFacts()))
    so_far = whitelists.symbol_so_far
    assert told(so_far(case(legs(option), replace(FACTS, legs=(LegFacts(),)), options))) == (
        "US.AAPL261218C250000 may be an allowed option"
    )
    assert told(so_far(case(legs(option, TENCENT), unknown, options))) == (
        "`HK.00700` is not one of this key's allowed_symbols"
    )
    futures = replace(KEY, allowed_symbols=frozenset({"HK.HSI2612"}))
    assert told(so_far(case(legs(MAIN), replace(FACTS, legs=(LegFacts(),)), futures))) == (
        "HK.HSImain may stand for an allowed contract"
    )
    assert told(so_far(case(legs(MAIN, TENCENT), unknown, futures))) == (
        "`HK.00700` is not one of this key's allowed_symbols"
    )
    assert told(whitelists.symbol(case(legs(MAIN), unknown, futures))) == (
        "`HK.HSImain` is not one of this key's allowed_symbols"
    )


def test_of_several_legs_each_is_told() -> None:
    facts = replace(REDUCING, legs=(LegFacts(position=WHOLE), LegFacts(position=WHOLE)))
    assert told(reduce_only.reduce_only(case(PAIR, facts))) == (
        "selling 1, 5 held of HK.00700, 0 being sold; selling 2, 5 held of SZ.000001, 0 being sold"
    )
    assert told(short_sales.short_sale(case(PAIR, facts, replace(KEY, allow_short=False)))) == (
        "selling 1 of HK.00700: 5 can be sold, 0 already reserved by other sales; "
        "selling 2 of SZ.000001: 5 can be sold, 0 already reserved by other sales"
    )


def test_an_order_that_leaves_the_market_shrinks_nothing_and_passes() -> None:
    resting = replace(REDUCING, resting=RestingOrder(ORDER, 7, "EX7"))
    for op in (ModifyOp.DISABLE, ModifyOp.DELETE):
        finding = reduce_only.reduce_only(case(ModifyOrder(ACCOUNT, op, OrderRef(0, "EX7")), resting))
        assert finding == Finding("reduce only", "it takes an order off the market")
    assert reduce_only.reduce_only(case(NOTHING, REDUCING)) is None


@pytest.mark.parametrize(
    ("age", "wait"), [(0.0, 60), (0.5, 60), (1.0, 59), (58.5, 2), (59.0, 1), (59.5, 1), (60.0, 1), (75.0, 1)]
)
def test_whoever_comes_too_often_is_told_the_whole_seconds_to_wait(age: float, wait: int) -> None:
    key = replace(KEY, max_orders_per_minute=1)
    made = case_of(key, ORDER, FACTS, Usage(orders_last_minute=1, oldest_order_age=age), NOW)
    finding = caps.rate(made)
    assert finding is not None and finding.refusal is not None
    assert finding.refusal.retry_after == wait
    assert finding.detail == f"2 orders in 60 s, the limit is 1; try again in {wait} s"


# -- what nobody should send ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "name"), [(2, "ETH"), (3, "ALL"), (4, "OVERNIGHT"), (5, "5"), (7, "7"), (-1, "-1")]
)
def test_a_session_without_a_name_is_told_by_its_number(session: int, name: str) -> None:
    key = replace(KEY, extended_hours=False)
    assert whole(order_limits.extended_hours(case(replace(ORDER, session=session), key=key))) == (
        "extended hours", "extended_hours",
        f"an order with session {name} may fill outside regular trading hours, which this key may not",
    )  # fmt: skip


def test_what_is_no_request_is_nothing_a_key_can_be_allowed() -> None:
    made = Case(KEY, "an order", FACTS, Usage(), NOW)  # type: ignore[arg-type]  # the point of the test
    assert whole(rules.scope(made)) == ("scope", "scope", "this request is not something a key can be allowed")


def test_a_rule_that_breaks_refuses_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_case: Case) -> Finding | None:
        raise ZeroDivisionError("an inner secret")

    table = tuple(one._replace(check=broken) if one.code.value == "hours" else one for one in policy._ALL)
    monkeypatch.setattr(policy, "_ALL", table)
    for decision in (decide(KEY, ORDER, FACTS, Usage(), NOW), explain(KEY, ORDER, FACTS, Usage(), NOW)):
        text = "the check of hours could not be made, so the request is refused"
        refusal = Refusal(Code.HOURS, text)
        assert decision.refusal == refusal
        assert Finding("hours", f"{text}: ZeroDivisionError", refusal) in decision.findings


def test_a_collar_is_exact_however_long_the_quote() -> None:
    """And not to the 28 digits of the usual context."""
    quote = Decimal("1." + "0" * 30 + "1")
    key = replace(KEY, price_collar_pct=Decimal(5))
    edge = Decimal("1.05" + "0" * 28 + "105")
    for price, inside in ((edge, True), (EXACT.add(edge, Decimal("1E-40")), False)):
        made = case(replace(ORDER, price=price), replace(FACTS, quote=quote), key)
        finding = order_limits.price_collar(made)
        assert finding is not None
        assert (finding.refusal is None) is inside
