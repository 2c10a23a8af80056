"""Reading what OpenD says about orders: replies, pushes, lists."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sidecar.errors import BodyError
from sidecar.intents.model import AccountRef, OrderType, Side, TrdEnv
from sidecar.intents.replies import (
    ENDED_STATUSES,
    FAILED_STATUSES,
    OrderStatus,
    PushSubject,
    read_order,
    read_place_reply,
    read_push,
)
from sidecar.wire import catalog
from sidecar.wire.messages import message_class, module

REAL = AccountRef(2001, TrdEnv.REAL)


def header(header: Any, trd_market: int = 1) -> None:
    header.trdEnv, header.accID, header.trdMarket = 1, 2001, trd_market


def order_push(**changes: Any) -> Any:
    push: Any = message_class("Trd_UpdateOrder.Response")()
    push.retType = 0
    header(push.s2c.header)
    order = push.s2c.order
    order.trdSide, order.orderType, order.orderStatus = 2, 1, 5
    order.orderID, order.orderIDEx, order.code, order.name = 42, "FH1D4E", "00700", "TENCENT"
    order.qty, order.price, order.secMarket, order.remark = 100.0, 350.2, 1, "#01J"
    order.createTime = order.updateTime = "2026-11-20 11:00:00"
    for name, value in changes.items():
        if value is None:
            order.ClearField(name)
        else:
            setattr(order, name, value)
    return push


def test_an_order_push_is_read() -> None:
    subject = read_push(catalog.UPDATE_ORDER, order_push())
    assert subject.account == REAL
    assert (subject.order_id, subject.order_id_ex, subject.remark) == (42, "FH1D4E", "#01J")
    assert (subject.symbol, subject.side, subject.order_type) == ("HK.00700", Side.SELL, OrderType.NORMAL)
    assert (subject.qty, subject.price, subject.order_status) == (Decimal(100), Decimal("350.2"), OrderStatus.SUBMITTED)
    assert subject.fill_qty is None


def test_a_push_without_a_remark_or_price_says_so() -> None:
    subject = read_push(catalog.UPDATE_ORDER, order_push(remark=None, price=None, fillQty=30.0))
    assert (subject.remark, subject.price, subject.fill_qty) == (None, None, Decimal(30))


def test_a_push_whose_order_is_not_understood_still_names_its_account() -> None:
    push = order_push(trdSide=77, orderType=77, orderStatus=77, secMarket=77, qty=float("nan"), price=float("inf"))
    subject = read_push(catalog.UPDATE_ORDER, push)
    assert subject == PushSubject(REAL, 42, "FH1D4E", "#01J", order_status=77)
    assert subject.symbol is None


def test_the_route_is_the_orders_own_before_the_headers() -> None:
    subject = read_push(catalog.UPDATE_ORDER, order_push(secMarket=31, code="600519", trdMarket=4))
    assert subject.security is not None and subject.security.trd_market == 4
    subject = read_push(catalog.UPDATE_ORDER, order_push())
    assert subject.security is not None and subject.security.trd_market == 1


def test_an_order_of_an_odd_code_keeps_its_symbol() -> None:
    assert read_push(catalog.UPDATE_ORDER, order_push(code="odd code")).symbol == "HK.odd code"


def test_text_of_a_push_that_is_not_utf8_counts_as_not_given() -> None:
    push = order_push(orderIDEx="", remark=None)
    push.s2c.order.MergeFromString(b"\x2a\x02\xff\xfe\x92\x01\x02\xff\xfe")
    subject = read_push(catalog.UPDATE_ORDER, push)
    assert (subject.order_id_ex, subject.remark) == ("", "")


def test_a_fill_push_is_read() -> None:
    push: Any = message_class("Trd_UpdateOrderFill.Response")()
    header(push.s2c.header)
    fill = push.s2c.orderFill
    fill.trdSide, fill.code, fill.qty, fill.price, fill.secMarket = 1, "00700", 100.0, 350.2, 1
    fill.orderID, fill.orderIDEx = 42, "FH1D4E"
    subject = read_push(catalog.UPDATE_ORDER_FILL, push)
    assert subject.account == REAL
    assert (subject.order_id, subject.order_id_ex, subject.symbol) == (42, "FH1D4E", "HK.00700")
    assert (subject.fill_qty, subject.price, subject.remark, subject.order_status) == (
        Decimal(100),
        Decimal("350.2"),
        None,
        None,
    )


def test_a_plain_notice_names_only_its_account() -> None:
    push: Any = message_class("Trd_UpdateOrder.Response")()
    header(push.s2c.header)
    assert read_push(catalog.TRD_NOTIFY, push) == PushSubject(REAL)


def test_a_push_of_no_environment_belongs_to_nobody() -> None:
    push = order_push()
    push.s2c.header.trdEnv = 7
    with pytest.raises(BodyError, match="trdEnv `7`"):
        read_push(catalog.UPDATE_ORDER, push)


def test_a_push_that_names_no_account_is_not_read() -> None:
    with pytest.raises(BodyError, match="1003"):
        read_push(catalog.NOTIFY, order_push())


def test_an_order_of_a_list_is_read_like_a_pushed_one() -> None:
    push = order_push()
    assert read_order(REAL, push.s2c.order, 1) == read_push(catalog.UPDATE_ORDER, push)


def test_the_reply_to_an_order_is_read() -> None:
    reply: Any = message_class("Trd_PlaceOrder.Response")()
    reply.retType, reply.s2c.orderID, reply.s2c.orderIDEx = 0, 42, "FH1D4E"
    assert read_place_reply(catalog.PLACE_ORDER, reply) == (0, "", 42, "FH1D4E")


def test_a_refusal_of_opend_is_read() -> None:
    reply: Any = message_class("Trd_PlaceOrder.Response")()
    reply.retType, reply.retMsg = -1, "insufficient buying power"
    assert read_place_reply(catalog.PLACE_ORDER, reply) == (-1, "insufficient buying power", 0, "")


def test_the_reply_to_a_combo_has_only_the_longer_id() -> None:
    reply: Any = message_class("Trd_PlaceComboOrder.Response")()
    reply.retType, reply.s2c.orderIDEx = 0, "FH1D4E"
    assert read_place_reply(catalog.PLACE_COMBO_ORDER, reply) == (0, "", 0, "FH1D4E")


def test_the_reply_to_a_change_is_read() -> None:
    reply: Any = message_class("Trd_ModifyOrder.Response")()
    reply.retType, reply.s2c.orderID, reply.s2c.orderIDEx = 0, 42, "FH1D4E"
    assert read_place_reply(catalog.MODIFY_ORDER, reply) == (0, "", 42, "FH1D4E")


def test_another_reply_is_not_one_of_an_order() -> None:
    with pytest.raises(BodyError, match="2201"):
        read_place_reply(catalog.GET_ORDER_LIST, message_class("Trd_PlaceOrder.Response")())


def test_the_statuses_are_those_of_the_installed_protocol() -> None:
    values = module("Trd_Common").DESCRIPTOR.enum_types_by_name["OrderStatus"].values_by_number
    assert {int(status) for status in OrderStatus} == set(values)
    assert {values[status].name for status in FAILED_STATUSES} == {"OrderStatus_SubmitFailed", "OrderStatus_Failed"}


def test_a_combo_is_read_with_its_legs() -> None:
    push = order_push(trdSide=0, secMarket=None, code="", trdMarket=2, price=-1.5)
    for code, side, ratio in (("AAPL", 1, 100.0), ("AAPL261218C200000", 2, 1.0)):
        leg = push.s2c.order.comboLegs.add(side=side, qtyRatio=ratio)
        leg.security.market, leg.security.code = 11, code
    subject = read_push(catalog.UPDATE_ORDER, push)
    assert [(leg.security.symbol, leg.side, leg.qty_ratio) for leg in subject.legs] == [
        ("US.AAPL", Side.BUY, Decimal(100)),
        ("US.AAPL261218C200000", Side.SELL, Decimal(1)),
    ]
    assert (subject.security, subject.side, subject.price) == (None, None, Decimal("-1.5"))


@pytest.mark.parametrize("wrong", [{"side": 9}, {"qtyRatio": float("nan")}, {"market": 999}])
def test_a_combo_with_a_leg_that_is_not_understood_has_none(wrong: dict[str, Any]) -> None:
    push = order_push(trdMarket=2)
    leg = push.s2c.order.comboLegs.add(side=wrong.get("side", 1), qtyRatio=wrong.get("qtyRatio", 1.0))
    leg.security.market, leg.security.code = wrong.get("market", 11), "AAPL"
    assert read_push(catalog.UPDATE_ORDER, push).legs == ()


def test_when_it_was_created_is_told_where_opend_says_it() -> None:
    assert read_push(catalog.UPDATE_ORDER, order_push()).created is None
    assert read_push(catalog.UPDATE_ORDER, order_push(createTimestamp=1_790_000_000.25)).created == 1_790_000_000.25


def test_an_order_that_ended_is_not_one_that_only_rests() -> None:
    assert FAILED_STATUSES < ENDED_STATUSES
    assert ENDED_STATUSES.isdisjoint(
        {OrderStatus.DISABLED, OrderStatus.TIME_OUT, OrderStatus.CANCELLING_ALL, OrderStatus.FILLED_PART}
    )
