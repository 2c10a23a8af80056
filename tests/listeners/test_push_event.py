"""The labels of pushes: type, security, subscription, account."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.listeners.push_event import PushInfo, describe
from sidecar.wire.catalog import CATALOG, PUSH_IDS
from sidecar.wire.messages import message_class, module


def described(proto_id: int, fill: Any) -> PushInfo:
    row = CATALOG[proto_id]
    assert row.response is not None
    push: Any = message_class(row.response)()
    push.retType = 0
    push.s2c.SetInParent()
    fill(push.s2c)
    return describe(row, push.SerializePartialToString())


def security(part: Any, market: int, code: str) -> None:
    part.market, part.code = market, code


def test_a_basic_quote_is_labelled_with_its_security_and_subscription() -> None:
    info = described(3005, lambda s2c: security(s2c.basicQotList.add().security, 1, "00700"))
    assert info == PushInfo("quote", sec_key="HK.00700", sub_type=1)


def test_a_push_of_several_securities_names_none_of_them() -> None:
    def two(s2c: Any) -> None:
        security(s2c.basicQotList.add().security, 1, "00700")
        security(s2c.basicQotList.add().security, 11, "AAPL")

    assert described(3005, two) == PushInfo("quote", sec_key=None, sub_type=1)


def test_a_push_that_says_one_security_twice_names_it() -> None:
    def twice(s2c: Any) -> None:
        for _ in range(2):
            security(s2c.basicQotList.add().security, 21, "600519")

    assert described(3005, twice).sec_key == "SH.600519"


@pytest.mark.parametrize(
    ("proto_id", "sub_type"), [(3009, "RT"), (3011, "Ticker"), (3013, "OrderBook"), (3015, "Broker")]
)
def test_every_kind_of_quote_names_its_subscription(proto_id: int, sub_type: str) -> None:
    info = described(proto_id, lambda s2c: security(s2c.security, 11, "AAPL"))
    assert info == PushInfo("quote", "US.AAPL", module("Qot_Common").SubType.Value(f"SubType_{sub_type}"))


def test_an_odd_lot_book_is_told_from_the_normal_one() -> None:
    def odd(s2c: Any) -> None:
        security(s2c.security, 1, "00700")
        s2c.orderBookType = module("Qot_Common").OrderBookType_Odd

    assert described(3013, odd).sub_type == 22


def test_every_kind_of_candle_names_its_subscription() -> None:
    common = module("Qot_Common")
    for name, number in common.KLType.items():
        if not number:
            continue

        def candle(s2c: Any, number: int = number) -> None:
            security(s2c.security, 1, "00700")
            s2c.klType, s2c.rehabType = number, 1

        info = described(3007, candle)
        spelt = name.replace("KLType_", "SubType_KL_").replace("Quarter", "Qurater")
        assert info == PushInfo("quote", "HK.00700", common.SubType.Value(spelt), rehab_type=1), name


def test_an_order_push_names_account_market_and_security() -> None:
    def order(s2c: Any) -> None:
        s2c.header.trdEnv, s2c.header.accID, s2c.header.trdMarket = 0, 1001001, 1
        s2c.order.secMarket, s2c.order.code = 1, "00700"

    assert described(2208, order) == PushInfo("trade", "HK.00700", acc_id=1001001, trd_market=1)


def test_a_fill_push_names_account_market_and_security() -> None:
    def fill(s2c: Any) -> None:
        s2c.header.trdEnv, s2c.header.accID, s2c.header.trdMarket = 1, 281756455000000001, 2
        s2c.orderFill.secMarket, s2c.orderFill.code = 2, "AAPL"

    assert described(2218, fill) == PushInfo("trade", "US.AAPL", acc_id=281756455000000001, trd_market=2)


def test_a_trade_notice_names_its_account() -> None:
    def notice(s2c: Any) -> None:
        s2c.header.trdEnv, s2c.header.accID, s2c.header.trdMarket = 0, 1001001, 1

    assert described(2207, notice) == PushInfo("trade", acc_id=1001001, trd_market=1)


def test_a_notification_of_opend_is_only_that() -> None:
    assert described(1003, lambda s2c: None) == PushInfo("notify")


def test_every_push_of_the_catalog_has_a_type_even_when_it_is_empty() -> None:
    wanted = {1: "notify", 2: "trade", 3: "quote"}
    for proto_id in PUSH_IDS:
        if proto_id >= 1000:
            assert describe(CATALOG[proto_id], b"").type == wanted[proto_id // 1000]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PUSH_IDS)), st.binary(max_size=80))
def test_no_push_can_make_it_raise(proto_id: int, body: bytes) -> None:
    assert describe(CATALOG[proto_id], body).type in ("quote", "trade", "notify")
