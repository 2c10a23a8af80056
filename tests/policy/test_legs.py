"""What an order trades, security by security: units, sides, and what is known of each."""

from __future__ import annotations

from decimal import Decimal

from strategies import SECURITIES

from sidecar.intents.model import AccountRef, ComboLeg, OrderType, PlaceCombo, PlaceOrder, Side, TrdEnv
from sidecar.policy.legs import Leg, legs_of, units_of
from sidecar.policy.market_state import MarketState, Session
from sidecar.policy.usage import Facts, Instrument, InstrumentKind, LegFacts, Position

ACCOUNT = AccountRef(1001, TrdEnv.SIMULATE)
TENCENT, APPLE = SECURITIES[0], SECURITIES[1]
PLAIN = PlaceOrder(ACCOUNT, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(300), Decimal(350))
COMBO = PlaceCombo(
    ACCOUNT,
    (
        ComboLeg(TENCENT, Side.BUY, Decimal(2)),
        ComboLeg(APPLE, Side.SELL, Decimal(3)),
        ComboLeg(TENCENT, Side.SELL_SHORT, Decimal("0.5")),
    ),
    OrderType.NORMAL,
    Decimal(10),
    Decimal(1),
)
KNOWN = LegFacts(
    Instrument(InstrumentKind.STOCK, Decimal(1), "HKD"),
    Decimal(350),
    Position(Decimal(5)),
    MarketState(Session.REGULAR, "MORNING"),
)


def test_a_plain_order_is_one_leg_of_what_it_adds_with_all_that_is_known() -> None:
    facts = Facts(None, KNOWN.instrument, KNOWN.quote, position=KNOWN.position, market_state=KNOWN.market_state)
    assert legs_of(PLAIN, facts, Decimal(7)) == (Leg(TENCENT, Side.BUY, Decimal(7), KNOWN),)


def test_each_leg_of_a_combo_has_its_ratio_of_what_is_added_and_its_own_facts() -> None:
    other = LegFacts(quote=Decimal(180))
    assert legs_of(COMBO, Facts(legs=(KNOWN, other, LegFacts())), Decimal(4)) == (
        Leg(TENCENT, Side.BUY, Decimal(8), KNOWN),
        Leg(APPLE, Side.SELL, Decimal(12), other),
        Leg(TENCENT, Side.SELL_SHORT, Decimal(2), LegFacts()),
    )


def test_facts_of_another_number_of_legs_are_facts_of_none() -> None:
    for legs in ((), (KNOWN,), (KNOWN,) * 2, (KNOWN,) * 4):
        assert [leg.known for leg in legs_of(COMBO, Facts(legs=legs), Decimal(1))] == [LegFacts()] * 3


def test_units_are_those_of_one_security_over_the_whole_order_bought_and_sold() -> None:
    assert units_of(PLAIN, TENCENT.symbol) == (300, 0)
    assert units_of(PLAIN, APPLE.symbol) == (0, 0)
    assert units_of(COMBO, TENCENT.symbol) == (20, 5)
    assert units_of(COMBO, APPLE.symbol) == (0, 30)


def test_units_of_several_legs_of_one_way_are_added_up() -> None:
    twice = PlaceCombo(ACCOUNT, COMBO.legs * 2, OrderType.NORMAL, Decimal(10), Decimal(1))
    assert units_of(twice, TENCENT.symbol) == (40, 10)
    assert units_of(twice, APPLE.symbol) == (0, 60)
