"""The value of an order by itself: what has none, whatever the rules around it would say."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Security, Side, TrdEnv
from sidecar.policy.usage import Facts, Instrument, InstrumentKind, Terms
from sidecar.policy.worth import worth

SHARE = Instrument(InstrumentKind.STOCK, Decimal(1), "HKD")
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
ORDER = PlaceOrder(AccountRef(1, TrdEnv.REAL), TENCENT, Side.BUY, OrderType.NORMAL, Decimal(100), Decimal(450))


def test_an_order_that_is_told_whole_has_a_value() -> None:
    value = worth(ORDER, Facts(instrument=SHARE), Terms())
    assert value is not None
    assert (value.value, value.currency) == (Decimal(45_000), "HKD")


@pytest.mark.parametrize(
    "change",
    [{"qty": Decimal(0)}, {"qty": Decimal(-1)}, {"price": None}, {"price": Decimal(0)}, {"amount": Decimal(1)}],
)
def test_an_order_without_a_quantity_or_a_price_and_a_stake_have_none(change: dict[str, Any]) -> None:
    assert worth(replace(ORDER, **change), Facts(instrument=SHARE), Terms()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"multiplier": None},
        {"multiplier": Decimal(0)},
        {"multiplier": Decimal(-1)},
        {"currency": ""},
        {"kind": InstrumentKind.OTHER},
    ],
)
def test_what_is_not_known_for_certain_has_none(change: dict[str, Any]) -> None:
    assert worth(ORDER, Facts(instrument=replace(SHARE, **change)), Terms()) is None


def test_a_value_too_long_for_exact_arithmetic_is_refused_not_rounded() -> None:
    endless = Decimal("1." + "1" * 150)
    with pytest.raises(ArithmeticError):
        worth(replace(ORDER, qty=endless, price=endless), Facts(instrument=SHARE), Terms())
