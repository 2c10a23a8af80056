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

from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ComboLeg,
    Intent,
    ListAccounts,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    ReadAccount,
    ReadSubscriptions,
    ReconfirmOrder,
    Security,
    Side,
    SubscribeAccounts,
    Trail,
    TrdEnv,
    Unlock,
)
from sidecar.policy import rules
from sidecar.policy.case import Case
from sidecar.policy.decide import decide, explain, needs, screen
from sidecar.policy.decision import Code, Decision, Finding
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from sidecar.policy.usage import Account, Facts, Instrument, InstrumentKind, Need, OrderOwner, Position, Terms, Usage

SECURITIES = (
    Security("HK", "HK.00700", 1, "00700", 1),
    Security("US", "US.AAPL", 11, "AAPL", 2),
    Security("US", "US.AAPL260116C150000", 11, "AAPL260116C150000", 2),
    Security("CN", "SH.600519", 21, "600519", 4),
    Security("CN", "SZ.000001", 22, "000001", 3),
)
BUY = PlaceOrder(AccountRef(1001, TrdEnv.SIMULATE), SECURITIES[0], Side.BUY, OrderType.NORMAL, Decimal(1), Decimal(1))
SYMBOLS = ("HK.00700", "HK.*", "US.AAPL", "US.*", "US.AAPL@options", "SH.600519", "SZ.*")
ZONES = (ZoneInfo("Asia/Hong_Kong"), ZoneInfo("America/New_York"), UTC, None)

amounts = st.decimals(min_value="0.0001", max_value=10**7, allow_nan=False, allow_infinity=False)
nonsense = st.decimals(allow_nan=True, allow_infinity=True)
refs = st.builds(AccountRef, st.sampled_from([1001, 1002, 2001]), st.sampled_from(TrdEnv))
securities = st.sampled_from(SECURITIES)
order_refs = st.builds(OrderRef, st.just(0), st.sampled_from(["A1", "A2"]))


def orders(numbers: st.SearchStrategy[Decimal]) -> st.SearchStrategy[PlaceOrder]:
    return st.builds(
        PlaceOrder,
        account=refs,
        security=securities,
        side=st.sampled_from(Side),
        order_type=st.sampled_from(OrderType),
        qty=numbers,
        price=st.none() | numbers,
        aux_price=st.none() | numbers,
        trail=st.none() | st.builds(Trail, numbers, st.booleans(), numbers),
        adjust_limit=st.none() | st.decimals(min_value="-0.99", max_value="0.99", allow_nan=False),
        outside_rth=st.booleans(),
        session=st.integers(0, 4),
        amount=st.none() | numbers,
    )


legs = st.builds(ComboLeg, securities, st.sampled_from(Side), amounts)


def intents(numbers: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Intent]:
    return st.one_of(
        orders(numbers),
        orders(numbers),
        st.builds(PlaceCombo, refs, st.lists(legs, max_size=3).map(tuple), st.just(OrderType.NORMAL), numbers, numbers),
        st.builds(ModifyOrder, refs, st.sampled_from(ModifyOp), order_refs, st.none() | numbers, st.none() | numbers),
        st.builds(CancelOrder, refs, order_refs, st.booleans()),
        st.builds(ReadAccount, refs, st.booleans()),
        st.builds(ReconfirmOrder, refs, order_refs),
        st.just(ListAccounts()),
        st.just(ReadSubscriptions()),
        st.builds(SubscribeAccounts, st.lists(st.integers(0, 5)).map(tuple)),
        st.builds(Unlock, st.booleans(), st.text()),
    )


def some(values: Any) -> st.SearchStrategy[Any]:
    return st.none() | st.frozensets(st.sampled_from(values), min_size=1)


windows = st.lists(st.builds(HoursWindow, st.times(), st.times()), min_size=1, max_size=3).map(tuple)


def keys(numbers: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Key]:
    return st.builds(
        Key,
        id=st.sampled_from(["bot", "other"]),
        scopes=st.frozensets(st.sampled_from(Scope)) | st.just(frozenset(Scope)),
        allowed_markets=some(["HK", "US", "CN", "HKCC"]),
        allowed_symbols=some(SYMBOLS),
        allowed_trd_sides=some(list(Side)),
        allowed_acc_ids=some([1001, 1002, 2001]),
        max_order_value=st.none() | numbers,
        max_daily_value=st.none() | numbers,
        max_orders_per_minute=st.none() | st.integers(0, 10),
        allowed_order_types=some(list(OrderType)),
        max_order_qty=st.none() | numbers,
        price_collar_pct=st.none() | numbers,
        duplicate_window_s=st.none() | st.integers(1, 60),
        extended_hours=st.none() | st.booleans(),
        allow_short=st.none() | st.booleans(),
        hours_window=st.none() | windows,
        zone=st.sampled_from(ZONES),
    )


standings = st.builds(
    Standing,
    st.sampled_from(TradingState),
    st.none() | st.sampled_from(["bot", "other"]),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=20),
)
markets = st.frozensets(st.sampled_from([1, 2, 3, 4]))
fact_names = st.sampled_from([field.name for field in fields(Facts)])


def facts(numbers: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Facts]:
    return st.builds(
        Facts,
        account=st.none()
        | st.builds(
            Account,
            st.sampled_from([1001, 1002, 2001]),
            st.sampled_from(TrdEnv),
            some([1, 2, 3, 4]).map(lambda m: m or frozenset()),
        ),
        instrument=st.none()
        | st.builds(
            Instrument,
            st.sampled_from(InstrumentKind) | st.just(InstrumentKind.STOCK),
            st.none() | numbers,
            st.sampled_from(["HKD", "USD", ""]),
            st.none() | st.sampled_from(["US.AAPL", "HK.00700"]),
        ),
        quote=st.none() | numbers,
        position=st.none() | st.builds(Position, numbers, st.none() | numbers),
        order_owner=st.none() | st.builds(OrderOwner, st.none() | st.sampled_from(["bot", "other", "third"])),
        trading=st.none() | st.just(ACTIVE) | standings,
    )


def usages(numbers: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Usage]:
    return st.builds(
        Usage,
        orders_last_minute=st.integers(0, 12),
        oldest_order_age=st.floats(0, 60),
        cancels_last_minute=st.integers(0, 200),
        daily_value=st.dictionaries(st.sampled_from(["HKD", "USD"]), numbers),
        same_order_age=st.none() | st.floats(0, 90),
    )


instants = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2035, 1, 1), timezones=st.just(UTC))


def matched(intent: Intent, known: Facts) -> Facts:
    """Half of the property would be lost if nearly every request named an account nobody knows."""
    ref = getattr(intent, "account", None)
    if known.trading is None:
        known = replace(known, trading=ACTIVE)
    return known if ref is None else replace(known, account=Account(ref.acc_id, ref.env, frozenset({1, 2, 4})))


@settings(max_examples=150, deadline=None)
@given(keys(nonsense), intents(nonsense), facts(nonsense), usages(nonsense), instants | st.datetimes())
def test_nothing_makes_a_decision_raise(key: Key, intent: Intent, known: Facts, used: Usage, now: datetime) -> None:
    for facts_ in (known, matched(intent, known)):
        decided = decide(key, intent, facts_, used, now)
        explained = explain(key, intent, facts_, used, now)
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


ORDER_LIMITS = (
    "allow_short",
    "allowed_order_types",
    "max_order_qty",
    "price_collar_pct",
    "duplicate_window_s",
    "extended_hours",
)


def tighter(draw: st.DrawFn, key: Key) -> Key:
    """The same key with one limit narrower, or set where there was none."""
    name = draw(
        st.sampled_from(
            [
                "scopes",
                "allowed_markets",
                "allowed_symbols",
                "allowed_trd_sides",
                "allowed_acc_ids",
                "max_order_value",
                "max_daily_value",
                "max_orders_per_minute",
                "hours_window",
                *ORDER_LIMITS,
            ]
        )
    )
    old = getattr(key, name)
    new: Any
    if name == "scopes":
        new = old - {draw(st.sampled_from(Scope))}
    elif name in ("max_order_value", "max_daily_value", "max_order_qty", "price_collar_pct"):
        new = draw(amounts) if old is None else min(old, draw(amounts))
    elif name == "max_orders_per_minute":
        new = draw(st.integers(0, 10)) if old is None else min(old, draw(st.integers(0, 10)))
    elif name == "duplicate_window_s":
        new = max(old or 1, draw(st.integers(1, 60)))
    elif name in ("extended_hours", "allow_short"):
        new = False
    elif name == "hours_window":
        new = draw(windows) if old is None else old[: max(1, len(old) - 1)]
    else:
        values: dict[str, Any] = {
            "allowed_markets": ["HK", "US", "CN", "HKCC"],
            "allowed_symbols": SYMBOLS,
            "allowed_trd_sides": list(Side),
            "allowed_order_types": list(OrderType),
            "allowed_acc_ids": [1001, 1002, 2001],
        }
        drawn = draw(st.frozensets(st.sampled_from(values[name]), min_size=1))
        new = drawn if old is None else (old & drawn) or frozenset([next(iter(old))])
    return replace(key, **{name: new})


@st.composite
def a_key_and_a_tighter_one(draw: st.DrawFn) -> tuple[Key, Key]:
    key = draw(keys(amounts))
    return key, tighter(draw, key)


@settings(max_examples=300, deadline=None)
@given(a_key_and_a_tighter_one(), intents(amounts), facts(amounts), usages(amounts), instants)
def test_tightening_a_limit_never_turns_a_refusal_into_an_approval(
    pair: tuple[Key, Key], intent: Intent, known: Facts, used: Usage, now: datetime
) -> None:
    loose, tight = pair
    known = matched(intent, known)
    if decide(loose, intent, known, used, now).refusal is not None:
        assert decide(tight, intent, known, used, now).refusal is not None


@settings(max_examples=150, deadline=None)
@given(
    keys(amounts),
    orders(amounts),
    facts(amounts),
    usages(amounts),
    instants,
    st.sampled_from([f.name for f in fields(Facts)]),
)
def test_forgetting_a_fact_about_an_order_never_turns_a_refusal_into_an_approval(
    key: Key, order: PlaceOrder, known: Facts, used: Usage, now: datetime, name: str
) -> None:
    known = matched(order, known)
    if decide(key, order, known, used, now).refusal is not None:
        assert decide(key, order, replace(known, **{name: None}), used, now).refusal is not None


@settings(max_examples=150, deadline=None)
@given(keys(amounts), orders(amounts), facts(amounts), usages(amounts), instants, amounts)
def test_a_larger_order_or_more_usage_never_turns_a_refusal_into_an_approval(
    key: Key, order: PlaceOrder, known: Facts, used: Usage, now: datetime, more: Decimal
) -> None:
    known = matched(order, known)
    if decide(key, order, known, used, now).refusal is None:
        return
    assert decide(key, replace(order, qty=order.qty + more), known, used, now).refusal is not None
    busier = replace(used, orders_last_minute=used.orders_last_minute + 1)
    busier = replace(busier, daily_value={currency: value + more for currency, value in used.daily_value.items()})
    assert decide(key, order, known, busier, now).refusal is not None


@settings(max_examples=150, deadline=None)
@given(keys(amounts), orders(amounts), facts(amounts), usages(amounts), instants)
def test_an_approved_order_under_a_value_cap_is_within_it(
    key: Key, order: PlaceOrder, known: Facts, used: Usage, now: datetime
) -> None:
    open_key = Key("bot", frozenset(Scope), max_order_value=key.max_order_value, max_daily_value=key.max_daily_value)
    known = matched(order, known)
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
    if order.side.sells or not order.order_type.priced:
        assert known.quote is not None
        assert Fraction(worth.value) >= units * Fraction(known.quote), "never less than at the market"
        assert order.aux_price is None or Fraction(worth.value) >= units * Fraction(order.aux_price)
    if not order.order_type.priced:
        best = Fraction(max(known.quote or 0, order.aux_price or 0))
        if order.order_type in (OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT) and not order.side.sells:
            assert known.quote is not None and order.trail is not None
            step = known.quote / 100 if order.trail.ratio else 1
            best = max(
                best,
                Fraction(known.quote) + Fraction(order.trail.value) * Fraction(step) + Fraction(order.trail.spread),
            )
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
    open_key = Key("bot", frozenset(Scope), max_order_value=key.max_order_value, max_daily_value=key.max_daily_value)
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


def test_a_rule_that_breaks_refuses_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.policy import decide as module

    def broken(_case: Case) -> Finding | None:
        raise ZeroDivisionError

    table = tuple(rule._replace(check=broken) if rule.code is Code.HOURS else rule for rule in module._ALL)
    monkeypatch.setattr(module, "_ALL", table)
    order = BUY
    decision = decide(Key("bot", frozenset(Scope)), order, matched(order, Facts()), Usage(), datetime.now(UTC))
    assert decision.refusal is not None
    assert decision.refusal.code is Code.HOURS
    assert "could not be made" in decision.refusal.message


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
