"""The order behind a change, as OpenD lists it: read into the words of an order, or not at all."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import order_requests
import pytest

from sidecar.intents.model import AccountRef, OrderType, PlaceCombo, PlaceOrder, Side, Trail, TrdEnv
from sidecar.intents.read import read
from sidecar.intents.resting import read_resting
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

HERE = AccountRef(1001, TrdEnv.SIMULATE)


def listed(**changes: Any) -> Any:
    """A resting buy of 200 HK.00700 at 350.2, of which 50 are filled."""
    response: Any = message_class("Trd_GetOrderList.Response")()
    order = response.s2c.orderList.add()
    order.trdSide, order.orderType, order.orderStatus = 1, 1, 10
    order.orderID, order.orderIDEx, order.code, order.name = 7, "EX7", "00700", "TENCENT"
    order.qty, order.price, order.createTime, order.updateTime = 200.0, 350.2, "", ""
    order.fillQty, order.fillAvgPrice = 50.0, 350.1
    order.secMarket, order.trdMarket, order.remark = 1, 1, "mine"
    for name, value in changes.items():
        if value is None:
            order.ClearField(name)
        else:
            setattr(order, name, value)
    return order


def test_an_order_reads_as_it_would_if_it_were_placed() -> None:
    found = read_resting(HERE, listed(timeInForce=1, session=2, fillOutsideRTH=True))
    assert found is not None
    assert (found.order_id, found.order_id_ex, found.filled, found.fill_price) == (
        7, "EX7", Decimal(50), Decimal("350.1"),
    )  # fmt: skip
    placed = read(
        catalog.PLACE_ORDER,
        order_requests.place(qty=200.0, remark="mine", timeInForce=1, session=2, fillOutsideRTH=True),
    )
    assert isinstance(found.order, PlaceOrder)
    assert found.order == placed


def test_what_nothing_was_filled_at_is_no_price() -> None:
    found = read_resting(HERE, listed(fillQty=0.0, fillAvgPrice=0.0))
    assert found is not None
    assert (found.filled, found.fill_price) == (Decimal(0), None)


def test_the_noise_of_an_average_is_left_out() -> None:
    found = read_resting(HERE, listed(fillAvgPrice=350.20000000000005))
    assert found is not None
    assert found.fill_price == Decimal("350.2")


def test_the_price_of_a_type_that_has_none_is_not_read() -> None:
    found = read_resting(HERE, listed(orderType=10, price=1.0, auxPrice=400.0))
    assert found is not None and isinstance(found.order, PlaceOrder)
    assert (found.order.order_type, found.order.price, found.order.aux_price) == (OrderType.STOP, None, Decimal(400))


@pytest.mark.parametrize(
    ("told", "trail"),
    [
        ({"trailType": 1, "trailValue": 5.0}, Trail(Decimal(5), ratio=True)),
        ({"trailType": 2, "trailValue": 3.5, "trailSpread": 0.2}, Trail(Decimal("3.5"), False, Decimal("0.2"))),
        ({"trailType": 1}, None),
        ({"trailValue": 5.0}, None),
    ],
)
def test_how_an_order_trails(told: dict[str, Any], trail: Trail | None) -> None:
    found = read_resting(HERE, listed(orderType=15, **told))
    assert found is not None and isinstance(found.order, PlaceOrder)
    assert found.order.trail == trail


def test_a_short_sale_is_listed_as_one() -> None:
    found = read_resting(HERE, listed(trdSide=3))
    assert found is not None and isinstance(found.order, PlaceOrder)
    assert found.order.side is Side.SELL_SHORT


def test_the_market_of_the_header_counts_where_the_order_has_none() -> None:
    assert read_resting(HERE, listed(trdMarket=None), 1) is not None
    shanghai = read_resting(HERE, listed(code="600519", secMarket=31, trdMarket=4), 1)
    assert shanghai is not None and isinstance(shanghai.order, PlaceOrder)
    assert (shanghai.order.security.symbol, shanghai.order.security.trd_market) == ("SH.600519", 4)


def test_a_combo_reads_leg_by_leg() -> None:
    order = listed(code="AAPL Spread", secMarket=2, trdMarket=2, price=-1.5, qty=2.0, fillQty=0.0, remark=None)
    for code, side in (("AAPL260116C150000", 1), ("AAPL260116C160000", 2)):
        leg = order.comboLegs.add(side=side, qtyRatio=1.0)
        leg.security.market, leg.security.code = 11, code
    found = read_resting(HERE, order)
    assert found is not None and isinstance(found.order, PlaceCombo)
    assert found.order == read(catalog.PLACE_COMBO_ORDER, order_requests.combo())


@pytest.mark.parametrize(
    "changes",
    [
        {"code": ""},
        {"secMarket": 99},
        {"trdSide": 0},
        {"orderType": 0},
        {"qty": 0.0},
        {"qty": math.nan},
        {"price": math.inf},
        {"auxPrice": math.nan},
        {"fillQty": math.nan},
        {"orderID": 0, "orderIDEx": None},
    ],
)
def test_an_order_that_does_not_say_all_that_a_rule_could_want_is_not_known(changes: dict[str, Any]) -> None:
    order = listed()
    for name, value in changes.items():
        if value is None:
            setattr(order, name, "")
        else:
            setattr(order, name, value)
    assert read_resting(HERE, order) is None


@pytest.mark.parametrize("broken", [{"side": 0}, {"qtyRatio": 0.0}, {"code": ""}])
def test_a_combo_with_a_leg_that_cannot_be_read_is_not_known(broken: dict[str, Any]) -> None:
    order = listed(secMarket=2, trdMarket=2)
    leg = order.comboLegs.add(side=broken.get("side", 1), qtyRatio=broken.get("qtyRatio", 1.0))
    leg.security.market, leg.security.code = 11, broken.get("code", "AAPL")
    assert read_resting(HERE, order) is None
