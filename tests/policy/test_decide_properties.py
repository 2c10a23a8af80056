"""What holds for every decision, whatever the key, the request, the facts and the clock."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    LIMITS,
    SECURITIES,
    ZONES,
    a_key_and_a_tighter_one,
    amounts,
    changes,
    facts,
    instants,
    intents,
    keys,
    matched,
    nonsense,
    orders,
    terms,
    trades,
    usages,
)

from sidecar.intents.model import (
    AccountRef,
    Intent,
    ModifyOp,
    ModifyOrder,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    Side,
    TrdEnv,
)
from sidecar.policy import rules
from sidecar.policy.case import Case
from sidecar.policy.change import would_become
from sidecar.policy.decide import decide, explain, needs, screen
from sidecar.policy.decision import Code, Decision
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.usage import Facts, Instrument, InstrumentKind, Need, Terms, Usage

BUY = PlaceOrder(AccountRef(1001, TrdEnv.SIMULATE), SECURITIES[0], Side.BUY, OrderType.NORMAL, Decimal(1), Decimal(1))


@settings(max_examples=150, deadline=None)
@given(keys(nonsense), intents(nonsense), facts(nonsense), usages(nonsense), instants | st.datetimes(), terms(nonsense))
def test_nothing_makes_a_decision_raise(
    key: Key, intent: Intent, known: Facts, used: Usage, now: datetime, given_: Terms
) -> None:
    for facts_ in (known, matched(intent, known)):
        decided = decide(key, intent, facts_, used, now, given_)
        explained = explain(key, intent, facts_, used, now, given_)
        screened = screen(key, intent, facts_, now)
        assert decided.findings and explained.findings and screened.findings, "nothing passes without a check"
        assert explained.refusal == decided.refusal
        if isinstance(intent, PlaceOrder | PlaceCombo):
            needs(key, intent)


@pytest.mark.parametrize("nonsense_", [None, 0, "order", object(), [], {}])
def test_what_is_no_intent_at_all_is_refused(nonsense_: Any) -> None:
    key = Key("bot", frozenset(Scope))
    for decision in (
        decide(key, nonsense_, Facts(), Usage(), datetime.now(UTC)),
        screen(key, nonsense_, Facts(), datetime.now(UTC)),
    ):
        assert decision.refusal is not None
        assert decision.refusal.code is Code.SCOPE


@settings(max_examples=100, deadline=None)
@given(st.none() | st.integers() | st.text() | st.lists(st.none()), intents(amounts))
def test_facts_usage_and_clock_of_a_wrong_kind_refuse_or_do_not_matter(junk: Any, intent: Intent) -> None:
    key = Key("bot", frozenset(Scope), max_order_value=Decimal(1), max_orders_per_minute=1)
    decision = decide(key, intent, junk, junk, junk)
    assert isinstance(decision, Decision)
    if isinstance(intent, PlaceOrder):
        assert decision.refusal is not None


def test_every_limit_of_a_key_is_among_those_that_are_tightened() -> None:
    rest = {"id", "created_at", "expires_at", "note", "zone", "cap_currency", "cancel_on_disconnect"}
    known_before = {"allowed_machines", "allowed_ips"}
    """Looked at before a request is decided."""
    assert {field.name for field in fields(Key)} == {*LIMITS, *rest, *known_before}


@settings(max_examples=300, deadline=None)
@given(
    a_key_and_a_tighter_one(),
    intents(amounts) | trades(amounts),
    facts(amounts),
    usages(amounts),
    instants,
    terms(amounts),
)
def test_tightening_a_limit_never_turns_a_refusal_into_an_approval(
    pair: tuple[Key, Key], intent: Intent, known: Facts, used: Usage, now: datetime, given_: Terms
) -> None:
    loose, tight = pair
    known = matched(intent, known)
    if decide(loose, intent, known, used, now, given_).refusal is not None:
        assert decide(tight, intent, known, used, now, given_).refusal is not None


NEVER_MISSED = ("approved", "locked_since", "order_owner")
"""Facts of the ledger and the states, which are at hand: None says that there is nothing of the kind."""


@settings(max_examples=150, deadline=None)
@given(
    keys(amounts),
    trades(amounts),
    facts(amounts),
    usages(amounts),
    instants,
    terms(amounts),
    st.sampled_from([field.name for field in fields(Facts) if field.name not in NEVER_MISSED]),
)
def test_forgetting_a_fact_about_an_order_never_turns_a_refusal_into_an_approval(
    key: Key, order: Intent, known: Facts, used: Usage, now: datetime, given_: Terms, name: str
) -> None:
    known = matched(order, known)
    if decide(key, order, known, used, now, given_).refusal is None:
        return
    less = replace(known, **{name: () if name == "legs" else None})
    if name == "quote" and known.position is not None:
        less = replace(less, position=replace(known.position, price=None))  # it stands in for a quote that is missing
    assert decide(key, order, less, used, now, given_).refusal is not None


@settings(max_examples=150, deadline=None)
@given(keys(amounts), trades(amounts), facts(amounts), usages(amounts), instants, terms(amounts), amounts)
def test_a_larger_order_or_more_usage_never_turns_a_refusal_into_an_approval(
    key: Key, order: Intent, known: Facts, used: Usage, now: datetime, given_: Terms, more: Decimal
) -> None:
    known = matched(order, known)
    if decide(key, order, known, used, now, given_).refusal is None:
        return
    if isinstance(order, PlaceOrder | PlaceCombo | ModifyOrder) and order.qty is not None:
        larger = replace(order, qty=order.qty + more)
        assert decide(key, larger, known, used, now, given_).refusal is not None
    busier = replace(
        used,
        orders_last_minute=used.orders_last_minute + 1,
        open_orders=used.open_orders + 1,
        daily_value={currency: value + more for currency, value in used.daily_value.items()},
    )
    assert decide(key, order, known, busier, now, given_).refusal is not None


ORDER_ITSELF = (
    "allowed_symbols", "allowed_markets", "allowed_trd_sides", "allowed_order_types", "max_order_value", "max_order_qty",
    "price_collar_pct", "cap_currency",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(keys(amounts), changes(amounts), facts(amounts), instants, terms(amounts))
def test_no_order_becomes_by_a_change_what_could_not_be_placed(
    key: Key, change: ModifyOrder, known: Facts, now: datetime, given_: Terms
) -> None:
    """By the limits on the order itself; what was filled already at a higher price only makes it count for more."""
    key = Key("bot", frozenset(Scope), **{name: getattr(key, name) for name in ORDER_ITSELF})
    known = matched(change, known)
    if known.resting is None or change.op not in (ModifyOp.NORMAL, ModifyOp.ENABLE):
        return
    if decide(key, change, known, Usage(), now, given_).refusal is None:
        anew = would_become(change, known.resting)
        assert decide(key, anew, replace(known, resting=None, approved=None), Usage(), now, given_).refusal is None


@settings(max_examples=100, deadline=None)
@given(
    orders(amounts), facts(amounts), usages(amounts), terms(amounts), st.sampled_from(["HKD", "USD", "JPY"]), amounts
)
def test_what_is_converted_is_never_less_than_it_is_worth_and_hardly_more(
    order: PlaceOrder, known: Facts, used: Usage, given_: Terms, into: str, limit: Decimal
) -> None:
    now = datetime(2026, 11, 20, 3, tzinfo=UTC)
    plain = Key("bot", frozenset(Scope), max_order_value=Decimal(10) ** 40)
    known = matched(order, known)
    own = decide(plain, order, known, used, now, given_).worth
    capped = replace(plain, cap_currency=into, max_order_value=limit)
    decision = decide(capped, order, known, used, now, given_)
    if own is None or decision.worth is None:
        assert decision.refusal is not None
        return
    exact = Fraction(own.value)
    if own.currency != into:
        assert given_.rates is not None
        units = {given_.rates.base: Decimal(1), **given_.rates.per_unit}
        exact *= Fraction(units[own.currency]) / Fraction(units[into])
    assert decision.worth.currency == into
    assert exact <= Fraction(decision.worth.value) < exact + Fraction(1, 10_000)
    if decision.refusal is None:
        assert exact <= limit


@settings(max_examples=150, deadline=None)
@given(keys(amounts), orders(amounts), facts(amounts), usages(amounts), instants)
def test_an_approved_order_under_a_value_cap_is_within_it(
    key: Key, order: PlaceOrder, known: Facts, used: Usage, now: datetime
) -> None:
    open_key = Key("bot", frozenset(Scope), max_order_value=key.max_order_value, max_daily_value=key.max_daily_value)
    known = replace(matched(order, known), resting=None)
    decision = decide(open_key, order, known, used, now)
    if decision.refusal is not None or not open_key.value_capped:
        return
    worth = decision.worth
    assert worth is not None and known.instrument is not None
    multiplier = known.instrument.multiplier
    assert multiplier is not None
    units = Fraction(order.qty) * Fraction(multiplier)
    if order.order_type.priced:
        assert order.price is not None
        assert Fraction(worth.value) >= units * Fraction(order.price), "never less than at its limit"
    market = known.quote
    if market is None and known.position is not None:
        market = known.position.price  # of what is held, where there is no quote
    if order.side.sells or not order.order_type.priced:
        assert market is not None
        assert Fraction(worth.value) >= units * Fraction(market), "never less than at the market"
        assert order.aux_price is None or Fraction(worth.value) >= units * Fraction(order.aux_price)
    if not order.order_type.priced:
        best = Fraction(max(market or 0, order.aux_price or 0))
        if order.order_type in (OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT) and not order.side.sells:
            assert market is not None and order.trail is not None
            step = Fraction(market) / 100 if order.trail.ratio else Fraction(1)
            best = max(best, Fraction(market) + Fraction(order.trail.value) * step + Fraction(order.trail.spread))
        assert Fraction(worth.value) == units * best * Fraction(105, 100), "and the buffer on top"
    if open_key.max_order_value is not None:
        assert worth.value <= open_key.max_order_value
    if open_key.max_daily_value is not None:
        assert used.daily_value.get(worth.currency, Decimal(0)) + worth.value <= open_key.max_daily_value


@settings(max_examples=150, deadline=None)
@given(
    keys(amounts), orders(amounts), facts(amounts), usages(amounts), instants, st.decimals(0, 100), st.decimals(0, 100)
)
def test_a_larger_buffer_never_turns_a_refusal_into_an_approval(
    key: Key, order: PlaceOrder, known: Facts, used: Usage, now: datetime, one: Decimal, other: Decimal
) -> None:
    known = matched(order, known)
    if decide(key, order, known, used, now, Terms(min(one, other))).refusal is not None:
        assert decide(key, order, known, used, now, Terms(max(one, other))).refusal is not None


@settings(max_examples=150, deadline=None)
@given(keys(amounts), orders(amounts), facts(amounts), usages(amounts), instants, amounts)
def test_a_higher_quote_never_turns_the_refusal_of_a_value_into_an_approval(
    key: Key, order: PlaceOrder, known: Facts, used: Usage, now: datetime, more: Decimal
) -> None:
    caps = {name: getattr(key, name) for name in ("max_order_value", "max_daily_value", "max_position_value")}
    open_key = Key("bot", frozenset(Scope), **caps)
    known = matched(order, known)
    if known.quote is None or decide(open_key, order, known, used, now).refusal is None:
        return
    assert decide(open_key, order, replace(known, quote=known.quote + more), used, now).refusal is not None


@given(st.times(), st.times(), instants, st.sampled_from([zone for zone in ZONES if zone]))
def test_the_hours_of_a_day_are_either_in_a_window_or_in_the_one_turned_round(
    start: time, end: time, now: datetime, zone: ZoneInfo
) -> None:
    if start == end:
        return
    order = BUY

    def inside(window: HoursWindow) -> bool:
        key = Key("bot", frozenset(Scope), hours_window=(window,), zone=zone)
        finding = rules.hours(Case(key, order, Facts(), Usage(), now))
        assert finding is not None
        return finding.refusal is None

    assert inside(HoursWindow(start, end)) is not inside(HoursWindow(end, start))


def test_the_same_moment_told_in_another_zone_is_the_same_moment() -> None:
    now = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
    key = Key("bot", frozenset(Scope), hours_window=(HoursWindow(time(9, 30), time(16)),), zone=ZONES[0])
    order = BUY
    known = matched(order, Facts())
    elsewhere = now.astimezone(timezone(timedelta(hours=-11)))
    assert decide(key, order, known, Usage(), now).refusal is None
    assert decide(key, order, known, Usage(), elsewhere).refusal is None


def test_a_clock_without_a_zone_refuses_under_hours() -> None:
    key = Key("bot", frozenset(Scope), hours_window=(HoursWindow(time(0), time(0)),), zone=UTC)
    order = BUY
    decision = decide(key, order, matched(order, Facts()), Usage(), datetime(2026, 11, 20, 3, 0))
    assert decision.refusal is not None
    assert decision.refusal.code is Code.HOURS


def test_the_wait_of_a_rate_refusal_is_a_number_as_well() -> None:
    key = Key("bot", frozenset(Scope), max_orders_per_minute=1)
    order = BUY
    decision = decide(
        key, order, matched(order, Facts()), Usage(orders_last_minute=1, oldest_order_age=50.5), datetime.now(UTC)
    )
    assert decision.refusal is not None
    assert decision.refusal.retry_after == 10


def test_facts_are_asked_for_only_where_a_rule_reads_them() -> None:
    buy = PlaceOrder(AccountRef(1, TrdEnv.REAL), SECURITIES[1], Side.BUY, OrderType.NORMAL, Decimal(1), Decimal(1))
    sell = replace(buy, side=Side.SELL)
    free = Key("bot", frozenset(Scope))
    capped = replace(free, max_daily_value=Decimal(1))
    options = replace(free, allowed_symbols=frozenset({"US.AAPL@options"}))
    assert needs(free, buy) == needs(free, sell) == frozenset()
    assert needs(capped, buy) == {Need.INSTRUMENT}
    assert needs(capped, sell) == {Need.INSTRUMENT, Need.QUOTE}
    for unpriced in (order_type for order_type in OrderType if not order_type.priced):
        assert needs(capped, replace(buy, order_type=unpriced, price=None)) == {Need.INSTRUMENT, Need.QUOTE}
        assert needs(free, replace(buy, order_type=unpriced, price=None)) == frozenset()
    assert needs(options, buy) == {Need.INSTRUMENT}
    assert needs(replace(free, price_collar_pct=Decimal(5)), buy) == {Need.QUOTE}
    assert needs(replace(free, price_collar_pct=Decimal(5)), replace(buy, order_type=OrderType.STOP)) == frozenset()
    assert needs(replace(options, allowed_symbols=frozenset({"US.AAPL@options", "US.*"})), buy) == frozenset()
    assert needs(options, replace(buy, security=SECURITIES[0])) == frozenset()


def test_explaining_tells_everything_that_is_wrong_with_an_order() -> None:
    key = Key(
        "bot",
        frozenset({Scope.QOT_READ}),
        allowed_markets=frozenset({"US"}),
        allowed_trd_sides=frozenset({Side.SELL}),
        max_order_value=Decimal(10),
        max_orders_per_minute=0,
    )
    order = replace(BUY, price=Decimal(100))
    known = replace(matched(order, Facts()), instrument=Instrument(InstrumentKind.STOCK, Decimal(1), "HKD"))
    decision = explain(key, order, known, Usage(), datetime.now(UTC))
    codes = [finding.refusal.code for finding in decision.findings if finding.refusal is not None]
    assert codes == [Code.SCOPE, Code.MARKET, Code.SIDE, Code.ORDER_VALUE, Code.RATE]
    assert [finding.rule for finding in decision.findings if finding.refusal is None] == [
        "trading state",
        "account",
        "price",
        "instrument",
    ]


def test_a_stake_in_an_event_contract_cannot_be_held_against_a_value_limit() -> None:
    key = Key("bot", frozenset(Scope), max_order_value=Decimal(10**6))
    order = replace(BUY, amount=Decimal(20))
    known = replace(matched(order, Facts()), instrument=Instrument(InstrumentKind.STOCK, Decimal(1), "HKD"))
    decision = decide(key, order, known, Usage(), datetime.now(UTC))
    assert decision.refusal is not None
    assert decision.refusal.code is Code.INSTRUMENT_UNKNOWN
