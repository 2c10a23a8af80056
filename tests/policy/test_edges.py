"""The very edges of the rules: nothing at all, less than one, exactly as much. Numbers that no table would think of."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from strategies import SECURITIES

from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ComboLeg,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    ReconfirmOrder,
    RestingOrder,
    Security,
    Side,
    Trail,
    TrdEnv,
)
from sidecar.policy import (
    caps,
    holdings,
    order_changes,
    order_limits,
    reduce_only,
    rules,
    short_sales,
    whitelists,
    worth,
)
from sidecar.policy.case import Case, case_of
from sidecar.policy.change import would_become
from sidecar.policy.currency import Exchange, Rates
from sidecar.policy.decide import decide, explain, screen
from sidecar.policy.decision import Finding
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.legs import Leg
from sidecar.policy.trading import ACTIVE, Standing, TradingState, locked_told
from sidecar.policy.usage import (
    Account,
    Facts,
    Instrument,
    InstrumentKind,
    LegFacts,
    OrderOwner,
    Position,
    Terms,
    Usage,
)

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
ACCOUNT = AccountRef(1001, TrdEnv.SIMULATE)
KEY = Key("bot", frozenset(Scope))
TENCENT, APPLE = SECURITIES[0], SECURITIES[1]
SHARE = Instrument(InstrumentKind.STOCK, Decimal(1), "HKD")
TERMS = Terms(Decimal(5))
ORDER = PlaceOrder(ACCOUNT, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(100), Decimal(350))
FACTS = Facts(account=Account(1001, TrdEnv.SIMULATE, frozenset({1, 2})), instrument=SHARE, trading=ACTIVE)


def number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def case(order: PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder, facts: Facts = FACTS, key: Key = KEY) -> Case:
    return case_of(key, order, facts, Usage(), NOW, TERMS)


def told(finding: Finding | None) -> str:
    assert finding is not None
    return finding.detail


# -- whitelists -------------------------------------------------------------------------------------------------------

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


# -- hours ------------------------------------------------------------------------------------------------------------


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


# -- words ------------------------------------------------------------------------------------------------------------


def test_an_order_is_named_by_the_id_its_client_gave() -> None:
    rival = replace(FACTS, order_owner=OrderOwner("rival"))
    key = Key("bot", frozenset({Scope.TRADE_SIMULATE}))
    assert "order `4711` was" in told(rules.own_order(case(CancelOrder(ACCOUNT, OrderRef(4711, "")), rival, key)))
    assert "order `EX7` was" in told(rules.own_order(case(CancelOrder(ACCOUNT, OrderRef(4711, "EX7")), rival, key)))


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in Tokyo, where the day begins nine hours earlier."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.mark.usefixtures("tokyo")
def test_states_are_told_in_utc_wherever_the_machine_is() -> None:
    since, now = datetime(2026, 11, 20, 14, 41, tzinfo=UTC), datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
    assert "since 14:41 UTC:" in Standing(TradingState.HALTED, None, since, "x").told(now)
    assert "since 14:41 UTC;" in locked_told(since, now)


# -- what an order is worth -------------------------------------------------------------------------------------------


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


COMBO = PlaceCombo(
    ACCOUNT, (ComboLeg(TENCENT, Side.BUY, Decimal(1)), ComboLeg(TENCENT, Side.SELL, Decimal(1))), OrderType.NORMAL,
    Decimal(10), Decimal(1),
)  # fmt: skip
LEGS = replace(FACTS, legs=(LegFacts(SHARE, Decimal(300)), LegFacts(SHARE, Decimal(200))))


@pytest.mark.parametrize(("net", "more"), [("500", False), ("-500", False), ("500.01", True), ("-500.01", True)])
def test_a_combo_counts_at_its_net_price_only_where_that_is_more(net: str, more: bool) -> None:
    found = worth.worth(replace(COMBO, price=Decimal(net)), LEGS, TERMS)
    assert found is not None
    assert ("net price" in found.explanation) is more
    assert found.value == (Decimal("5000.1") if more else 5000)


def test_a_combo_that_cannot_be_converted_has_no_worth() -> None:
    for rates in (None, Rates("USD", date(2026, 11, 20), 7, {})):
        assert worth.worth(COMBO, LEGS, TERMS, Exchange("USD", rates, "too old")) is None


# -- changes ----------------------------------------------------------------------------------------------------------


def change(**fields: object) -> ModifyOrder:
    return ModifyOrder(ACCOUNT, ModifyOp.NORMAL, OrderRef(0, "EX7"), **fields)  # type: ignore[arg-type]


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


# -- holdings ---------------------------------------------------------------------------------------------------------

WHOLE = Position(Decimal(5), Decimal(0), net=Decimal(5), open_buys=Decimal(0), open_sells=Decimal(0))


@pytest.mark.parametrize("missing", ["net", "open_buys", "open_sells"])
def test_a_position_of_which_one_number_is_missing_is_not_known(missing: str) -> None:
    key = replace(KEY, max_position_value=Decimal(10**6))
    known = replace(FACTS, quote=Decimal(350), position=replace(WHOLE, **{missing: None}))
    assert "does not say how much of `HK.00700` is held" in told(holdings.position(case(ORDER, known, key)))
    assert "cannot be told" in told(holdings.position_value(case(ORDER, known, key)))
    whole = replace(known, position=WHOLE)
    assert "5 of HK.00700 held, 0 being bought, 0 being sold" in told(holdings.position(case(ORDER, whole, key)))


REDUCING = replace(FACTS, trading=Standing(TradingState.REDUCING, None, NOW, "after the close"))


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


# -- what cannot be told ----------------------------------------------------------------------------------------------


def whole(finding: Finding | None) -> tuple[str, str, str]:
    """Rule, code and words of a refusal."""
    assert finding is not None and finding.refusal is not None
    assert finding.refusal.message == finding.detail
    return finding.rule, finding.refusal.code.value, finding.detail


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


NOTHING = replace(COMBO, legs=())


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
    assert decision.refusal is not None
    assert decision.refusal.code.value == "daily_value"


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


# -- positions --------------------------------------------------------------------------------------------------------

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
