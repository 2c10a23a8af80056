"""Reading 2202: exactly what the client wrote, or a refusal that names the field."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from order_requests import place

from sidecar.errors import BodyError
from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Security, Side, Trail, TrdEnv
from sidecar.intents.read import read, remark_of, set_tag
from sidecar.wire import body
from sidecar.wire.catalog import PLACE_ORDER

NAN, INFINITE = float("nan"), float("inf")
DECISION_ID = "01JCZ4M1N8T0W2Q3R5S7V9X1YZ"


def order(**changes: Any) -> PlaceOrder:
    intent = read(PLACE_ORDER, place(**changes))
    assert isinstance(intent, PlaceOrder)
    return intent


def refusal(**changes: Any) -> str:
    with pytest.raises(BodyError) as caught:
        read(PLACE_ORDER, place(**changes))
    assert caught.value.code == "malformed_request"
    return str(caught.value)


def test_an_order_of_the_official_sdk_is_read_exactly() -> None:
    assert order() == PlaceOrder(
        account=AccountRef(1001, TrdEnv.SIMULATE),
        security=Security("HK", "HK.00700", 1, "00700", 1),
        side=Side.BUY,
        order_type=OrderType.NORMAL,
        qty=Decimal("100.0"),
        price=Decimal("350.2"),
    )


def test_a_price_is_the_decimal_the_client_wrote_not_its_binary_fraction() -> None:
    assert order(price=0.1).price == Decimal("0.1")
    assert order(price=1e-9).price == Decimal("0.000000001")


@pytest.mark.parametrize(
    ("trd_market", "sec_market", "code", "market", "symbol", "qot_market"),
    [
        (1, 1, "00700", "HK", "HK.00700", 1),
        (2, 2, "AAPL", "US", "US.AAPL", 11),
        (2, 2, "BRK.B", "US", "US.BRK.B", 11),
        (2, 2, "AAPL260116C150000", "US", "US.AAPL260116C150000", 11),
        (3, 31, "600519", "CN", "SH.600519", 21),
        (3, 32, "000001", "CN", "SZ.000001", 22),
        (4, 31, "600519", "CN", "SH.600519", 21),
        (5, 1, "HSImain", "HK", "HK.HSImain", 1),
        (5, 2, "ES2612", "US", "US.ES2612", 11),
        (6, 41, "D05", "SG", "SG.D05", 31),
        (7, 101, "BTCUSD", "CC", "CC.BTCUSD", 91),
        (8, 61, "BHP", "AU", "AU.BHP", 51),
        (10, 1, "MHI2612", "HK", "HK.MHI2612", 1),
        (15, 51, "7203", "JP", "JP.7203", 41),
        (15, 51, "130A", "JP", "JP.130A", 41),
        (17, 111, "KXHIGH-26NOV20-T65", "EC", "EC.KXHIGH-26NOV20-T65", 101),
        (111, 71, "1155", "MY", "MY.1155", 61),
        (112, 81, "RY", "CA", "CA.RY", 71),
    ],
)
def test_every_market_is_read_in_the_words_of_keys_json(
    trd_market: int, sec_market: int, code: str, market: str, symbol: str, qot_market: int
) -> None:
    security = order(header_trdMarket=trd_market, secMarket=sec_market, code=code).security
    assert security == Security(market, symbol, qot_market, code)
    assert security.trd_market == trd_market


def test_the_words_for_markets_are_those_keys_json_accepts() -> None:
    from sidecar.intents import markets
    from sidecar.keys.fields import MARKETS

    assert {market.word for market in markets._MARKETS.values()} <= set(MARKETS)


@pytest.mark.parametrize("absent", [None, 0])
def test_a_missing_sec_market_is_derived_and_set_in_what_is_forwarded(absent: int | None) -> None:
    request = place(secMarket=absent)
    intent = read(PLACE_ORDER, request)
    assert isinstance(intent, PlaceOrder)
    assert intent.security.symbol == "HK.00700"
    assert request.c2s.secMarket == 1
    again = body.parse("Trd_PlaceOrder.Request", 0, body.serialise(request, 0), strict=True)
    assert read(PLACE_ORDER, again) == intent


def test_a_given_sec_market_leaves_the_message_as_it_was() -> None:
    request = place()
    before = request.SerializeToString(deterministic=True)
    read(PLACE_ORDER, request)
    assert request.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("trd_market", [3, 4, 5])
def test_a_missing_sec_market_that_could_be_several_is_refused_and_names_them(trd_market: int) -> None:
    message = refusal(header_trdMarket=trd_market, secMarket=None, code="600519")
    assert "secMarket is missing" in message
    assert f"`{trd_market}`" in message


def test_a_sec_market_of_another_trd_market_is_refused() -> None:
    assert "secMarket `2` does not belong to trdMarket `1`" in refusal(secMarket=2)


@pytest.mark.parametrize("trd_market", [0, 9, 99, 113, 123, -1])
def test_a_trd_market_in_which_nothing_is_traded_is_refused(trd_market: int) -> None:
    assert f"`{trd_market}`" in refusal(header_trdMarket=trd_market)


@pytest.mark.parametrize(
    ("trd_market", "sec_market", "code", "hint"),
    [
        (1, 1, "700", "write `00700`"),
        (1, 1, "000700", "like `00700`"),
        (1, 1, "HK.00700", "write `00700`"),
        (1, 1, "hsi2612", "write `HSI2612`"),
        (2, 2, "aapl", "write `AAPL`"),
        (2, 2, "US.AAPL", "write `AAPL`"),
        (2, 2, "HK.00700", "write `00700`"),
        (2, 2, " AAPL", "write `AAPL`"),
        (2, 2, "AAPL\n", "write `AAPL`"),
        (2, 2, "AA PL", "like `AAPL`"),
        (2, 2, "AAPL\x00", "like `AAPL`"),
        (2, 2, "ＡＡＰＬ", "like `AAPL`"),
        (2, 2, "*", "like `AAPL`"),
        (2, 2, "A" * 200, "like `AAPL`"),
        (3, 31, "60051", "like `600519`"),
        (3, 31, "６００５１９", "like `600519`"),
        (1, 1, "", "empty"),
    ],
)
def test_a_code_in_another_spelling_is_refused_with_the_right_one(
    trd_market: int, sec_market: int, code: str, hint: str
) -> None:
    assert hint in refusal(header_trdMarket=trd_market, secMarket=sec_market, code=code)


@pytest.mark.parametrize("qty", [0.0, -1.0, -0.0, NAN, INFINITE, -INFINITE, 1e13, 1e-13, 5e-324])
def test_a_quantity_that_is_none_is_refused(qty: float) -> None:
    message = refusal(qty=qty)
    assert message.startswith("qty `")
    assert repr(qty) in message


@pytest.mark.parametrize("price", [0.0, -350.2, NAN, INFINITE, -INFINITE, 1e13, 1e-13])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    assert refusal(price=price).startswith("price `")


def test_a_limit_order_without_a_price_is_refused() -> None:
    assert refusal(price=None) == "price is missing, which orderType `1` needs"


@pytest.mark.parametrize("order_type", [2, 6, 10, 12, 14, 15, 16, 18])
def test_a_price_that_opend_ignores_is_not_the_price_of_the_order(order_type: int) -> None:
    assert order(orderType=order_type, price=350.2).price is None
    assert order(orderType=order_type, price=0.0).price is None
    assert order(orderType=order_type, price=None).price is None


@pytest.mark.parametrize("price", [NAN, INFINITE, 1e13])
def test_even_an_ignored_price_must_be_a_number(price: float) -> None:
    assert refusal(orderType=2, price=price).startswith("price `")


@pytest.mark.parametrize("order_type", [1, 5, 7, 8, 9, 11, 13, 17, 19])
def test_every_priced_type_keeps_its_price(order_type: int) -> None:
    assert order(orderType=order_type).price == Decimal("350.2")


@pytest.mark.parametrize("price", [-37.63, 0.0])
def test_a_future_may_cost_nothing_or_less(price: float) -> None:
    read_order = order(header_trdMarket=5, secMarket=2, code="CL2612", price=price)
    assert read_order.price == Decimal(repr(price))


@pytest.mark.parametrize("field", ["auxPrice", "trailValue", "trailSpread", "adjustSideAndLimit"])
@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, 1e13])
def test_no_number_of_an_order_may_be_none(field: str, value: float) -> None:
    assert refusal(**{field: value}).startswith(f"{field} `")


@pytest.mark.parametrize("order_type", [10, 11, 12, 13])
def test_a_trigger_at_or_below_zero_is_refused(order_type: int) -> None:
    assert "auxPrice" in refusal(orderType=order_type, auxPrice=0.0)


def test_a_trigger_is_read() -> None:
    assert order(orderType=11, auxPrice=340.5).aux_price == Decimal("340.5")


def test_how_an_order_trails_the_market_is_read() -> None:
    per_cent = order(orderType=14, trailType=1, trailValue=2.5)
    assert per_cent.trail == Trail(Decimal("2.5"), ratio=True)
    amount = order(orderType=15, trailType=2, trailValue=12.0, trailSpread=0.1)
    assert amount.trail == Trail(Decimal(12), ratio=False, spread=Decimal("0.1"))


@pytest.mark.parametrize("half", [{}, {"trailType": 1}, {"trailValue": 5.0}, {"trailType": 0, "trailValue": 5.0}])
def test_a_trail_that_is_said_by_half_is_none(half: dict[str, Any]) -> None:
    assert order(orderType=14, **half).trail is None


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.0, None), (0.01, Decimal("0.01")), (-0.01, Decimal("-0.01")), (0.999, Decimal("0.999"))]
)
def test_the_price_opend_may_move_to_is_read(limit: float, expected: Decimal | None) -> None:
    assert order(adjustPrice=True, adjustSideAndLimit=limit).adjust_limit == expected


def test_a_price_adjustment_counts_even_where_it_is_not_switched_on() -> None:
    assert order(adjustPrice=False, adjustSideAndLimit=0.5).adjust_limit == Decimal("0.5")


@pytest.mark.parametrize("limit", [1.0, -1.0, 5.0])
def test_a_price_adjustment_of_everything_is_refused(limit: float) -> None:
    assert "adjustSideAndLimit" in refusal(adjustPrice=True, adjustSideAndLimit=limit)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trdSide", 0),
        ("trdSide", 5),
        ("trdSide", -1),
        ("orderType", 0),
        ("orderType", 3),
        ("orderType", 20),
        ("header_trdEnv", 2),
        ("header_trdEnv", -1),
        ("timeInForce", 4),
        ("session", 5),
        ("trailType", 3),
        ("predSide", 3),
        ("header_jpAccType", 17),
        ("secMarket", 91),
        ("secMarket", 3),
    ],
)
def test_a_value_that_does_not_exist_is_refused_by_name(field: str, value: int) -> None:
    message = refusal(**{field: value})
    assert field.removeprefix("header_") in message
    assert f"`{value}`" in message


def test_an_amount_is_for_event_contracts_only() -> None:
    assert "amount" in refusal(amount=1000.0)
    event = {"header_trdMarket": 17, "secMarket": 111, "code": "KXHIGH-26NOV20-T65"}
    assert order(amount=20.0, **event).amount == Decimal("20.0")
    assert "amount" in refusal(amount=-20.0, **event)


@pytest.mark.parametrize("remark", ["x" * 64, "雪" * 21, "plan B, 🚀"])
def test_a_remark_of_64_bytes_is_kept(remark: str) -> None:
    request = place(remark=remark)
    intent = read(PLACE_ORDER, request)
    assert isinstance(intent, PlaceOrder)
    assert intent.remark == remark_of(request) == remark


@pytest.mark.parametrize("remark", ["x" * 65, "雪" * 22])
def test_a_longer_remark_is_refused_and_says_by_how_much(remark: str) -> None:
    assert refusal(remark=remark) == f"remark is {len(remark.encode())} bytes long, the limit is 64"


@pytest.mark.parametrize("remark", ["a\nb", "\x1b[31m", "a\x00"])
def test_a_remark_with_control_characters_is_refused_without_repeating_them(remark: str) -> None:
    assert refusal(remark=remark).isprintable()


def test_a_remark_in_the_form_of_our_own_tag_is_refused() -> None:
    assert "tags" in refusal(remark=f"#{DECISION_ID}")
    assert order(remark="#1").remark == "#1"


def test_an_order_without_a_remark_is_tagged_and_one_with_its_own_is_not() -> None:
    request = place()
    assert set_tag(request, DECISION_ID) == f"#{DECISION_ID}" == remark_of(request)
    own = place(remark="mine")
    assert set_tag(own, DECISION_ID) == "mine" == remark_of(own)


@pytest.mark.parametrize(("field", "number"), [("code", 5), ("remark", 11), ("expireTime", 20)])
def test_text_that_is_not_utf8_is_refused(field: str, number: int) -> None:
    request = place(**{field: None})
    request.c2s.MergeFromString(
        bytes([number << 3 & 0x7F | 2] if number < 16 else [number << 3 & 0x7F | 0x82, 1]) + b"\x02\xff\xfe"
    )
    with pytest.raises(BodyError) as caught:
        read(PLACE_ORDER, request)
    assert "UTF-8" in str(caught.value)


def test_extended_hours_flags_are_read() -> None:
    read_order = order(fillOutsideRTH=True, session=3, timeInForce=1)
    assert (read_order.outside_rth, read_order.session, read_order.time_in_force) == (True, 3, 1)


def test_two_routes_to_one_security_are_one_security() -> None:
    by_connect = order(header_trdMarket=4, secMarket=31, code="600519").security
    by_mainland = order(header_trdMarket=3, secMarket=31, code="600519").security
    assert by_connect == by_mainland
    assert hash(by_connect) == hash(by_mainland)
    assert replace(by_connect, trd_market=0) == by_connect
