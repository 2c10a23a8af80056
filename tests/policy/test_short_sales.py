"""What the rules of short sales say where other rules refuse first, or quantities do not say what is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

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
    ReconfirmOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.policy.case import Case, case_of
from sidecar.policy.decide import needs
from sidecar.policy.decision import Code, Finding
from sidecar.policy.key import Key, Scope
from sidecar.policy.short_sales import position, short_sale
from sidecar.policy.usage import Facts, Need, Position, Usage

KEY = Key("bot", frozenset(Scope), allow_short=False)
ACCOUNT = AccountRef(1001, TrdEnv.REAL)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
TOYOTA = Security("JP", "JP.7203", 81, "7203", 15)
EVENT = Security("EC", "EC.KXHIGH-26", 101, "KXHIGH-26", 17)
NIKKEI = Security("JP", "JP.NK2612", 81, "NK2612", 13)
PLENTY = Facts(position=Position(Decimal(10**6), Decimal(0)))
REF = OrderRef(0, "A1")


def sale(security: Security) -> PlaceOrder:
    return PlaceOrder(ACCOUNT, security, Side.SELL, OrderType.NORMAL, Decimal(1), Decimal(1))


def combo(*sides: Side) -> PlaceCombo:
    legs = tuple(ComboLeg(TENCENT, side, Decimal(1)) for side in sides)
    return PlaceCombo(ACCOUNT, legs, OrderType.NORMAL, Decimal(1), Decimal(1))


def asked(intent: Intent, facts: Facts = PLENTY, key: Key = KEY) -> Case:
    return case_of(key, intent, facts, Usage(), datetime.now(UTC))


def code(finding: Finding | None) -> Code | None:
    return None if finding is None or finding.refusal is None else finding.refusal.code


@pytest.mark.parametrize("security", [TOYOTA, EVENT])
def test_where_the_sum_does_not_say_what_may_be_sold_a_sale_is_refused_without_asking(security: Security) -> None:
    assert needs(KEY, sale(security)) == frozenset()
    assert code(position(asked(sale(security)))) is Code.POSITION_UNKNOWN


@pytest.mark.parametrize("security", [TENCENT, NIKKEI])
def test_elsewhere_it_is_asked_for(security: Security) -> None:
    assert needs(KEY, sale(security)) == {Need.POSITION}
    assert code(position(asked(sale(security)))) is None


@pytest.mark.parametrize(
    ("intent", "refusal"),
    [
        (combo(Side.BUY, Side.SELL), Code.POSITION_UNKNOWN),
        (combo(Side.BUY, Side.BUY_BACK), None),
        (ModifyOrder(ACCOUNT, ModifyOp.DISABLE, REF), None),
        (ModifyOrder(ACCOUNT, ModifyOp.DELETE, REF), None),
        (ReconfirmOrder(ACCOUNT, REF), Code.POSITION_UNKNOWN),
    ],
)
def test_what_may_sell_and_does_not_say_how_much_of_one_security_is_refused(
    intent: Intent, refusal: Code | None
) -> None:
    assert code(position(asked(intent))) is refusal
    assert position(asked(intent, key=replace(KEY, allow_short=None))) is None


def test_a_combo_with_a_leg_that_sells_short_is_one_short_sale() -> None:
    assert code(short_sale(asked(combo(Side.BUY, Side.SELL_SHORT)))) is Code.SHORT_SALE


def test_a_holding_against_which_nothing_was_counted_is_not_known() -> None:
    case = asked(sale(TENCENT), Facts(position=Position(Decimal(10**6))))
    assert short_sale(case) is None
    assert code(position(case)) is Code.POSITION_UNKNOWN
