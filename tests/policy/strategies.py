"""Keys, requests, facts and usage of every kind, for properties; and keys that are a little tighter. Expects nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

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
    RestingOrder,
    Security,
    Side,
    SubscribeAccounts,
    Trail,
    TrdEnv,
    Unlock,
)
from sidecar.policy.currency import Rates
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.market_state import MarketState, Session
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from sidecar.policy.usage import (
    Account,
    Approved,
    Facts,
    Instrument,
    InstrumentKind,
    LegFacts,
    OrderOwner,
    Position,
    Terms,
    Usage,
)

SECURITIES = (
    Security("HK", "HK.00700", 1, "00700", 1),
    Security("US", "US.AAPL", 11, "AAPL", 2),
    Security("US", "US.AAPL260116C150000", 11, "AAPL260116C150000", 2),
    Security("CN", "SH.600519", 21, "600519", 4),
    Security("CN", "SZ.000001", 22, "000001", 3),
)
SYMBOLS = ("HK.00700", "HK.*", "US.AAPL", "US.*", "US.AAPL@options", "SH.600519", "SZ.*")
ZONES = (ZoneInfo("Asia/Hong_Kong"), ZoneInfo("America/New_York"), UTC, None)
CURRENCIES = ("HKD", "USD", "JPY")

amounts = st.decimals(min_value="0.0001", max_value=10**7, allow_nan=False, allow_infinity=False)
nonsense = st.decimals(allow_nan=True, allow_infinity=True)
refs = st.builds(AccountRef, st.sampled_from([1001, 1002, 2001]), st.sampled_from(TrdEnv))
securities = st.sampled_from(SECURITIES)
order_refs = st.builds(OrderRef, st.just(0), st.sampled_from(["A1", "A2"]))
instants = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2035, 1, 1), timezones=st.just(UTC))

Numbers = st.SearchStrategy[Decimal]


# -- requests ---------------------------------------------------------------------------------------------------------


def orders(numbers: Numbers) -> st.SearchStrategy[PlaceOrder]:
    return st.builds(
        PlaceOrder,
        account=refs,
        security=securities,
        side=st.sampled_from(Side),
        order_type=st.sampled_from(OrderType),
        qty=numbers,
        price=st.none() | numbers,
        aux_price=st.none() | numbers,
        trail=st.none() | trails(numbers),
        adjust_limit=st.none() | st.decimals(min_value="-0.99", max_value="0.99", allow_nan=False),
        outside_rth=st.booleans(),
        session=st.integers(0, 4),
        amount=st.none() | numbers,
    )


def trails(numbers: Numbers) -> st.SearchStrategy[Trail]:
    return st.builds(Trail, numbers, st.booleans(), numbers)


legs = st.builds(ComboLeg, securities, st.sampled_from(Side), amounts)


def combos(numbers: Numbers, fewest: int = 0) -> st.SearchStrategy[PlaceCombo]:
    some_legs = st.lists(legs, min_size=fewest, max_size=3).map(tuple)
    return st.builds(PlaceCombo, refs, some_legs, st.sampled_from(OrderType), numbers, numbers)


def changes(numbers: Numbers) -> st.SearchStrategy[ModifyOrder]:
    return st.builds(
        ModifyOrder,
        account=refs,
        op=st.sampled_from(ModifyOp) | st.just(ModifyOp.NORMAL),
        order=order_refs,
        qty=st.none() | numbers,
        price=st.none() | numbers,
        aux_price=st.none() | numbers,
        adjust_limit=st.none() | st.decimals(min_value="-0.99", max_value="0.99", allow_nan=False),
        trail=st.none() | trails(numbers),
    )


def trades(numbers: Numbers) -> st.SearchStrategy[PlaceOrder | PlaceCombo | ModifyOrder]:
    """What can add to what is at stake."""
    return st.one_of(orders(numbers), combos(numbers), changes(numbers))


def intents(numbers: Numbers) -> st.SearchStrategy[Intent]:
    return st.one_of(
        orders(numbers),
        orders(numbers),
        combos(numbers),
        changes(numbers),
        st.builds(CancelOrder, refs, order_refs, st.booleans()),
        st.builds(ReadAccount, refs, st.booleans()),
        st.builds(ReconfirmOrder, refs, order_refs),
        st.just(ListAccounts()),
        st.just(ReadSubscriptions()),
        st.builds(SubscribeAccounts, st.lists(st.integers(0, 5)).map(tuple)),
        st.builds(Unlock, st.booleans(), st.text()),
    )


# -- keys -------------------------------------------------------------------------------------------------------------


def some(values: Any) -> st.SearchStrategy[Any]:
    return st.none() | st.frozensets(st.sampled_from(values), min_size=1)


windows = st.lists(st.builds(HoursWindow, st.times(), st.times()), min_size=1, max_size=3).map(tuple)


def keys(numbers: Numbers) -> st.SearchStrategy[Key]:
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
        max_position_value=st.none() | numbers,
        cap_currency=st.none() | st.sampled_from(CURRENCIES),
        max_orders_per_minute=st.none() | st.integers(0, 10),
        max_open_orders=st.none() | st.integers(0, 10),
        allowed_order_types=some(list(OrderType)),
        max_order_qty=st.none() | numbers,
        price_collar_pct=st.none() | numbers,
        duplicate_window_s=st.none() | st.integers(1, 60),
        trading_hours=st.none() | st.booleans(),
        extended_hours=st.none() | st.booleans(),
        allow_short=st.none() | st.booleans(),
        hours_window=st.none() | windows,
        zone=st.sampled_from(ZONES),
    )


LIMITS = (
    "scopes", "allowed_markets", "allowed_symbols", "allowed_trd_sides", "allowed_acc_ids", "max_order_value", "max_daily_value",
    "max_position_value", "max_orders_per_minute", "max_open_orders", "allowed_order_types", "max_order_qty", "price_collar_pct",
    "duplicate_window_s", "trading_hours", "extended_hours", "allow_short", "hours_window",
)  # fmt: skip
"""Every field of a key that can be narrower than it is. In another cap_currency amounts are others, neither more nor less."""
_AMOUNTS = ("max_order_value", "max_daily_value", "max_position_value", "max_order_qty", "price_collar_pct")
_COUNTS = ("max_orders_per_minute", "max_open_orders")
_STRICT = {"trading_hours": True, "extended_hours": False, "allow_short": False}
_VALUES: dict[str, Any] = {
    "allowed_markets": ["HK", "US", "CN", "HKCC"],
    "allowed_symbols": SYMBOLS,
    "allowed_trd_sides": list(Side),
    "allowed_order_types": list(OrderType),
    "allowed_acc_ids": [1001, 1002, 2001],
}


@st.composite
def a_key_and_a_tighter_one(draw: st.DrawFn) -> tuple[Key, Key]:
    """The same key with one limit narrower, or set where there was none."""
    key = draw(keys(amounts))
    name = draw(st.sampled_from(LIMITS))
    old, new = getattr(key, name), None
    if name == "scopes":
        new = old - {draw(st.sampled_from(Scope))}
    elif name in _AMOUNTS:
        new = draw(amounts) if old is None else min(old, draw(amounts))
    elif name in _COUNTS:
        new = draw(st.integers(0, 10)) if old is None else min(old, draw(st.integers(0, 10)))
    elif name == "duplicate_window_s":
        new = max(old or 1, draw(st.integers(1, 60)))
    elif name in _STRICT:
        new = _STRICT[name]
    elif name == "hours_window":
        new = draw(windows) if old is None else old[: max(1, len(old) - 1)]
    else:
        drawn = draw(st.frozensets(st.sampled_from(_VALUES[name]), min_size=1))
        new = drawn if old is None else (old & drawn) or frozenset([next(iter(old))])
    return key, replace(key, **{name: new})


# -- facts, usage, terms ----------------------------------------------------------------------------------------------

standings = st.builds(
    Standing,
    st.sampled_from(TradingState),
    st.none() | st.sampled_from(["bot", "other"]),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=20),
)
market_states = st.builds(MarketState, st.sampled_from(Session), st.just("MORNING"))


def instruments(numbers: Numbers) -> st.SearchStrategy[Instrument]:
    return st.builds(
        Instrument,
        st.sampled_from(InstrumentKind) | st.just(InstrumentKind.STOCK),
        st.none() | numbers,
        st.sampled_from(["HKD", "USD", ""]),
        st.none() | st.sampled_from(["US.AAPL", "HK.00700"]),
    )


def positions(numbers: Numbers) -> st.SearchStrategy[Position]:
    signed = st.builds(lambda number, short: number.copy_negate() if short else number, numbers, st.booleans())
    return st.builds(
        Position,
        sellable=numbers,
        reserved=st.none() | numbers,
        net=st.none() | signed,
        price=st.none() | numbers,
        open_buys=st.none() | numbers,
        open_sells=st.none() | numbers,
    )


def leg_facts(numbers: Numbers) -> st.SearchStrategy[LegFacts]:
    return st.builds(
        LegFacts,
        st.none() | instruments(numbers),
        st.none() | numbers,
        st.none() | positions(numbers),
        st.none() | market_states,
    )


def resting_orders(numbers: Numbers) -> st.SearchStrategy[RestingOrder]:
    return st.builds(
        RestingOrder,
        order=orders(numbers) | combos(numbers, fewest=2),
        order_id=st.just(7),
        order_id_ex=st.just("A1"),
        filled=st.just(Decimal(0)) | numbers,
        fill_price=st.none() | numbers,
    )


def facts(numbers: Numbers) -> st.SearchStrategy[Facts]:
    accounts = st.builds(
        Account,
        st.sampled_from([1001, 1002, 2001]),
        st.sampled_from(TrdEnv),
        some([1, 2, 3, 4]).map(lambda m: m or frozenset()),
    )
    return st.builds(
        Facts,
        account=st.none() | accounts,
        instrument=st.none() | instruments(numbers),
        quote=st.none() | numbers,
        position=st.none() | positions(numbers),
        market_state=st.none() | market_states,
        order_owner=st.none() | st.builds(OrderOwner, st.none() | st.sampled_from(["bot", "other", "third"])),
        trading=st.none() | st.just(ACTIVE) | standings,
        locked_since=st.none() | st.datetimes(timezones=st.just(UTC)),
        legs=st.lists(leg_facts(numbers), max_size=3).map(tuple),
        resting=st.none() | resting_orders(numbers),
        approved=st.none()
        | st.builds(Approved, st.none() | numbers, st.none() | numbers, st.none() | st.sampled_from(CURRENCIES)),
    )


def usages(numbers: Numbers) -> st.SearchStrategy[Usage]:
    return st.builds(
        Usage,
        orders_last_minute=st.integers(0, 12),
        oldest_order_age=st.floats(0, 60),
        cancels_last_minute=st.integers(0, 200),
        daily_value=st.dictionaries(st.sampled_from(CURRENCIES), numbers),
        open_orders=st.integers(0, 12),
        same_order_age=st.none() | st.floats(0, 90),
    )


def terms(numbers: Numbers) -> st.SearchStrategy[Terms]:
    """Rates that are good at the moment `matched` moves a decision to, mostly."""
    rates = st.builds(
        Rates,
        base=st.just("HKD"),
        as_of=st.just(date(2026, 11, 20)),
        max_age_days=st.integers(0, 5000),
        per_unit=st.fixed_dictionaries({}, optional={"USD": numbers, "JPY": numbers}),
    )
    return st.builds(Terms, price_buffer_pct=st.decimals(0, 100, places=2), rates=st.none() | rates)


def matched(intent: Intent, known: Facts) -> Facts:
    """The facts with the account, the order and the legs this request is about: else nearly all are refused for that."""
    ref = getattr(intent, "account", None)
    if known.trading is None:
        known = replace(known, trading=ACTIVE)
    if ref is None:
        return known
    known = replace(known, account=Account(ref.acc_id, ref.env, frozenset({1, 2, 4})), locked_since=None)
    order: Any = intent
    if isinstance(intent, ModifyOrder) and known.resting is not None:
        order = replace(known.resting.order, account=ref)
        known = replace(known, resting=replace(known.resting, order=order))
    if isinstance(order, PlaceCombo):
        one = LegFacts(known.instrument, known.quote, known.position, known.market_state)
        known = replace(known, legs=(known.legs + (one,) * len(order.legs))[: len(order.legs)])
    return known
